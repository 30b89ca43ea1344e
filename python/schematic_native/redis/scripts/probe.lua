-- Writes keys for a moment. If each is then found on its own server, scripts may use several keys.
local time = redis.call('TIME')
for _, key in ipairs(KEYS) do
  redis.call('HSET', key, 'id', key)
  redis.call('PEXPIREAT', key, string.format('%.0f', time[1] * 1000 + 2000))
end
return #KEYS
