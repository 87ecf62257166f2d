--!include core index
-- Look for jobs, newest first: through the smallest index that holds all that match, a bounded number of entries a call.
-- ARGV 2 place to go on before ('' none) · 3 most jobs · 4 most entries to look at · 5 '1': ids alone · then pairs of
--   filters: state user model worker code, id (its beginning), from and to (created, ms)
-- Returns {place to go on before ('' at the end), per job: {id, record}, or id}
local BATCH = 100
local before, limit, budget, ids_alone = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local wanted = {}
for i = 6, #ARGV, 2 do wanted[ARGV[i]] = ARGV[i + 1] end

local FIELDS = { state = 'state', user = 'user', model = 'model', code = 'code' }

-- The smallest index, and what it leaves to be checked of each record: {field, value}, ….
local function narrowest()
  local best, size = P .. 'jobs', math.huge
  for _, what in ipairs({ 'state', 'user', 'worker' }) do
    local value = wanted[what]
    if value and not (what == 'user' and value == '') then
      local count = redis.call('ZCARD', index_of(what, value))
      if count < size then best, size = index_of(what, value), count end
    end
  end
  return best
end

local index = narrowest()
local fields, values = { 'state' }, { nil }
for what, field in pairs(FIELDS) do
  if wanted[what] and index ~= index_of(what, wanted[what]) then
    fields[#fields + 1] = field
    values[#fields] = wanted[what]
  end
end
local runner_index = wanted.worker and index ~= index_of('worker', wanted.worker) and index_of('worker', wanted.worker)

local function matches(id)
  local row = redis.call('HMGET', key('job', id), unpack(fields))
  if not row[1] then
    redis.call('ZREM', index, id)
    return false
  end
  for i = 2, #fields do
    if row[i] ~= values[i] then return false end
  end
  return not runner_index or redis.call('ZSCORE', runner_index, id)
end

local function named(id) return not wanted.id or string.sub(id, 1, #wanted.id) == wanted.id end

local found, place = {}, ''
local newest = wanted.to and string.format('%.0f', wanted.to * 1000 + 999) or '+inf'
local oldest = wanted.from and string.format('%.0f', wanted.from * 1000) or '-inf'
if before ~= '' and (newest == '+inf' or tonumber(before) <= tonumber(newest)) then newest = '(' .. before end
local entries
repeat
  entries = redis.call('ZREVRANGEBYSCORE', index, newest, oldest, 'WITHSCORES', 'LIMIT', 0, BATCH)
  for i = 1, #entries, 2 do
    if #found == limit then return { place, unpack(found) } end
    local id = entries[i]
    place = entries[i + 1]
    if named(id) and matches(id) then
      found[#found + 1] = ids_alone and id or { id, redis.call('HGETALL', key('job', id)) }
    end
  end
  budget = budget - BATCH
  newest = '(' .. place
until #entries < 2 * BATCH or budget <= 0
if #entries < 2 * BATCH then place = '' end
return { place, unpack(found) }
