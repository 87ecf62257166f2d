-- Hold a job: its log and its age stay, nobody runs it until it is resumed. What a new fence shuts out may still write
-- nothing. Time in which it is held counts for no limit but its own.
local function park(job)
  if job.state == 'queued' then dequeue(job) end
  release(job)
  for _, field in ipairs({ 'park', 'solo_for', 'queue_due' }) do unset(job, field) end
  if job.run_due then
    set(job, 'run_left', math.max(1, job.run_due - now))
    unset(job, 'run_due')
  end
  set(job, 'state', 'parked', 'fence', job.fence + 1, 'park_due', now + policy.park_ms)
  set_timer(job)
  tell(job.id, cmsgpack.pack({ 'c', job.id }))
end

local function resume(job)
  unset(job, 'park_due')
  if job.abandon_at then set(job, 'abandon_at', now + policy.grace_ms) end
  set(job, 'state', 'queued', 'queue_due', now + policy.queue_wait_ms)
  enqueue(job)
  set_timer(job)
  tell(job.id, cmsgpack.pack({ 'c', job.id }))
  redis.call('PUBLISH', key('wake', job.model), '')
end
