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
