-- Ends a slab, once: only one caller gets the row back. Returns its fields and values, or {}.
local row = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
return row
