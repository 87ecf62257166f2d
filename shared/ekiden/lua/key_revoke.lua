--!include audit
-- Forget an API key; what it opened ends within seconds, when API processes look again.
-- KEYS 1 key prefix with its hash tag
-- ARGV 1 id
-- Returns 1, or 0 when there is no such key
local P = KEYS[1]
local record = redis.call('HGET', P .. 'keys', ARGV[1])
if not record then return 0 end
redis.call('HDEL', P .. 'keys', ARGV[1])
local understood, key = pcall(cjson.decode, record)
audit('', 'cli', 'key_revoke', ARGV[1], understood and key.user .. ' ' .. key.role or '', 'done')
return 1
