-- How many jobs a worker should have at most for the workers of its model to share what there is: the mean over those
-- that could take one, rounded up. One that missed a beat may be dead or frozen: it has no share.
local function fair_share(worker, model)
  local jobs, workers = redis.call('ZCARD', key('queue', model)), 0
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', now, '+inf')) do
    local its = redis.call('HMGET', key('worker', other), 'model', 'state', 'solo', 'max_running', 'registered', 'beat',
      'drain')
    local count = redis.call('SCARD', key('worker', other .. ':jobs'))
    local fresh = now - number(its[6] or its[5] or nil) < 2 * policy.beat_ms
    local can = its[1] == model and its[2] == 'ready' and not its[3] and not its[7] and count < number(its[4])
    if other == worker or can and fresh then
      jobs, workers = jobs + count, workers + 1
    end
  end
  return math.ceil(jobs / math.max(1, workers))
end
