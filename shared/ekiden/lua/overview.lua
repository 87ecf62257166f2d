--!include core index
-- How everything stands.
-- Returns {now (ms), {state, kept jobs, …}, {{model, context, queued, '1' when held}, …}, {{worker, lease ends, record}, …},
--   {{replica, lease ends, what it says of itself}, …}}
local states, models, workers, replicas = {}, {}, {}, {}
for _, state in ipairs({ 'queued', 'running', 'parked', 'done', 'cancelled', 'error' }) do
  states[#states + 1], states[#states + 2] = state, redis.call('ZCARD', index_of('state', state))
end
local known = redis.call('HGETALL', P .. 'models')
for i = 1, #known, 2 do
  local queued, held = redis.call('ZCARD', key('queue', known[i])), redis.call('SISMEMBER', P .. 'paused', known[i])
  models[#models + 1] = { known[i], known[i + 1], queued, held }
end
local leases = redis.call('ZRANGEBYSCORE', P .. 'workers', now, '+inf', 'WITHSCORES')
for i = 1, #leases, 2 do
  workers[#workers + 1] = { leases[i], leases[i + 1], redis.call('HGETALL', key('worker', leases[i])) }
end
leases = redis.call('ZRANGEBYSCORE', P .. 'replicas', now, '+inf', 'WITHSCORES')
for i = 1, #leases, 2 do
  local said = redis.call('GET', key('replica', leases[i] .. ':info'))
  if said then replicas[#replicas + 1] = { leases[i], leases[i + 1], said } end
end
return { string.format('%.0f', now), states, models, workers, replicas }
