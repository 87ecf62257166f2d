--!include core index count timers watch queue conversation create
-- Store a new job, once per (user, client id), and watch it.
-- ARGV 2 job · 3 user ('' anonymous) · 4 client id · 5 digest · 6 model · 7 priority · 8 on_disconnect · 9 request
--   10 replica · 11 trace ('' none) · 12 conversation ('' none) · 13 new|next|again · of a new one: 14 seed · 15 title
--   of another answer: 14 turn · 15 version that was read · 16 '1': the same prompt
-- Returns {new|known|conflict|conversation_not_found|conversation_busy|queue_full|too_many_jobs, job, jobs ahead}
local id, user, client, digest, model, prio = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local conv, place = ARGV[12], ARGV[13]
local idem = key('idem', user .. ':' .. client)

local existing = redis.call('GET', idem)
local known = existing and load_job(existing)
if known then return { known.digest == digest and 'known' or 'conflict', existing, position(known) } end

local turn = 1
if place == 'next' or place == 'again' then
  local owner, version, turns = unpack(redis.call('HMGET', conv_key(conv), 'user', 'version', 'turns'))
  if owner ~= user then return { 'conversation_not_found', '', 0 } end
  turn = place == 'next' and turns + 1 or tonumber(ARGV[14])
  if busy_job(conv) or place == 'again' and (version ~= ARGV[15] or turn > tonumber(turns)) then
    return { 'conversation_busy', '', 0 }
  end
end

local refusal = no_room(user, model)
if refusal then return { refusal, '', 0 } end

if place == 'new' then
  redis.call('HSET', conv_key(conv),
    'user', user, 'model', model, 'title', ARGV[15], 'created', now, 'version', 0, 'turns', 0, 'seed', ARGV[14])
end
local job = create({
  id = id, user = user, client = client, digest = digest, model = model, prio = prio, on_disconnect = ARGV[8],
  request = ARGV[9], trace = ARGV[11] ~= '' and ARGV[11] or nil, conv = conv ~= '' and conv or nil,
  turn = conv ~= '' and turn or nil, same = ARGV[16] == '1' and '1' or nil,
})
watch(job, ARGV[10])
return { 'new', id, position(job) }
