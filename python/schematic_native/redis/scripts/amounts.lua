-- Amounts of credits, exact to the last bit that a double can carry.
--
-- A sum of doubles is rounded. What rounding has cut off a lease's balance is kept beside it, in a
-- field that exists only while it is not zero. Other SDKs do not know the field and write the balance
-- alone: so a carry that is too large to be a rounding error of the balance is ignored.

local BALANCE, CARRY = 'localRemainingCredits', 'localRemainingCarry'

-- A finite decimal number, or nil. tonumber alone would read "0x10" as 16, and "inf" or "nan" as numbers.
local function decimal(text)
  if not text then return nil end
  -- Whole numbers, which nearly all are, in a third of the time. Infinity less itself is no number.
  if string.find(text, '^%d+$') then
    local value = text + 0
    return value - value == 0 and value or nil
  end
  if not string.find(text, '^%-?%d+%.?%d*[eE]?[+-]?%d*$') then return nil end
  local value = tonumber(text)
  if value and math.abs(value) < math.huge then return value end
end

-- The shortest decimal that reads back equal.
local function text(amount)
  if amount % 1 == 0 and amount < 2 ^ 53 and amount > -2 ^ 53 then
    -- %d is cheaper, but takes a C long, which may have 32 bits.
    return string.format(amount >= 0 and amount < 2 ^ 31 and '%d' or '%.0f', amount)
  end
  local short = string.format('%.15g', amount)
  if tonumber(short) ~= amount then short = string.format('%.16g', amount) end
  if tonumber(short) ~= amount then short = string.format('%.17g', amount) end
  return short
end

-- The rounded sum, and what was cut off.
local function sum(a, b)
  local rounded = a + b
  local part = rounded - a
  return rounded, (a - (rounded - part)) + (b - part)
end

local function balance_of(balance, carry)
  balance, carry = decimal(balance) or 0, carry and decimal(carry) or 0
  if balance + carry ~= balance then carry = 0 end
  return balance, carry
end

-- Balance and carry after an amount was added.
local function add(balance, carry, amount)
  local rounded, rest = sum(balance, amount)
  return sum(rounded, rest + carry)
end

-- Writes what a lease has left, and returns the balance as it is written; `before` is the carry that its row has.
local function write(key, balance, carry, before)
  local left = text(balance)
  if carry ~= 0 then
    redis.call('HSET', key, BALANCE, left, CARRY, text(carry))
    return left
  end
  redis.call('HSET', key, BALANCE, left)
  if before then redis.call('HDEL', key, CARRY) end
  return left
end
