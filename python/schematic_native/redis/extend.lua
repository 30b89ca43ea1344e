-- Reconciles a lease with the service's total for it.
-- ARGV: granted total, end (ms, '' to leave it), lease id ('' for whichever is there). Returns 1 if the lease was there.
local key, pin = KEYS[1], ARGV[3]
local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', 'expiresAt')
if not row[1] or (pin ~= '' and row[1] ~= pin) or not terms(row[2], row[3]) then
  return 0
end
reconcile(key, tonumber(ARGV[1]), tonumber(ARGV[2]))
return 1
