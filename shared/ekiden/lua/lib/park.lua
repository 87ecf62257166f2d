-- A job's worker need not park it any more.
local function unask_park(job)
  if job.owner then redis.call('SREM', key('worker', job.owner .. ':park'), job.id) end
  unset(job, 'park')
end

-- Hold a job: it keeps its log and its age, and nobody runs it until it is resumed. The raised fence shuts its worker
-- out. Time in which it is held counts for no limit but its own.
local function park(job)
  if job.state == 'queued' then dequeue(job) end
  unask_park(job)
  release(job)
  unset(job, 'solo_for')
  unset(job, 'queue_due')
  if job.run_due then
    set(job, 'run_left', math.max(1, job.run_due - now))
    unset(job, 'run_due')
  end
  enter(job, 'parked', 'fence', job.fence + 1, 'park_due', now + policy.park_ms, 'parks', number(job.parks) + 1)
  set_timer(job)
  if job.conv then touch(job.conv, job.user) end
  tell(job.id, cmsgpack.pack({ 'c', job.id }))
end

local function wake(model) redis.call('PUBLISH', key('wake', model), '') end

-- Let a job that nobody owns wait for a worker again, with its old age.
local function queue_again(job)
  enter(job, 'queued', 'queue_due', now + policy.queue_wait_ms)
  enqueue(job)
  set_timer(job)
end

local function resume(job)
  unset(job, 'park_due')
  if job.abandon_at then set(job, 'abandon_at', now + policy.grace_ms) end
  queue_again(job)
  if job.conv then touch(job.conv, job.user) end
  tell(job.id, cmsgpack.pack({ 'c', job.id }))
  wake(job.model)
end
