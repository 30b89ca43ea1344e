-- Takes credits out of the slot's live lease.
-- ARGV: credits, company id, credit type id. Returns lines of balance after, granted, end, now and lease id, or 2 if it is
-- short, 0 without a live lease. One text is read faster than a list.
local taken, refused = debit(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3])
return taken and table.concat(taken, '\n') or refused
