-- Conversations that are kept.
--   conv:<id> HASH: user model title created updated (ms) · version (raised with every turn that is written) · turns
--     (their number) · busy (the job that makes an answer, while there is one) · seed (messages before the first turn)
--     · first:<turn> (the oldest turn that the prompt of <turn> shows; where that is not the first)
--   turns:<id> LIST of turns (memory.KeptTurn)
--   user:<u>:convs ZSET conversation → updated
-- All expire, counted from the last change; a conversation does not while a job answers in it.
local function conv_key(id) return key('conv', id) end
local function turns_key(id) return key('turns', id) end
local function index_key(user) return key('user', user .. ':convs') end

-- The job that answers in a conversation now, or nil. One that has ended, or has no record any more, is no obstacle.
local function busy_job(conv)
  local id = redis.call('HGET', conv_key(conv), 'busy')
  if id and live({ state = redis.call('HGET', key('job', id), 'state') }) then return id end
end

-- {conversation, title, model, created, updated, version, turns, busy or ''}, or nil when this user has no such one.
local function summary_of(conv, user)
  local row = redis.call('HMGET', conv_key(conv), 'user', 'title', 'model', 'created', 'updated', 'version', 'turns')
  if row[1] ~= user then return nil end
  return { conv, row[2], row[3], row[4], row[5], row[6], row[7], busy_job(conv) or '' }
end

-- Note a change, from which the expiry is counted. One without a turn says nothing: it goes with its job's summary.
local function touch(conv, user)
  redis.call('HSET', conv_key(conv), 'updated', now)
  local keep_ms = policy.keep_conversation_ms
  if redis.call('HGET', conv_key(conv), 'turns') == '0' then
    keep_ms = math.min(keep_ms, policy.keep_summary_s * 1000)
  end
  local held = busy_job(conv)
  for _, name in ipairs({ conv_key(conv), turns_key(conv) }) do
    if held then redis.call('PERSIST', name) else redis.call('PEXPIRE', name, keep_ms) end
  end
  -- An entry must outlive its conversation, which a job may hold for as long as its limits allow.
  local longest_ms = policy.keep_conversation_ms + policy.queue_wait_ms + policy.run_limit_ms + policy.park_ms
  redis.call('ZADD', index_key(user), now, conv)
  redis.call('ZREMRANGEBYSCORE', index_key(user), '-inf', '(' .. now - longest_ms)
  redis.call('PEXPIRE', index_key(user), longest_ms)
end

-- Write the turn of a job in place of that turn and all after it: its parts are joined as they lie in the store.
local function commit(job)
  local request, prompt = redis.call('GET', key('request', job.id)), redis.call('GET', key('prompt', job.id))
  if not (request and prompt) then return end -- it never started
  local records = redis.call('LRANGE', key('log', job.id), 0, -1)
  local conv, turn = conv_key(job.conv), tonumber(job.turn)
  if turn == 1 then
    redis.call('DEL', turns_key(job.conv))
  else
    redis.call('LTRIM', turns_key(job.conv), 0, turn - 2)
  end
  redis.call('RPUSH', turns_key(job.conv), table.concat({
    array_header(8), request, prompt, array_header(#records), table.concat(records),
    cmsgpack.pack(job.id, job.reason, number(job.prompt_tokens), number(job.cached), now),
  }))
  for replaced = turn, tonumber(redis.call('HGET', conv, 'turns')) do redis.call('HDEL', conv, 'first:' .. replaced) end
  if number(job.first_turn) > 1 then redis.call('HSET', conv, 'first:' .. turn, job.first_turn) end
  redis.call('HSET', conv, 'turns', turn)
  redis.call('HINCRBY', conv, 'version', 1)
end

-- A job ended: an answer that went well is kept, and one that was cancelled as far as it came; one that failed, or had
-- not begun, leaves no trace.
local function end_turn(job)
  if redis.call('HGET', conv_key(job.conv), 'busy') ~= job.id then return end
  if job.state == 'done' or job.state == 'cancelled' and number(job.n) > 0 then commit(job) end
  redis.call('HDEL', conv_key(job.conv), 'busy')
  touch(job.conv, job.user)
end

-- What the worker of a job needs of its conversation (memory.Memory): {turn, seed, turns}.
local function memory_of(job)
  local turn = tonumber(job.turn)
  local first = number(redis.call('HGET', conv_key(job.conv), 'first:' .. turn - 1) or '1')
  local last = job.same and turn or turn - 1
  local turns = last > 0 and redis.call('LRANGE', turns_key(job.conv), first - 1, last - 1) or {}
  return { turn, redis.call('HGET', conv_key(job.conv), 'seed') or '', turns }
end
