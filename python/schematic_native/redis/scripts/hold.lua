-- Takes credits out of the slot's live lease and records the hold of them, unless its id is taken.
-- KEYS: lease, hold, holds by expiry, the slot's holds. ARGV: credits, company id, credit type id, the hold's id and its
-- member of the holds by expiry, milliseconds until it lapses and until its row may be forgotten, then the fields and values
-- of its row, to which the lease and the end of this debit are added.
-- Returns what reserve.lua does, or 1 if the id is taken.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 1
end
local taken, refused = debit(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3])
if not taken then
  return refused
end
local ends = string.format('%.0f', taken[4] + ARGV[6])
redis.call('HSET', KEYS[2], 'leaseId', taken[5], 'expiresAt', ends, unpack(ARGV, 8))
redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', taken[4] + ARGV[7]))
redis.call('ZADD', KEYS[3], 'NX', ends, ARGV[5])
redis.call('HSETNX', KEYS[4], ARGV[4], ARGV[1])
return table.concat(taken, '\n')
