-- Amounts of credits, exact to the last bit that a double can carry.
--
-- A sum of doubles is rounded. What rounding has cut off a lease's balance is kept beside it, in a
-- field that exists only while it is not zero. Other SDKs do not know the field and write the balance
-- alone: so a carry that is too large to be a rounding error of the balance is ignored.

local BALANCE, CARRY = 'localRemainingCredits', 'localRemainingCarry'

-- A finite decimal number, or nil. tonumber alone would read "0x10" as 16, and "inf" or "nan" as numbers.
local function decimal(text)
  if not text or not string.match(text, '^%-?%d+%.?%d*[eE]?[+-]?%d*$') then return nil end
  local value = tonumber(text)
  if value and math.abs(value) < math.huge then return value end
end

-- The shortest decimal that reads back equal.
local function text(amount)
  if amount == math.floor(amount) and math.abs(amount) < 2 ^ 53 then
    return string.format('%.0f', amount)
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

-- Writes what a lease has left; `before` is the carry that its row has.
local function write(key, balance, carry, before)
  if carry ~= 0 then
    redis.call('HSET', key, BALANCE, text(balance), CARRY, text(carry))
    return
  end
  redis.call('HSET', key, BALANCE, text(balance))
  if before then redis.call('HDEL', key, CARRY) end
end

-- Milliseconds, by the clock of the server.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A lease's grant and its end (ms), or nothing where its row cannot be read: such a row is no live lease.
local function terms(grant, ends)
  grant, ends = decimal(grant), decimal(ends)
  if grant and grant >= 0 and ends then return grant, ends end
end

-- Takes credits out of a slot's live lease; down to exactly none is allowed.
-- Returns the balance after it, granted, end, now and the lease's id, or nothing and 2 if it is short, 0 without a live lease.
local function debit(key, credits, company, credit)
  local at = now()
  local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', 'expiresAt', 'companyId', 'creditTypeId', BALANCE, CARRY)
  local granted, ends = terms(row[2], row[3])
  -- Ids with a colon can make two slots share a key.
  if not row[1] or not granted or ends <= at or row[4] ~= company or row[5] ~= credit then
    return nil, 0
  end
  local balance, carry = balance_of(row[6], row[7])
  if balance < credits or (balance == credits and carry < 0) then
    return nil, 2
  end
  balance, carry = add(balance, carry, -credits)
  write(key, balance, carry, row[7])
  return { text(balance), row[2], row[3], string.format('%.0f', at), row[1] }
end

-- Gives credits back, never above the grant, and with a pin only to the lease it names; returns whether that was there.
-- The two amounts are added one by one: their difference may not be a double, and rounding it up would mint credits.
local function give_back(key, pin, credits, used)
  local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', 'expiresAt', BALANCE, CARRY)
  local granted = terms(row[2], row[3])
  if not row[1] or not granted or (pin ~= '' and row[1] ~= pin) then
    return false
  end
  local balance, carry = balance_of(row[4], row[5])
  balance, carry = add(balance, carry, credits)
  balance, carry = add(balance, carry, -used)
  if balance > granted or (balance == granted and carry > 0) then
    balance, carry = granted, 0
  end
  write(key, balance, carry, row[5])
  return true
end

-- A lease outlives its end by this, so that late refunds still find it.
local GRACE = 60000

-- Raises a lease's grant to the total and moves its end forward, never back, from the terms that were read.
local function reconcile(key, granted, before, total, ends)
  if total > granted then
    local row = redis.call('HMGET', key, BALANCE, CARRY)
    local balance, carry = balance_of(row[1], row[2])
    local gain, cut = sum(total, -granted)
    balance, carry = add(balance, carry, gain)
    balance, carry = sum(balance, carry + cut)
    write(key, balance, carry, row[2])
    redis.call('HSET', key, 'grantedAmount', text(total))
  end
  if ends and ends > before then
    redis.call('HSET', key, 'expiresAt', string.format('%.0f', ends))
    redis.call('PEXPIREAT', key, string.format('%.0f', ends + GRACE))
  end
end
