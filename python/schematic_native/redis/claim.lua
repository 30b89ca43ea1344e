-- Ends a hold, once: whoever gets the row back is the only one.
-- Returns its fields and values, or {}.
local row = redis.call('HGETALL', KEYS[1])
if #row > 0 then
  redis.call('DEL', KEYS[1])
end
return row
