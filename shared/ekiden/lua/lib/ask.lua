-- Ask the owner of a running job to `cancel` or `park` it. The set survives a lost message; the message makes it quick.
local function ask(job, what)
  local wanted = key('worker', job.owner .. ':' .. what)
  set(job, what, '1')
  redis.call('SADD', wanted, job.id)
  redis.call('PEXPIRE', wanted, WORKER_TTL_MS)
  redis.call('PUBLISH', key('live', job.owner), what)
end

-- End a live job: at once when no worker runs it, otherwise at its worker's next step.
local function stop(job)
  if job.state == 'running' then
    ask(job, 'cancel')
  elseif live(job) then
    cancel(job)
  end
end

-- What a worker was asked since it last looked.
local function asked(worker, what)
  local wanted = key('worker', worker .. ':' .. what)
  local ids = redis.call('SMEMBERS', wanted)
  redis.call('DEL', wanted)
  return ids
end
