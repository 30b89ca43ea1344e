-- Takes credits out of a slot's live lease; down to exactly none is allowed.
-- Returns now (ms), the lease's id and lines of balance after, granted, end, now (seconds, microseconds) and lease id; or nothing
-- and 2 if it is short, 0 without a live lease.
local function debit(key, credits, company, credit)
  local time = redis.call('TIME')
  local at = time[1] * 1000 + math.floor(time[2] / 1000)
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
  local left = write(key, balance, carry, row[7])
  local lines = left .. '\n' .. row[2] .. '\n' .. row[3] .. '\n' .. time[1] .. '\n' .. time[2] .. '\n' .. row[1]
  return at, row[1], lines
end
