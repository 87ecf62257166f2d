--!include core index count timers watch queue conversation finish park take
-- Repeat claims whose reply was lost: same fence, same attempt, so a lost reply is no move. One that is to
-- end, ends; one that is to be parked, is.
-- ARGV 2 worker · then the jobs it knows
-- Returns claims (lib/take.lua), or nil when the worker is fenced
local worker = ARGV[2]
if not redis.call('ZSCORE', P .. 'workers', worker) then return false end
local knows = {}
for i = 3, #ARGV do knows[ARGV[i]] = true end
local claims = {}
for _, id in ipairs(redis.call('SMEMBERS', key('worker', worker .. ':jobs'))) do
  if not knows[id] then
    local job = load_job(id)
    if job and job.owner == worker and job.cancel then
      cancel(job)
    elseif job and job.owner == worker and job.park then
      park(job)
    elseif job and job.state == 'running' and job.owner == worker then
      claims[#claims + 1] = claim_of(job)
    else
      redis.call('SREM', key('worker', worker .. ':jobs'), id)
    end
  end
end
flush()
return claims
