-- A job as a replica sees it, with its log from `cursor` on (see store.types.Snapshot).
local function view(job, cursor)
  local ended = not live(job)
  local expired = ended and tonumber(job.ended) + policy.keep_log_s * 1000 <= now
  local records = {}
  if not expired and cursor < tonumber(job.n) then records = redis.call('LRANGE', key('log', job.id), cursor, -1) end
  return {
    job.id, job.client, job.state, tonumber(job.attempt), tonumber(job.n), job.started and 1 or 0,
    tonumber(job.dropped or '0'), position(job), expired and 1 or 0, ended and ended_frame(job) or '', records,
    job.conv or '', number(job.parks),
  }
end
