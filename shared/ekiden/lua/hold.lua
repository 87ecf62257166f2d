--!include core index count timers watch queue conversation finish park audit
-- Hold a model's queue, or let it go on; what runs is not touched.
-- ARGV 2 model · 3 '1' to hold · 4 operator · 5 its key
-- Returns 1, or 0 when no worker ever served this model
local model, held = ARGV[2], ARGV[3] == '1'
if redis.call('HEXISTS', P .. 'models', model) == 0 then return 0 end
redis.call(held and 'SADD' or 'SREM', P .. 'paused', model)
if not held then wake(model) end
audit(ARGV[4], ARGV[5], held and 'pause' or 'resume_queue', model, '', 'done')
return 1
