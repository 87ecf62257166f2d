-- The queue of one model: who is next is decided by priority, then the user with the fewest running jobs, then age.
--   queue:<m> ZSET job → (10 − priority) · 2^40 + seq     everything queued: length and positions
--   queue:<m>:prios ZSET priority                         priorities that have jobs
--   queue:<m>:<prio>:users ZSET user → running · 2^40 + seq of the user's oldest job
--   queue:<m>:<prio>:user:<u> ZSET job → seq
--   queue:<m>:solo ZSET job → seq                         suspects of killing workers: run alone
--   user:<u>:running, user:<u>:live SETs of jobs; user:<u>:lanes SET of '<m>\n<prio>' where the user has queued jobs
-- A double holds 2^53: 2^13 running jobs a user and 2^40 submissions stay exact.
local AGE = 1099511627776

local function lane_key(model, prio) return key('queue', model) .. ':' .. prio end

local function rescore_lane(user, model, prio)
  local lane = lane_key(model, prio)
  local head = redis.call('ZRANGE', lane .. ':user:' .. user, 0, 0, 'WITHSCORES')
  if head[1] then
    local running = redis.call('SCARD', key('user', user .. ':running'))
    redis.call('ZADD', lane .. ':users', running * AGE + tonumber(head[2]), user)
    return
  end
  redis.call('SREM', key('user', user .. ':lanes'), model .. '\n' .. prio)
  redis.call('ZREM', lane .. ':users', user)
  if redis.call('EXISTS', lane .. ':users') == 0 then
    redis.call('ZREM', key('queue', model) .. ':prios', prio)
  end
end

-- The user's number of running jobs changed.
local function rescore(user)
  for _, name in ipairs(redis.call('SMEMBERS', key('user', user .. ':lanes'))) do
    local split = string.find(name, '\n', 1, true)
    rescore_lane(user, string.sub(name, 1, split - 1), string.sub(name, split + 1))
  end
end

local function enqueue(job)
  local queue = key('queue', job.model)
  redis.call('ZADD', queue, (10 - job.prio) * AGE + job.seq, job.id)
  if job.solo == '1' then
    redis.call('ZADD', queue .. ':solo', job.seq, job.id)
    return
  end
  redis.call('ZADD', queue .. ':prios', -job.prio, job.prio)
  redis.call('ZADD', lane_key(job.model, job.prio) .. ':user:' .. job.user, job.seq, job.id)
  redis.call('SADD', key('user', job.user .. ':lanes'), job.model .. '\n' .. job.prio)
  rescore_lane(job.user, job.model, job.prio)
end

local function dequeue(job)
  local queue = key('queue', job.model)
  redis.call('ZREM', queue, job.id)
  if job.solo == '1' then
    redis.call('ZREM', queue .. ':solo', job.id)
    return
  end
  redis.call('ZREM', lane_key(job.model, job.prio) .. ':user:' .. job.user, job.id)
  rescore_lane(job.user, job.model, job.prio)
end

-- The next job of the common queue, or nil. Entries without a queued record are dropped on the way.
local function next_job(model)
  local queue = key('queue', model)
  while true do
    local prio = redis.call('ZRANGE', queue .. ':prios', 0, 0)[1]
    if not prio then return nil end
    local user = redis.call('ZRANGE', lane_key(model, prio) .. ':users', 0, 0)[1]
    local id = user and redis.call('ZRANGE', lane_key(model, prio) .. ':user:' .. user, 0, 0)[1]
    if not id then
      redis.call('ZREM', queue .. ':prios', prio)
    else
      local job = load_job(id)
      if job and job.state == 'queued' then return job end
      dequeue({ id = id, model = model, prio = prio, user = user })
    end
  end
end

-- Jobs ahead of this one by priority and age; fairness between users may change the order.
local function position(job)
  return job.state == 'queued' and redis.call('ZRANK', key('queue', job.model), job.id) or 0
end
