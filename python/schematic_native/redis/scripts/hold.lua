-- Takes credits out of the slot's live lease and records the hold of them, unless its id is taken.
-- KEYS: lease, hold, holds by expiry, the slot's holds. ARGV: credits, company id, credit type id, the hold's id and its
-- member of the holds by expiry, milliseconds until it lapses and until its row may be forgotten, event, quantity, rate, context.
-- Returns what reserve.lua does, or 1 if the id is taken.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 1
end
local taken, refused = debit(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3])
if not taken then
  return refused
end
local ends = string.format('%.0f', taken[4] + ARGV[6])
redis.call('HSET', KEYS[2], 'id', ARGV[4], 'leaseId', taken[5], 'companyId', ARGV[2], 'creditTypeId', ARGV[3],
  'eventSubtype', ARGV[8], 'quantityReserved', ARGV[9], 'creditsReserved', ARGV[1], 'consumptionRate', ARGV[10],
  'expiresAt', ends, 'evalCtx', ARGV[11])
redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', taken[4] + ARGV[7]))
redis.call('ZADD', KEYS[3], 'NX', ends, ARGV[5])
redis.call('HSETNX', KEYS[4], ARGV[4], ARGV[1])
return table.concat(taken, '\n')
