--!include core timers watch queue finish
-- Store a new job, once per (user, client id), and watch it.
-- ARGV 2 job · 3 user ('' anonymous) · 4 client id · 5 digest · 6 model · 7 priority · 8 on_disconnect · 9 request
--   10 replica
-- Returns {new|known|conflict|queue_full|too_many_jobs, job, jobs ahead}
local id, user, client, digest, model, prio = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local idem = key('idem', user .. ':' .. client)

local existing = redis.call('GET', idem)
local known = existing and load_job(existing)
if known then return { known.digest == digest and 'known' or 'conflict', existing, position(known) } end

local queue = key('queue', model)
if redis.call('ZCARD', queue) >= policy.max_queued then return { 'queue_full', '', 0 } end
if user ~= '' and redis.call('SCARD', key('user', user .. ':live')) >= policy.max_per_user then
  return { 'too_many_jobs', '', 0 }
end

local job = { id = id }
set(job,
  'state', 'queued', 'fence', 0, 'attempt', 0, 'deaths', 0, 'n', 0, 'user', user, 'client', client, 'digest', digest,
  'model', model, 'prio', prio, 'seq', redis.call('INCR', P .. 'seq'), 'on_disconnect', ARGV[8],
  'created', now, 'queue_due', now + policy.queue_wait_ms)
redis.call('SET', key('request', id), ARGV[9])
redis.call('SET', idem, id)
redis.call('SADD', key('user', user .. ':live'), id)
redis.call('ZADD', P .. 'jobs', job.seq, id)
enqueue(job)
set_timer(job)
watch(job, ARGV[10])
return { 'new', id, position(job) }
