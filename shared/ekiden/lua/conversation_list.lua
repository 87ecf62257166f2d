--!include core index count timers watch queue conversation
-- A page of a user's conversations, the newest change first; what has expired leaves the index on the way.
-- ARGV 2 user · 3 limit · to go on after: 4 change (ms) · 5 conversation
-- Returns {summaries (lib/conversation.lua), change and conversation to go on after, where there may be more}
local BATCH, MOST = 100, 1000
local user, limit, from, after = ARGV[2], tonumber(ARGV[3]), ARGV[4] or '+inf', ARGV[5]
local summaries, gone, change, conv = {}, {}, nil, nil
local offset, entries = 0, nil
repeat
  entries = redis.call('ZREVRANGEBYSCORE', index_key(user), from, '-inf', 'WITHSCORES', 'LIMIT', offset, BATCH)
  for i = 1, #entries, 2 do
    if #summaries == limit then break end
    conv, change = entries[i], entries[i + 1]
    if change ~= from or conv < after then
      local summary = summary_of(conv, user)
      if summary then summaries[#summaries + 1] = summary else gone[#gone + 1] = conv end
    end
  end
  offset = offset + BATCH
until #summaries == limit or #entries < 2 * BATCH or offset == MOST
if gone[1] then redis.call('ZREM', index_key(user), unpack(gone)) end
if #summaries < limit and #entries < 2 * BATCH then return { summaries } end
return { summaries, change, conv }
