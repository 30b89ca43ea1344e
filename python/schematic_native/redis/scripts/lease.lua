-- Reads a lease. Returns {id, granted, balance, end, 1 if it is live by the server's clock, -1 if it cannot be read}, or {}.
-- ARGV: company id, credit type id.
local key = KEYS[1]
local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', BALANCE, 'expiresAt', 'companyId', 'creditTypeId')
-- Ids with a colon can make two slots share a key.
if not row[1] or row[5] ~= ARGV[1] or row[6] ~= ARGV[2] then
  return {}
end
local granted, ends = terms(row[2], row[4])
local live = not granted and -1 or ends > now() and 1 or 0
return { row[1], row[2], row[3], row[4], live }
