-- Takes credits out of the slot's live lease; down to exactly none is allowed.
-- ARGV: credits, company id, credit type id. Returns JSON [balance after, lease id, granted, end, now], 2 if it is short, 0 without a live lease.
-- One text is read faster than a list.
local key, credits, at = KEYS[1], tonumber(ARGV[1]), now()
local row = redis.call('HMGET', key, 'leaseId', 'grantedAmount', 'expiresAt')
local granted, ends = terms(row[2], row[3])
if not row[1] or not granted or ends <= at or not is_of(key, ARGV[2], ARGV[3]) then
  return 0
end
local balance, carry = balance_of(key)
if balance < credits or (balance == credits and carry < 0) then
  return 2
end
balance, carry = add(balance, carry, -credits)
write(key, balance, carry)
return cjson.encode({ text(balance), row[1], row[2], row[3], string.format('%.0f', at) })
