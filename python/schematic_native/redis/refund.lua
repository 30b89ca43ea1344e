-- Gives credits back, never above the grant, and with a pin only to the lease it names.
-- ARGV: credits, lease id ('' for whichever is there), credits used of them. Returns 1 if the lease was there.
-- The two amounts are added one by one: their difference may be no double, and rounded up it would be minted.
local key, pin = KEYS[1], ARGV[2]
local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', 'expiresAt')
local granted = terms(row[2], row[3])
if not row[1] or not granted or (pin ~= '' and row[1] ~= pin) then
  return 0
end
local balance, carry = balance_of(key)
balance, carry = add(balance, carry, tonumber(ARGV[1]))
balance, carry = add(balance, carry, -tonumber(ARGV[3]))
if balance > granted or (balance == granted and carry > 0) then
  balance, carry = granted, 0
end
write(key, balance, carry)
return 1
