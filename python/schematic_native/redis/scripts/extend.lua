-- Reconciles a lease with the service's total for it.
-- ARGV: granted total, end (ms, '' to leave it), lease id ('' for whichever is there). Returns 1 if the lease was there.
local key, pin = KEYS[1], ARGV[3]
local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', 'expiresAt')
local granted, before = terms(row[2], row[3])
if not row[1] or not granted or (pin ~= '' and row[1] ~= pin) then
  return 0
end
reconcile(key, granted, before, tonumber(ARGV[1]), tonumber(ARGV[2]))
return 1
