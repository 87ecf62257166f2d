--!include core index count timers watch queue conversation finish park ask parking
-- Hold a job: at once when no worker runs it, otherwise at its worker's next token.
-- ARGV 2 user · 3 job
-- Returns the state found, or nil when this user has no such job
local job = load_job(ARGV[3])
if not job or job.user ~= ARGV[2] then return false end
local found = job.state
ask_park(job)
flush()
return found
