-- Takes what was used of a slab off its row, so that no sweep gives it back. To tell it twice does no harm.
-- ARGV: credits that its own process has used of it, which only grow; then by twos the id of a hold that ended elsewhere
-- and the credits that it was settled with, '' to ask only. The first that is told of a hold stands.
-- Returns {credits left, holds told of for the first time, what stands for each or ''}, or {} if the row is gone.
local key = KEYS[1]
local row = redis.call('HMGET', key, 'creditsReserved', 'usedHere')
local held = decimal(row[1])
if not held then
  return {}
end

-- Whole ulps off what was rounded up: what a sweep gives back must not be a bit too much.
local function below(rounded, rest)
  return rest < 0 and rounded - math.abs(rounded) * 2 ^ -52 or rounded
end

local function take(credits)
  held = math.max(0, below(sum(held, -credits)))
end

local reply, first = { '', 0 }, 0
for i = 2, #ARGV, 2 do
  local field, credits = 'settled:' .. ARGV[i], ARGV[i + 1]
  if credits ~= '' and redis.call('HSETNX', key, field, credits) == 1 then
    first = first + 1
    take(tonumber(credits))
  end
  reply[#reply + 1] = redis.call('HGET', key, field) or ''
end
local before, used = decimal(row[2]) or 0, tonumber(ARGV[1])
if used > before then
  take(-below(sum(before, -used)))
  redis.call('HSET', key, 'usedHere', ARGV[1], 'creditsReserved', text(held))
elseif first > 0 then
  redis.call('HSET', key, 'creditsReserved', text(held))
end
reply[1], reply[2] = text(held), first
return reply
