-- Records a hold, unless its id is taken. Which fields its row has is in reservation_row.py.
-- ARGV: when the row may be forgotten (ms), then fields and values. Returns 1 if it was recorded.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIREAT', KEYS[1], ARGV[1])
return 1
