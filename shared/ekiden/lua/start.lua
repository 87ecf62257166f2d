--!include core timers watch
-- Keep a job's prompt ids, once, and tell its watchers that it started.
-- ARGV 2 worker · 3 job · 4 fence · 5 prompt ids · 6 their number · 7 dropped turns
-- Returns 1, or 0 when fenced
local job = load_job(ARGV[3])
if not job or job.state ~= 'running' or job.fence ~= ARGV[4] or job.owner ~= ARGV[2] then return 0 end
if not job.started then
  set(job, 'started', '1', 'prompt_tokens', ARGV[6], 'dropped', ARGV[7])
  redis.call('SET', key('prompt', job.id), ARGV[5])
  tell(job.id, cmsgpack.pack({ 's', job.id, tonumber(job.attempt), tonumber(ARGV[7]) }))
  flush()
end
return 1
