-- Forget a file that no unfinished job reads; it stays in `files`, as expired, until its bytes are gone.
-- KEYS: base. ARGV: id, owner. Returns 'unknown' | 'in use' | 'deleted'.
local h = redis.call('HMGET', base .. 'file:' .. ARGV[1], 'users', 'expires', 'owner')
if not h[1] or tonumber(h[2]) <= now or (h[3] or 'default') ~= ARGV[2] then return 'unknown' end
if tonumber(h[1]) > 0 then return 'in use' end
redis.call('DEL', base .. 'file:' .. ARGV[1])
let_go(ARGV[2], ARGV[1])
redis.call('ZADD', base .. 'files', 0, ARGV[1])
redis.call('ZREM', base .. 'files:' .. ARGV[2], ARGV[1])
return 'deleted'
