-- What clients and operators ask of a job, whatever its state. Both return whether it does anything.
-- Hold it: at once when no worker runs it, otherwise at its worker's next token.
local function ask_park(job)
  if job.state == 'queued' then
    park(job)
  elseif job.state ~= 'running' or job.cancel then
    return false
  else
    ask(job, 'park')
  end
  return true
end

-- Queue it again when it is parked; one that is only to be parked goes on.
local function ask_resume(job)
  if job.state == 'parked' then
    resume(job)
    return true
  end
  local asked = job.park
  unask_park(job)
  return asked
end
