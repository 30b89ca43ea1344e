-- Takes credits out of the slot's live lease.
-- ARGV: credits, company id, credit type id. Returns the lines of debit.lua, or 2 if it is
-- short, 0 without a live lease. One text is read faster than a list.
local at, refused, lines = debit(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3])
return at and lines or refused
