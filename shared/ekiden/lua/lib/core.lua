-- Names, time and the job record. KEYS[1]: key prefix with its hash tag. ARGV[1]: the policy, a msgpack map.
--
-- job:<id> HASH: state fence attempt deaths owner n user client digest model prio seq on_disconnect solo solo_for
--   created claimed first ended (ms) · queue_due run_due park_due abandon_at (ms) · parks (how often) · of a parked one:
--   run_left (ms) · asked of its worker: cancel park ('1') · started ('1') prompt_tokens cached dropped retokenized
--   first_turn · offered ('1': left to less busy workers) · reason code message · of a conversation: conv turn same ('1')
--   place (lib/index.lua) · a<attempt> (the same) · retry_of retried (jobs) · trace (W3C traceparent)
local P = KEYS[1]
local policy = cmsgpack.unpack(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function key(kind, id) return P .. kind .. ':' .. id end

-- The record as a table of strings, or nil.
local function load_job(id)
  local flat = redis.call('HGETALL', key('job', id))
  if #flat == 0 then return nil end
  local job = { id = id }
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  return job
end

-- Write fields to the record and to the table.
local function set(job, ...)
  local fields = { ... }
  redis.call('HSET', key('job', job.id), unpack(fields))
  for i = 1, #fields, 2 do job[fields[i]] = tostring(fields[i + 1]) end
end

local function unset(job, field)
  if job[field] then
    redis.call('HDEL', key('job', job.id), field)
    job[field] = nil
  end
end

local function live(job) return job.state == 'queued' or job.state == 'running' or job.state == 'parked' end

local function number(text) return tonumber(text or '0') end

-- The bytes that make the `count` msgpack values after them one array.
local function array_header(count)
  if count < 16 then return string.char(0x90 + count) end
  local low, high = count % 65536, math.floor(count / 65536)
  local short = string.char(math.floor(low / 256), low % 256)
  if high == 0 then return '\220' .. short end
  return '\221' .. string.char(math.floor(high / 256), high % 256) .. short
end

-- Keys of a live job have no expiry, as a stopped fleet must not lose it: a timer ends every job, and its end sets them.
-- A worker's description outlives every outage of the store that it sits out; remove_worker deletes it much earlier.
local WORKER_TTL_MS = 86400000
