-- Ask the owner of a running job to end it. The set survives a lost message; the message makes it quick.
local function ask_to_cancel(job)
  set(job, 'cancel', '1')
  redis.call('SADD', key('worker', job.owner .. ':cancels'), job.id)
  redis.call('PEXPIRE', key('worker', job.owner .. ':cancels'), WORKER_TTL_MS)
  redis.call('PUBLISH', key('live', job.owner), 'cancel')
end

-- End a live job: at once when no worker runs it, otherwise at its worker's next step.
local function stop(job)
  if job.state == 'running' then
    ask_to_cancel(job)
  elseif live(job) then
    cancel(job)
  end
end
