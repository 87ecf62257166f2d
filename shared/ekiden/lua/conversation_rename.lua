--!include core index count timers watch queue conversation
-- Give a conversation a title.
-- ARGV 2 user · 3 conversation · 4 title
-- Returns its summary (lib/conversation.lua), or nil when this user has no such one
if not summary_of(ARGV[3], ARGV[2]) then return false end
redis.call('HSET', conv_key(ARGV[3]), 'title', ARGV[4])
touch(ARGV[3], ARGV[2])
return summary_of(ARGV[3], ARGV[2])
