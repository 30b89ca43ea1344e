-- Names holds that have lapsed by the server's clock, those that lapsed first: {its instant, names}.
-- ARGV: how many at most.
local at = now()
return { at, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', at), 'LIMIT', 0, ARGV[1]) }
