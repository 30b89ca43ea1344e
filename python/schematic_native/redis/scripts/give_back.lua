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
