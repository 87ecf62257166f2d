-- What happens is counted for operators, in the same call in which it happens.
--   totals HASH: everything since the store began
--   stat:<step>:<begin> HASH (both ms): the same for each step of the history, and how it stood:
--     jobs:<finish_reason or error>, moved, tokens:<prompt|completion|cached> · queued, running, parked (at its beginning)
--     · queue:<n>, ttft:<n> (waits of 2^(n/4) − 1 ms and more) · itl:<n> (store/types.py: ITL_BOUNDS_MS)
--     · kv:<host:pid>, hit:<host:pid> (ratios of a worker)
local STEPS = { { ms = 5000, keep_ms = 3600000 + 60000 }, { ms = 60000, keep_ms = 86400000 + 600000 } }
local counted, summed = {}, {}

-- Count something that is of interest for its moment alone.
local function count(field, by) counted[field] = (counted[field] or 0) + by end

-- Count something that is of interest in sum as well.
local function total(field, by)
  count(field, by)
  summed[field] = (summed[field] or 0) + by
end

local function count_wait(field, ms) count(field .. ':' .. math.floor(4 * math.log(ms + 1) / math.log(2) + 1e-9), 1) end

local function in_step(step) return P .. 'stat:' .. step.ms .. ':' .. string.format('%.0f', now - now % step.ms) end

-- Write how something stands, once a step: who comes first in it is as good as any. A longer step begins with a shorter one.
local function sample(field, value)
  for _, step in ipairs(STEPS) do
    if redis.call('HSETNX', in_step(step), field, value) == 0 then return end
    redis.call('PEXPIRE', in_step(step), step.keep_ms)
  end
end

local function write_counts()
  for field, by in pairs(summed) do redis.call('HINCRBY', P .. 'totals', field, by) end
  if not next(counted) then return end
  for _, step in ipairs(STEPS) do
    local name = in_step(step)
    for field, by in pairs(counted) do redis.call('HINCRBY', name, field, by) end
    redis.call('PEXPIRE', name, step.keep_ms)
  end
end
