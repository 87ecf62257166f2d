-- How many jobs a worker should have at most for the workers of its model to share what there is: the mean over those
-- that could take one, rounded up.
local function fair_share(worker, model)
  local jobs, workers = redis.call('ZCARD', key('queue', model)), 0
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', now, '+inf')) do
    local its = redis.call('HMGET', key('worker', other), 'model', 'state', 'solo', 'max_running')
    local count = redis.call('SCARD', key('worker', other .. ':jobs'))
    if other == worker or its[1] == model and its[2] == 'ready' and not its[3] and count < number(its[4]) then
      jobs, workers = jobs + count, workers + 1
    end
  end
  return math.ceil(jobs / math.max(1, workers))
end
