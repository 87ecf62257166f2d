--!include core index count timers watch queue conversation finish park requeue
-- Make a worker known. One in the same supervised slot is dead for certain, or its supervisor would not have started
-- this one.
-- ARGV 2 worker · then field, value, … of store.types.WorkerInfo
local worker = ARGV[2]
local info = {}
for i = 3, #ARGV, 2 do info[ARGV[i]] = ARGV[i + 1] end
if info.slot ~= '' then
  local old = redis.call('HGET', P .. 'slots', info.slot)
  if old and old ~= worker then remove_worker(old, true) end
  redis.call('HSET', P .. 'slots', info.slot, worker)
end
redis.call('ZADD', P .. 'workers', now + policy.lease_ms, worker)
redis.call('HSET', key('worker', worker),
  'registered', now, 'state', 'ready', 'running', 0, 'waiting', 0, unpack(ARGV, 3))
redis.call('PEXPIRE', key('worker', worker), WORKER_TTL_MS)
redis.call('HSET', P .. 'models', info.model, info.context_tokens)
flush()
return 1
