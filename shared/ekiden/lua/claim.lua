--!include core index count timers watch queue conversation finish park take spread
-- Give a worker up to `free` queued jobs of its model; the store chooses.
-- ARGV 2 worker · 3 model · 4 free
-- Returns claims (lib/take.lua), or nil when the worker is fenced
local worker, model, free = ARGV[2], ARGV[3], tonumber(ARGV[4])
if not redis.call('ZSCORE', P .. 'workers', worker) then return false end
local solo, drain = unpack(redis.call('HMGET', key('worker', worker), 'solo', 'drain'))
if solo or drain or redis.call('SISMEMBER', P .. 'paused', model) == 1 then return {} end

-- A reservation by one that is gone, or is being drained, holds nobody up.
local function takes_jobs(other)
  return redis.call('ZSCORE', P .. 'workers', other) and not redis.call('HGET', key('worker', other), 'drain')
end

-- A suspect of killing workers runs alone: one worker reserves it, takes nothing else, and begins when it is empty.
for _, id in ipairs(redis.call('ZRANGE', key('queue', model) .. ':solo', 0, 15)) do
  local job = load_job(id)
  if not job then
    dequeue({ id = id, model = model, solo = '1' })
  else
    if not (job.solo_for and takes_jobs(job.solo_for)) then set(job, 'solo_for', worker) end
    if job.solo_for == worker then
      if redis.call('SCARD', key('worker', worker .. ':jobs')) > 0 then return {} end
      redis.call('HSET', key('worker', worker), 'solo', id)
      local claims = { take(job, worker) }
      flush()
      return claims
    end
  end
end

-- A worker that has its share leaves a new job to the others, and tells them. One that waited for a beat is anybody's:
-- the others may be full, slow or dead by now.
local claims = {}
local owned, share = redis.call('SCARD', key('worker', worker .. ':jobs')), nil
while #claims < free do
  local job = next_job(model)
  if not job then break end
  share = share or fair_share(worker, model)
  if owned + #claims >= share and now - job.created < policy.beat_ms then
    if redis.call('HSETNX', key('job', job.id), 'offered', 1) == 1 then wake(model) end
    break
  end
  claims[#claims + 1] = take(job, worker)
end
flush()
return claims
