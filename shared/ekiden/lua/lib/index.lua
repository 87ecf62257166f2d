-- What is kept, as operators look for it: by:<what>:<value> ZSET job → place, for `state`, `user` (not the anonymous one)
-- and `worker` (every one that ran it). `place` is the order of submission and a moment at once: created (ms) · 1000 +
-- seq % 1000; a string, since Lua prints 14 digits of a number. An entry whose record is gone is dropped by who meets it;
-- an index expires when nothing that was added can be kept any more.
local INDEX_MS = policy.keep_summary_s * 1000 + policy.queue_wait_ms + policy.run_limit_ms + policy.park_ms + 3600000

local function index_of(what, value) return key('by:' .. what, value) end

local function place_of(job) return job.place or job.seq end

local function note(job, what, value)
  redis.call('ZADD', index_of(what, value), place_of(job), job.id)
  redis.call('PEXPIRE', index_of(what, value), INDEX_MS)
end

-- Every change of a job's state, with other fields of its record.
local function enter(job, state, ...)
  if job.state then redis.call('ZREM', index_of('state', job.state), job.id) end
  set(job, 'state', state, ...)
  note(job, 'state', state)
end

-- Note a claim: which worker (its incarnation, and host:pid) has the job from which id on, since when (ms). Of many the
-- last ATTEMPTS are kept.
local ATTEMPTS = 64
local function note_attempt(job, worker)
  local host, pid = unpack(redis.call('HMGET', key('worker', worker), 'host', 'pid'))
  set(job, 'a' .. job.attempt, table.concat({ worker, (host or '') .. ':' .. (pid or ''), job.n, now }, ' '))
  unset(job, 'a' .. job.attempt - ATTEMPTS)
  note(job, 'worker', worker)
end

-- What is left of an ended job.
local function forget(id)
  for field, value in pairs(load_job(id) or {}) do
    if field == 'state' or field == 'user' then redis.call('ZREM', index_of(field, value), id) end
    if string.find(field, '^a%d') then redis.call('ZREM', index_of('worker', string.match(value, '%S+')), id) end
  end
  redis.call('ZREM', P .. 'jobs', id)
  redis.call('ZREM', P .. 'ended', id)
  redis.call('DEL', key('job', id), key('request', id), key('prompt', id), key('log', id), key('times', id),
    key('watchers', id))
end
