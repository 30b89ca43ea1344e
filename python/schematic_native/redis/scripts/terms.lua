-- A lease's grant and its end (ms), or nothing where its row cannot be read: such a row is no live lease.
local function terms(grant, ends)
  grant, ends = decimal(grant), decimal(ends)
  if grant and grant >= 0 and ends then return grant, ends end
end
