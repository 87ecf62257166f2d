--!include core index count timers watch queue conversation finish park requeue
-- Log and publish new records of many jobs in one step.
-- ARGV 2 worker · then a job: id, fence, start, count, cached tokens, finish, code, message, frame header, and
--   count × record
-- Returns per job: ok|fenced|cancelled|parked|resend, records now in the log
local worker, results, logged = ARGV[2], {}, 0

-- Progress: the job is no suspect any more, and its worker may take others.
local function clear_suspicion(id, worker)
  redis.call('HSET', key('job', id), 'deaths', 0)
  redis.call('HDEL', key('job', id), 'solo', 'solo_for')
  unreserve(worker, id)
end

local function log(id, start, header, first, count, job)
  redis.call('RPUSH', key('log', id), unpack(ARGV, first, first + count - 1))
  redis.call('APPEND', key('times', id), struct.pack('>I4I4', start + count, now - job.created))
  redis.call('HSET', key('job', id), 'n', start + count)
  if not job.first then
    redis.call('HSET', key('job', id), 'first', now)
    count_wait('ttft', now - job.created)
  end
  if job.deaths ~= '0' then clear_suspicion(id, worker) end
  tell(id, header .. table.concat(ARGV, '', first, first + count - 1))
end

-- The job ends, or is parked: its worker says so, or was asked to let it. Returns the outcome.
local function stop_at_token(job, reason, code, message)
  if reason == 'error' then
    finish(job, 'error', nil, code, message)
  elseif reason == 'cancelled' or job.cancel and (reason == '' or reason == 'parked') then
    cancel(job)
    if reason ~= 'cancelled' then return 'cancelled' end
  elseif reason == '' then
    park(job)
    return 'parked'
  elseif reason == 'parked' then
    -- It may have been resumed meanwhile.
    if requeue(job, false) then wake(job.model) end
  else
    finish(job, 'done', reason)
  end
  return 'ok'
end

local function append(at, count)
  local id, start = ARGV[at], tonumber(ARGV[at + 2])
  local row = redis.call('HMGET', key('job', id), 'fence', 'state', 'owner', 'n', 'cancel', 'first', 'deaths',
    'conv', 'started', 'park', 'created', 'cached')
  if row[1] ~= ARGV[at + 1] or row[2] ~= 'running' or row[3] ~= worker then return 'fenced', 0 end
  local reason = ARGV[at + 5]
  -- A turn is kept with its prompt: where the call before this one, which had it, went wrong, both come again.
  local unstarted = row[8] and not row[9] and reason ~= 'error'
  if unstarted or row[4] ~= ARGV[at + 2] then return 'resend', tonumber(row[4]) end
  if count > 0 then
    log(id, start, ARGV[at + 8], at + 9, count, { first = row[6], deaths = row[7], created = row[11] })
    logged = logged + count
  end
  if ARGV[at + 4] ~= '0' then
    redis.call('HSET', key('job', id), 'cached', ARGV[at + 4])
    if not row[12] then total('tokens:cached', tonumber(ARGV[at + 4])) end
  end
  if reason == '' and not row[5] and not row[10] then return 'ok', start + count end
  return stop_at_token(load_job(id), reason, ARGV[at + 6], ARGV[at + 7]), start + count
end

local at = 3
while at <= #ARGV do
  local count = tonumber(ARGV[at + 3])
  local outcome, cursor = append(at, count)
  results[#results + 1], results[#results + 2] = outcome, cursor
  at = at + 9 + count
end
if logged > 0 then total('tokens:completion', logged) end
flush()
return results
