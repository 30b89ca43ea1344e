-- Lowers an amount in a field that is there; it is never raised, so doing it twice does no harm.
-- ARGV: field, credits.
local amount = tonumber(redis.call('HGET', KEYS[1], ARGV[1]))
if not amount or amount <= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
