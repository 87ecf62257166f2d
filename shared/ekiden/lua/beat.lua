--!include core index count timers watch queue conversation finish park requeue ask due
-- Renew a worker's lease; take the jobs of dead workers; do due housekeeping.
-- ARGV 2 worker · 3 running · 4 waiting in its engine · 5 state · 6 figures (types.WorkerFigures) · 7 share of its KV
--   cache in use · 8 share of prompts that was cached ('' where nothing was asked) · then of times between tokens since
--   the last beat: bucket, count, …
-- Returns {0} when fenced, else {1, jobs owned, jobs queued for its model, jobs taken from the dead, jobs to
--   cancel, jobs to park}
local worker = ARGV[2]
if not redis.call('ZSCORE', P .. 'workers', worker) then return { 0 } end
redis.call('ZADD', P .. 'workers', now + policy.lease_ms, worker)
redis.call('HSET', key('worker', worker), 'running', ARGV[3], 'waiting', ARGV[4], 'state', ARGV[5], 'beat', now,
  'figures', ARGV[6])
redis.call('PEXPIRE', key('worker', worker), WORKER_TTL_MS)

local name = table.concat(redis.call('HMGET', key('worker', worker), 'host', 'pid'), ':')
sample('kv:' .. name, ARGV[7])
if ARGV[8] ~= '' then sample('hit:' .. name, ARGV[8]) end
for i = 9, #ARGV, 2 do count('itl:' .. ARGV[i], ARGV[i + 1]) end

local reaped = 0
if not away_lately('last_beat', 'no_reap_until', 2 * policy.beat_ms, policy.lease_ms) then
  local dead = redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', now)
  if policy.early_ms > 0 then
    -- The kernel closes a dead process's sockets: silent, and its liveness subscription gone, is dead before the
    -- lease ends.
    local silent = now + policy.lease_ms - policy.early_ms
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '(' .. now, '(' .. silent)) do
      if redis.call('PUBSUB', 'NUMSUB', key('live', other))[2] == 0 then dead[#dead + 1] = other end
    end
  end
  for _, other in ipairs(dead) do reaped = reaped + remove_worker(other, true) end
end

housekeeping()
local model = redis.call('HGET', key('worker', worker), 'model')
flush()
return {
  1, redis.call('SCARD', key('worker', worker .. ':jobs')), model and redis.call('ZCARD', key('queue', model)) or 0,
  reaped, asked(worker, 'cancel'), asked(worker, 'park'),
}
