--!include core index count timers watch queue conversation finish park requeue
-- A worker leaves and gives its jobs back, without a death.
-- ARGV 2 worker
-- Returns how many jobs were queued again
local moved = remove_worker(ARGV[2], false)
flush()
return moved
