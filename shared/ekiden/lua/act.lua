--!include core index count timers watch queue conversation finish park ask parking audit
-- What an operator does to jobs, whoever's they are.
-- ARGV 2 cancel|park|resume|priority · 3 priority · 4 operator · 5 its key · 6 '1': note each job in the audit log · then
--   jobs
-- Returns per job the state it was found in ('' where there is none), and 1 when the action applies to that state
local action, priority, noted = ARGV[2], tonumber(ARGV[3]), ARGV[6] == '1'

local function change_priority(job)
  local waits = job.state == 'queued'
  if waits then dequeue(job) end
  set(job, 'prio', priority)
  if waits then enqueue(job) end
  return true
end

local ACTIONS = {
  cancel = function(job)
    local may = live(job)
    stop(job)
    return may
  end,
  park = ask_park,
  resume = ask_resume,
  priority = function(job) return live(job) and change_priority(job) end,
}

local results = {}
for i = 7, #ARGV do
  local job = load_job(ARGV[i])
  local found = job and job.state or ''
  local applies = job and ACTIONS[action](job)
  results[#results + 1], results[#results + 2] = found, applies and 1 or 0
  if noted and job then
    local detail = action == 'priority' and ARGV[3] or found
    audit(ARGV[4], ARGV[5], action, job.id, detail, applies and 'done' or 'not_applicable')
  end
end
flush()
return results
