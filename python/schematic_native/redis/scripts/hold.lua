-- Takes credits out of the slot's live lease and records the hold of them, unless its id is taken.
-- KEYS: lease, hold, holds by expiry, the slot's holds. ARGV: the hold's member of the holds by expiry, milliseconds until it
-- lapses, then the values of its row's fields: id, company id, credit type id, credits, and others. The HSET writes all that
-- reservation_row.py lists.
-- Returns what reserve.lua does, or 1 if the id is taken.
local id, company, credit, credits = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 1
end
local at, lease, lines = debit(KEYS[1], tonumber(credits), company, credit)
if not at then
  return lease
end
local lapses = at + ARGV[2]
local ends = string.format('%.0f', lapses)
redis.call('HSET', KEYS[2], 'leaseId', lease, 'expiresAt', ends, $FIELDS)
redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', lapses + $GRACE))
redis.call('ZADD', KEYS[3], 'NX', ends, ARGV[1])
redis.call('HSETNX', KEYS[4], id, credits)
return lines
