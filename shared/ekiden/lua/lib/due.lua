-- Housekeeping that any worker's beat and any API's poll does, bounded a call, so that limits hold whoever is alive.
local BATCH = 100

local function end_due_jobs()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'timers', '-inf', now, 'LIMIT', 0, BATCH)) do
    local job = load_job(id)
    if not job or not live(job) then
      redis.call('ZREM', P .. 'timers', id)
    elseif job.state == 'parked' then
      if tonumber(job.park_due) <= now then
        finish(job, 'error', nil, 'park_timeout', 'The job was parked for longer than the limit.')
      else
        set_timer(job)
      end
    elseif job.abandon_at and tonumber(job.abandon_at) <= now then
      finish(job, 'error', nil, 'abandoned', 'No client watched the job for longer than the grace.')
    elseif job.state == 'queued' and tonumber(job.queue_due) <= now then
      finish(job, 'error', nil, 'queue_timeout', 'The job waited in the queue for longer than the limit.')
    elseif job.run_due and tonumber(job.run_due) <= now then
      finish(job, 'error', nil, 'run_timeout', 'The job ran for longer than the limit.')
    else
      set_timer(job)
    end
  end
end

-- A replica stopped watching a job for good: the last one out cancels the job or begins its grace.
local function leave(id, replica)
  redis.call('SREM', key('replica', replica .. ':jobs'), id)
  if not unwatch(id, replica) then return end
  local job = load_job(id)
  if not job or not live(job) then return end
  if job.on_disconnect == 'cancel' then
    stop(job)
  else
    begin_grace(job)
  end
end

-- Notes a sign of life. After a silence of all of them the store was away, not they: true while nobody may be taken for
-- dead, so that all can report first. Fields of fleet HASH: `last` (ms) of the sign, `guard` (ms) of the end of that time.
local function away_lately(last, guard, silence_ms, grace_ms)
  local before = tonumber(redis.call('HGET', P .. 'fleet', last) or '0')
  redis.call('HSET', P .. 'fleet', last, now)
  if now - before > silence_ms then redis.call('HSET', P .. 'fleet', guard, now + grace_ms) end
  return now < tonumber(redis.call('HGET', P .. 'fleet', guard) or '0')
end

local function remove_dead_replica()
  if away_lately('last_call', 'no_leave_until', policy.replica_ms / 2, policy.replica_ms) then return end
  local replica = redis.call('ZRANGEBYSCORE', P .. 'replicas', '-inf', now, 'LIMIT', 0, 1)[1]
  if not replica then return end
  local ids = redis.call('SRANDMEMBER', key('replica', replica .. ':jobs'), BATCH)
  for _, id in ipairs(ids) do leave(id, replica) end
  if #ids < BATCH then redis.call('ZREM', P .. 'replicas', replica) end
end

local function forget_old_summaries()
  local horizon = now - policy.keep_summary_s * 1000
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', horizon, 'LIMIT', 0, BATCH)) do forget(id) end
end

local function sample_states()
  for _, state in ipairs({ 'queued', 'running', 'parked' }) do
    sample(state, redis.call('ZCARD', index_of('state', state)))
  end
end

local function housekeeping()
  sample_states()
  end_due_jobs()
  remove_dead_replica()
  forget_old_summaries()
end
