-- timers ZSET: job → next moment (ms) at which a limit may end it.
local function set_timer(job)
  local due = math.huge
  local function consider(moment)
    if moment and tonumber(moment) < due then due = tonumber(moment) end
  end
  if job.state ~= 'parked' then consider(job.abandon_at) end
  consider(job.run_due)
  consider(job.park_due)
  if job.state == 'queued' then consider(job.queue_due) end
  if due < math.huge then
    redis.call('ZADD', P .. 'timers', due, job.id)
  else
    redis.call('ZREM', P .. 'timers', job.id)
  end
end
