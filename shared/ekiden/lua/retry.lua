--!include core index count timers watch queue conversation create park audit
-- Ask again what went wrong, as a new job of the same user, which nobody needs to watch.
-- ARGV 2 job · 3 new job · 4 retry|requeue (the latter for poison) · 5 operator · 6 its key · 7 '1': note it in the audit
--   log
-- Returns {new|missing|not_applicable|again|expired|conversation_busy|queue_full|too_many_jobs, state found}
local action, noted = ARGV[4], ARGV[7] == '1'
local job = load_job(ARGV[2])
if not job then return { 'missing', '' } end

local function refusal(request)
  local failed = job.state == 'error' or job.state == 'cancelled'
  if not failed or (job.code == 'poison') ~= (action == 'requeue') then return 'not_applicable' end
  if job.retried then return 'again' end -- the same order came twice
  if not request then return 'expired' end
  local full = no_room(job.user, job.model)
  if full or not job.conv then return full end
  -- It may answer where it would have answered, as long as nothing was kept there since.
  local owner, turns = unpack(redis.call('HMGET', conv_key(job.conv), 'user', 'turns'))
  if owner ~= job.user then return 'expired' end
  if busy_job(job.conv) or tonumber(turns) ~= job.turn - 1 then return 'conversation_busy' end
end

local request = redis.call('GET', key('request', job.id))
local outcome = refusal(request) or 'new'
if outcome == 'new' then
  local new = create({
    id = ARGV[3], user = job.user, client = ARGV[3], digest = job.digest, model = job.model, prio = job.prio,
    on_disconnect = 'keep', request = request, conv = job.conv, turn = job.turn, same = job.same, retry_of = job.id,
  })
  set(job, 'retried', new.id)
  wake(new.model)
end
if noted then
  local detail = outcome == 'new' and ARGV[3] or job.state
  audit(ARGV[5], ARGV[6], action, job.id, detail, outcome == 'new' and 'done' or outcome)
end
return { outcome, job.state }
