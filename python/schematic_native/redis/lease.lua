-- Reads a lease. Returns {id, granted, balance, end, 1 if it is live by the server's clock}, or {}.
-- ARGV: company id, credit type id.
local key = KEYS[1]
local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', BALANCE, 'expiresAt')
if not row[1] or not is_of(key, ARGV[1], ARGV[2]) then
  return {}
end
return { row[1], row[2], row[3], row[4], tonumber(row[4]) > now() and 1 or 0 }
