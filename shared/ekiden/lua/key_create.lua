--!include audit
-- Keep a new API key, unless one has its id; the secret itself never comes here.
-- KEYS 1 key prefix with its hash tag
-- ARGV 1 id · 2 user · 3 role · 4 digest · 5 note
-- Returns 1, or 0 when the id is taken
local P = KEYS[1]
local id, user, role = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local record = cjson.encode({
  user = user, role = role, digest = ARGV[4], note = ARGV[5],
  created_ms = time[1] * 1000 + math.floor(time[2] / 1000),
})
if redis.call('HSETNX', P .. 'keys', id, record) == 0 then return 0 end
audit('', 'cli', 'key_create', id, user .. ' ' .. role, 'done')
return 1
