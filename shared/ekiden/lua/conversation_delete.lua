--!include core index count timers watch queue conversation finish ask
-- Forget a conversation, and end the job that answers in it; with the conversation gone, that keeps no turn.
-- ARGV 2 user · 3 conversation
-- Returns 1, or 0 when this user has no such one
local conv = ARGV[3]
if redis.call('HGET', conv_key(conv), 'user') ~= ARGV[2] then return 0 end
local busy = busy_job(conv)
redis.call('DEL', conv_key(conv), turns_key(conv))
redis.call('ZREM', index_key(ARGV[2]), conv)
if busy then stop(load_job(busy)) end
flush()
return 1
