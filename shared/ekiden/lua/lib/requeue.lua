-- Take a running job from its worker and queue it again with its old age. `died`: the worker is dead, which the job may
-- have caused; after policy.poison_deaths in a row without a new token it is poison, one earlier it must run alone. One
-- that was to be parked is parked. Returns whether it was queued.
local function requeue(job, died)
  set(job, 'fence', job.fence + 1)
  if died then set(job, 'deaths', job.deaths + 1) end
  if tonumber(job.deaths) >= policy.poison_deaths - 1 then set(job, 'solo', '1') end
  if job.cancel then
    cancel(job)
  elseif died and tonumber(job.deaths) >= policy.poison_deaths then
    finish(job, 'error', nil, 'poison', 'The job was running on ' .. job.deaths .. ' workers in a row when they died.')
  elseif job.park then
    park(job)
  else
    release(job)
    queue_again(job)
    return true
  end
  return false
end

-- Requeue what a worker owns and make the other workers look. Returns how many jobs were queued again.
local function give_back(worker, ids, died)
  local models, moved = {}, 0
  for _, id in ipairs(ids) do
    local job = load_job(id)
    if job and job.state == 'running' and job.owner == worker then
      if requeue(job, died) then
        moved = moved + 1
        models[job.model] = true
      end
    else
      redis.call('SREM', key('worker', worker .. ':jobs'), id)
    end
  end
  for model in pairs(models) do wake(model) end
  if moved > 0 then total('moved', moved) end
  return moved
end

local function remove_worker(worker, died)
  local moved = give_back(worker, redis.call('SMEMBERS', key('worker', worker .. ':jobs')), died)
  local slot = redis.call('HGET', key('worker', worker), 'slot')
  if slot and redis.call('HGET', P .. 'slots', slot) == worker then redis.call('HDEL', P .. 'slots', slot) end
  redis.call('ZREM', P .. 'workers', worker)
  redis.call('DEL', key('worker', worker), key('worker', worker .. ':jobs'), key('worker', worker .. ':cancel'),
    key('worker', worker .. ':park'))
  return moved
end
