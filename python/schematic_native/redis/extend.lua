-- Reconciles a lease with the service's total for it.
-- ARGV: granted total, end (ms, '' to leave it), lease id ('' for whichever is there). Returns 1 if the lease was there.
local key, pin = KEYS[1], ARGV[3]
local id = redis.call('HGET', key, 'leaseId')
if not id or (pin ~= '' and id ~= pin) then
  return 0
end
reconcile(key, tonumber(ARGV[1]), tonumber(ARGV[2]))
return 1
