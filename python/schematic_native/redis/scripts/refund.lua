-- Gives credits back, never above the grant, and with a pin only to the lease it names.
-- ARGV: credits, lease id ('' for whichever is there), credits used of them. Returns 1 if the lease was there.
return give_back(KEYS[1], ARGV[2], tonumber(ARGV[1]), tonumber(ARGV[3])) and 1 or 0
