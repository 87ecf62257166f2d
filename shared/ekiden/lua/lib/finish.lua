-- The one way a job ends. Ended jobs are kept in steps: log and prompt, then the summary, then nothing.
local SUMMARY_SLACK_S = 600

local function elapsed(job, moment)
  return moment and tonumber(moment) - tonumber(job.created) or cjson.null
end

-- The terminal event, encoded as wire.EndedFrame.
local function ended_frame(job)
  return cmsgpack.pack({
    'e', job.id, job.state, number(job.attempt), number(job.n),
    job.reason or cjson.null, job.code or cjson.null, job.message or cjson.null,
    number(job.prompt_tokens), number(job.cached),
    elapsed(job, job.claimed), elapsed(job, job.first), elapsed(job, job.ended), number(job.retokenized),
  })
end

-- The worker may take other jobs beside this one, if it had reserved itself for it.
local function unreserve(worker, id)
  if redis.call('HGET', key('worker', worker), 'solo') == id then redis.call('HDEL', key('worker', worker), 'solo') end
end

-- Take a running job off its worker and its user.
local function release(job)
  if not job.owner then return end
  redis.call('SREM', key('worker', job.owner .. ':jobs'), job.id)
  unreserve(job.owner, job.id)
  redis.call('SREM', key('user', job.user .. ':running'), job.id)
  rescore(job.user)
  unset(job, 'owner')
end

-- End a live job. `state` done or cancelled goes with `reason`; error with `code` and `message`.
local function finish(job, state, reason, code, message)
  if job.state == 'queued' then dequeue(job) end
  release(job)
  enter(job, state, 'ended', now)
  total('jobs:' .. (reason or state), 1)
  if reason then set(job, 'reason', reason) end
  if code then set(job, 'code', code, 'message', message) end
  if job.conv then end_turn(job) end
  redis.call('ZREM', P .. 'timers', job.id)
  redis.call('SREM', key('user', job.user .. ':live'), job.id)
  tell(job.id, ended_frame(job))
  for _, replica in ipairs(redis.call('SMEMBERS', key('watchers', job.id))) do
    redis.call('SREM', key('replica', replica .. ':jobs'), job.id)
  end
  -- Housekeeping forgets it; where nobody does, it goes by itself.
  redis.call('EXPIRE', key('job', job.id), policy.keep_summary_s + SUMMARY_SLACK_S)
  redis.call('EXPIRE', key('idem', job.user .. ':' .. job.client), policy.keep_summary_s)
  redis.call('EXPIRE', key('log', job.id), policy.keep_log_s)
  redis.call('EXPIRE', key('times', job.id), policy.keep_log_s)
  redis.call('EXPIRE', key('watchers', job.id), policy.keep_log_s)
  local keep_prompt_s = state == 'error' and policy.keep_summary_s or policy.keep_log_s
  redis.call('EXPIRE', key('request', job.id), keep_prompt_s)
  redis.call('EXPIRE', key('prompt', job.id), keep_prompt_s)
  redis.call('ZADD', P .. 'ended', now, job.id)
  if redis.call('ZCARD', P .. 'ended') > policy.max_summaries then
    for _, old in ipairs(redis.call('ZRANGE', P .. 'ended', 0, 1)) do forget(old) end
  end
end

local function cancel(job) finish(job, 'cancelled', 'cancelled') end
