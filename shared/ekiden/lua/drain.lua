--!include core index count timers watch queue conversation finish park requeue audit
-- Let a worker take no more jobs, or take some again.
-- ARGV 2 worker · 3 '1' to drain · 4 '1': what it has goes on elsewhere at once · 5 operator · 6 its key
-- Returns how many jobs were moved, or nil when there is no such worker
local worker, drain = ARGV[2], ARGV[3] == '1'
if not redis.call('ZSCORE', P .. 'workers', worker) then return false end
local moved = 0
if drain then
  redis.call('HSET', key('worker', worker), 'drain', 1)
  if ARGV[4] == '1' then
    moved = give_back(worker, redis.call('SMEMBERS', key('worker', worker .. ':jobs')), false)
  end
else
  redis.call('HDEL', key('worker', worker), 'drain')
  redis.call('PUBLISH', key('live', worker), 'drain')
end
audit(ARGV[5], ARGV[6], drain and 'drain' or 'undrain', worker, moved > 0 and 'moved ' .. moved or '', 'done')
flush()
return moved
