--!include core index count timers watch queue conversation finish view
-- Watch a job and read it in one step, so that nothing falls between snapshot and live frames.
-- ARGV 2 replica · 3 user · 4 job · 5 cursor
-- Returns a view, or nil when this user has no such job
local job = load_job(ARGV[4])
if not job or job.user ~= ARGV[3] then return false end
if live(job) then
  watch(job, ARGV[2])
else
  -- As in poll.lua: the entry is still there where the job's end found the replica without a listener.
  redis.call('SREM', key('replica', ARGV[2] .. ':jobs'), job.id)
end
return view(job, tonumber(ARGV[5]))
