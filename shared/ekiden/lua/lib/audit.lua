-- audit STREAM: what operators did, the last AUDIT_LENGTH or a few more.
local AUDIT_LENGTH = 10000

local function audit(user, by_key, action, target, detail, outcome)
  redis.call('XADD', KEYS[1] .. 'audit', 'MAXLEN', '~', AUDIT_LENGTH, '*', 'user', user, 'key', by_key,
    'action', action, 'target', target, 'detail', detail, 'outcome', outcome)
end
