-- Takes credits out of the slot's live lease and records the hold of them, unless its id is taken.
-- KEYS: lease, hold, holds by expiry, the slot's holds. ARGV: the hold's member of the holds by expiry, milliseconds until it
-- lapses and until its row may be forgotten, then the values of its row's fields: id, company id, credit type id, credits, and
-- others. The HSET writes all that reservation_row.py lists.
-- Returns what reserve.lua does, or 1 if the id is taken.
local id, company, credit, credits = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 1
end
local taken, refused = debit(KEYS[1], tonumber(credits), company, credit)
if not taken then
  return refused
end
local ends = string.format('%.0f', taken[4] + ARGV[2])
redis.call('HSET', KEYS[2], 'leaseId', taken[5], 'expiresAt', ends, $FIELDS)
redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', taken[4] + ARGV[3]))
redis.call('ZADD', KEYS[3], 'NX', ends, ARGV[1])
redis.call('HSETNX', KEYS[4], id, credits)
return table.concat(taken, '\n')
