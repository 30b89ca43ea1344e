-- Writes keys for a moment: whether each is found where it belongs tells whether scripts may have several keys.
local time = redis.call('TIME')
for _, key in ipairs(KEYS) do
  redis.call('HSET', key, 'id', key)
  redis.call('PEXPIREAT', key, string.format('%.0f', time[1] * 1000 + 2000))
end
return #KEYS
