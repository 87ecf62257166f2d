--!include core index count timers watch queue conversation finish ask due view
-- Renew a replica and read what changed of the jobs it asks about; it watches them again in case it was dropped.
-- ARGV 2 replica · 3 what it says of itself (types.ReplicaInfo) · then job, cursor, attempt, …
-- Returns {1 if the replica was known, views of the changed, jobs without a record}
local replica = ARGV[2]
local known = redis.call('ZSCORE', P .. 'replicas', replica)
redis.call('ZADD', P .. 'replicas', now + policy.replica_ms, replica)
redis.call('SET', key('replica', replica .. ':info'), ARGV[3], 'PX', 3 * policy.replica_ms)
housekeeping()
local changed, missing = {}, {}
for i = 4, #ARGV, 3 do
  local job, cursor, attempt = load_job(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if job and live(job) then
    watch(job, replica)
  else
    -- The entry is still there where the job's end found the replica without a listener.
    redis.call('SREM', key('replica', replica .. ':jobs'), ARGV[i])
  end
  if not job then
    missing[#missing + 1] = ARGV[i]
  elseif job.state ~= 'running' or tonumber(job.n) > cursor or tonumber(job.attempt) ~= attempt then
    changed[#changed + 1] = view(job, cursor)
  end
end
flush()
return { known and 1 or 0, changed, missing }
