-- What a worker gets for a job it owns: {job, fence, attempt, request, prompt or '', log records, memory or {},
-- trace or ''}.
local function claim_of(job)
  return {
    job.id, tonumber(job.fence), tonumber(job.attempt), redis.call('GET', key('request', job.id)) or '',
    redis.call('GET', key('prompt', job.id)) or '', redis.call('LRANGE', key('log', job.id), 0, -1),
    job.conv and memory_of(job) or {}, job.trace or '',
  }
end

-- Give a queued job to a worker: a new fence, a new attempt.
local function take(job, worker)
  dequeue(job)
  enter(job, 'running', 'owner', worker, 'fence', job.fence + 1, 'attempt', job.attempt + 1)
  note_attempt(job, worker)
  if not job.claimed then
    set(job, 'claimed', now)
    count_wait('queue', now - job.created)
  end
  if not job.run_due then set(job, 'run_due', now + (job.run_left or policy.run_limit_ms)) end
  unset(job, 'run_left')
  redis.call('SADD', key('worker', worker .. ':jobs'), job.id)
  redis.call('SADD', key('user', job.user .. ':running'), job.id)
  rescore(job.user)
  set_timer(job)
  if tonumber(job.attempt) > 1 then tell(job.id, cmsgpack.pack({ 'm', job.id, tonumber(job.attempt) })) end
  return claim_of(job)
end
