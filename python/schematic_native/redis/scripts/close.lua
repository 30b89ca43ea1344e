-- Ends a slab, once: whoever gets the row back is the only one. Returns its fields and values, or {}.
local row = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
return row
