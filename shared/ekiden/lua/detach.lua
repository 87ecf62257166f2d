--!include core index count timers watch queue conversation finish ask due
-- A replica stops watching a job.
-- ARGV 2 replica · 3 job
leave(ARGV[3], ARGV[2])
flush()
return 1
