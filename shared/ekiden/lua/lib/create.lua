-- Why a user's job of a model may not be made now, or nil.
local function no_room(user, model)
  if redis.call('ZCARD', key('queue', model)) >= policy.max_queued then return 'queue_full' end
  if user ~= '' and redis.call('SCARD', key('user', user .. ':live')) >= policy.max_per_user then
    return 'too_many_jobs'
  end
end

-- The one way a job begins: queued, known under its owner's request id, and in its conversation the one that answers.
-- `new`: id user client digest model prio on_disconnect request (encoded) · conv turn same retry_of trace, where it has
-- them.
local function create(new)
  local job, seq = { id = new.id }, redis.call('INCR', P .. 'seq')
  set(job,
    'fence', 0, 'attempt', 0, 'deaths', 0, 'n', 0, 'user', new.user, 'client', new.client, 'digest', new.digest,
    'model', new.model, 'prio', new.prio, 'seq', seq, 'place', string.format('%.0f', now * 1000 + seq % 1000),
    'on_disconnect', new.on_disconnect, 'created', now, 'queue_due', now + policy.queue_wait_ms)
  for _, field in ipairs({ 'conv', 'turn', 'same', 'retry_of', 'trace' }) do
    if new[field] then set(job, field, new[field]) end
  end
  redis.call('SET', key('request', job.id), new.request)
  redis.call('SET', key('idem', job.user .. ':' .. job.client), job.id)
  redis.call('SADD', key('user', job.user .. ':live'), job.id)
  redis.call('ZADD', P .. 'jobs', job.place, job.id)
  if job.user ~= '' then note(job, 'user', job.user) end
  enter(job, 'queued')
  if job.conv then
    redis.call('HSET', conv_key(job.conv), 'busy', job.id)
    touch(job.conv, job.user)
  end
  enqueue(job)
  set_timer(job)
  return job
end
