-- Ends a hold, once: only one caller gets the row back.
-- Returns JSON [id, company id, credit type id, lease id, credits], or nothing. One text is read faster than a list.
local row = redis.call('HMGET', KEYS[1], 'id', 'companyId', 'creditTypeId', 'leaseId', 'creditsReserved')
if redis.call('DEL', KEYS[1]) == 0 then
  return false
end
return cjson.encode(row)
