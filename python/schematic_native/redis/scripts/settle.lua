-- Ends a hold, once, gives what was not used of it back to its lease and takes it out of the indexes.
-- KEYS: hold, lease, holds by expiry, the slot's holds. ARGV: credits used ('' for all), company id, credit type id, the hold's
-- id and its member of the holds by expiry.
-- Returns the credits that were held; or what claim.lua does if the row is of another slot or hold: then it is ended, and
-- nothing else done.
local row = redis.call('HMGET', KEYS[1], 'id', 'companyId', 'creditTypeId', 'leaseId', 'creditsReserved')
if redis.call('DEL', KEYS[1]) == 0 then
  return false
end
if row[1] ~= ARGV[4] or row[2] ~= ARGV[2] or row[3] ~= ARGV[3] then
  return cjson.encode(row)
end
local held, used = decimal(row[5]) or 0, decimal(ARGV[1])
if held < 0 then held = 0 end
if not used or used > held then used = held end
if used < 0 then used = 0 end
if row[4] and row[4] ~= '' and held > used then
  give_back(KEYS[2], row[4], held, used)
end
redis.call('HDEL', KEYS[4], ARGV[4])
redis.call('ZREM', KEYS[3], ARGV[5])
return held > 0 and row[5] or '0'
