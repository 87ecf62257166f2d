--!include core audit
-- Have a worker that allows it kill its own process, for a drill.
-- ARGV 2 worker · 3 operator · 4 its key
-- Returns {host:pid, now (ms), per job it owns: job, tokens logged}; 'refused', or nil when there is no such worker
local worker = ARGV[2]
if not redis.call('ZSCORE', P .. 'workers', worker) then return false end
local host, pid, allowed = unpack(redis.call('HMGET', key('worker', worker), 'host', 'pid', 'chaos_drills'))
if allowed ~= '1' then return 'refused' end
local report = { host .. ':' .. pid, now }
for _, id in ipairs(redis.call('SMEMBERS', key('worker', worker .. ':jobs'))) do
  report[#report + 1], report[#report + 2] = id, number(redis.call('HGET', key('job', id), 'n') or nil)
end
audit(ARGV[3], ARGV[4], 'kill', worker, report[1], 'done')
redis.call('PUBLISH', key('live', worker), 'die')
return report
