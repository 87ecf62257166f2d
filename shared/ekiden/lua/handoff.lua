--!include core timers watch queue finish requeue
-- A worker gives jobs back without a death; when it leaves, all of them, and it is gone.
-- ARGV 2 worker · 3 '1' when it leaves · then jobs
-- Returns how many jobs were queued again
local worker, moved = ARGV[2], 0
if ARGV[3] == '1' then
  moved = remove_worker(worker, false)
else
  moved = give_back(worker, { unpack(ARGV, 4) }, false)
end
flush()
return moved
