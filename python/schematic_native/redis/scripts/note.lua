-- Takes what was used of a slab off its row, so that no sweep refunds it. Doing it twice does no harm.
-- ARGV: credits that the slab's own process has used of it, which only grow; then, in pairs, the id of a hold that another
-- process may have settled and the credits to note for it, '' to ask only. The first note of a hold stands.
-- Returns {credits left, number of holds noted for the first time, credits noted for each or ''}, or {} if the row is gone.
local key = KEYS[1]
local row = redis.call('HMGET', key, 'creditsReserved', 'usedHere')
local held = decimal(row[1])
if not held then
  return {}
end

-- Rounds down what was rounded up: a sweep must never refund too much.
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
