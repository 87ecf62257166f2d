--!include core index count timers watch queue conversation
-- Read a conversation, and up to `limit` of its turns.
-- ARGV 2 user · 3 conversation · 4 limit · 5 the turn that they end before · 6 '1': the seed and the turn
--   under way too
-- Returns {summary (lib/conversation.lua), seed, number of the first turn, turns, {number, request} of the turn under
--   way}, or nil when this user has no such one
local summary = summary_of(ARGV[3], ARGV[2])
if not summary then return false end
local last = math.min(tonumber(summary[7]), ARGV[5] - 1)
local first = math.max(1, last - ARGV[4] + 1)
local turns = first <= last and redis.call('LRANGE', turns_key(ARGV[3]), first - 1, last - 1) or {}
if ARGV[6] ~= '1' then return { summary, '', first, turns, {} } end
local seed, busy = redis.call('HGET', conv_key(ARGV[3]), 'seed'), summary[8]
local request = busy ~= '' and redis.call('GET', key('request', busy))
local pending = request and { redis.call('HGET', key('job', busy), 'turn'), request } or {}
return { summary, seed or '', first, turns, pending }
