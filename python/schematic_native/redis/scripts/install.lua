-- Puts a lease into an empty slot, over an expired lease with another id, or over a row that cannot be read.
-- ARGV: lease id, company id, credit type id, granted, end (ms), balance, id of a lease that has ended for the service and is
-- replaced even if it is live here ('' if none is known to have).
-- Returns {1 if written, id of the lease there}.
local key, id, ends = KEYS[1], ARGV[1], tonumber(ARGV[5])
local balance = ARGV[6]
local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', 'expiresAt')
local granted, before = terms(row[2], row[3])
if row[1] and granted and before > now() and row[1] ~= ARGV[7] then
  return { 0, row[1] }
end
if row[1] == id then
  if granted then
    -- Writing it anew would forget what open holds have taken.
    reconcile(key, granted, before, tonumber(ARGV[4]), ends)
    return { 0, id }
  end
  -- Nobody knows what was spent of it, so nothing of it is spent again.
  balance = '0'
end
redis.call('DEL', key)
redis.call('HSET', key, 'leaseId', id, 'companyId', ARGV[2], 'creditTypeId', ARGV[3],
  'grantedAmount', ARGV[4], BALANCE, balance, 'expiresAt', ARGV[5])
redis.call('PEXPIREAT', key, string.format('%.0f', ends + GRACE))
return { 1, id }
