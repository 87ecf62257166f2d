-- Who follows a job: watchers:<job> SET of replicas, replica:<r>:jobs SET, replicas ZSET replica → lease expiry (ms).
local outgoing, told = {}, {}

-- Queue a frame (encoded, positional) for every replica that watches the job; `flush` sends.
local function tell(id, frame)
  for _, replica in ipairs(redis.call('SMEMBERS', key('watchers', id))) do
    local frames = outgoing[replica]
    if not frames then
      frames = {}
      outgoing[replica], told[replica] = frames, {}
    end
    frames[#frames + 1] = frame
    told[replica][id] = true
  end
end

-- Nobody follows the job any more: its grace begins.
local function begin_grace(job)
  if live(job) and not job.abandon_at then
    set(job, 'abandon_at', now + policy.grace_ms)
    set_timer(job)
  end
end

local function unwatch(id, replica)
  redis.call('SREM', key('watchers', id), replica)
  return redis.call('SCARD', key('watchers', id)) == 0
end

-- Write what was counted, and send: one message a replica, a msgpack array of its frames. A replica that nobody listens
-- for loses its watches, but stays in replica:<r>:jobs, so that its end is still noticed; its next poll watches again.
local function flush()
  write_counts()
  for replica, frames in pairs(outgoing) do
    if redis.call('PUBLISH', key('out', replica), array_header(#frames) .. table.concat(frames)) == 0 then
      for id in pairs(told[replica]) do
        if unwatch(id, replica) then
          local job = load_job(id)
          if job then begin_grace(job) end
        end
      end
    end
  end
end

local function watch(job, replica)
  redis.call('ZADD', P .. 'replicas', now + policy.replica_ms, replica)
  redis.call('SADD', key('replica', replica .. ':jobs'), job.id)
  redis.call('SADD', key('watchers', job.id), replica)
  if job.abandon_at then
    unset(job, 'abandon_at')
    set_timer(job)
  end
end
