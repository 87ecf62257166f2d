--!include core index count timers watch queue conversation finish park ask parking
-- Queue a parked job again, with its old age; one that is to be parked goes on.
-- ARGV 2 user · 3 job
-- Returns the state found, or nil when this user has no such job
local job = load_job(ARGV[3])
if not job or job.user ~= ARGV[2] then return false end
local found = job.state
ask_resume(job)
flush()
return found
