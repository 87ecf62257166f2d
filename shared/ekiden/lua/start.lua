--!include core index count timers watch
-- Keep a job's prompt, once, and tell its watchers that it started.
-- ARGV 2 worker · 3 job · 4 fence · 5 prompt (memory.StoredPrompt) · 6 tokens of the whole prompt · of the prompt:
--   7 dropped turns · 8 retokenized tokens · 9 first turn
-- Returns 1, or 0 when fenced
local job = load_job(ARGV[3])
if not job or job.state ~= 'running' or job.fence ~= ARGV[4] or job.owner ~= ARGV[2] then return 0 end
if not job.started then
  set(job, 'started', '1', 'prompt_tokens', ARGV[6], 'dropped', ARGV[7], 'retokenized', ARGV[8],
    'first_turn', ARGV[9])
  redis.call('SET', key('prompt', job.id), ARGV[5])
  total('tokens:prompt', tonumber(ARGV[6]))
  tell(job.id, cmsgpack.pack({ 's', job.id, tonumber(job.attempt), tonumber(ARGV[7]) }))
  flush()
end
return 1
