--!include core audit
-- Note something in the audit log.
-- ARGV 2 operator · 3 its key · 4 action · 5 target · 6 detail · 7 outcome
audit(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return 1
