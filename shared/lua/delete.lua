-- Remove a finished job; a tombstone answers for it for a while.
-- KEYS: base. ARGV: id, tombstone (ms), owner. Returns 'unknown' | 'gone' | 'unfinished' | 'deleted' | 'stored' (deleted; its files remain to be removed).
local id = ARGV[1]
local job = base .. 'job:' .. id
local h = redis.call('HMGET', job, 'status', 'expires', 'seq', 'size')
local owner = owner_of(id)
if not h[1] or owner ~= ARGV[3] then return 'unknown' end
if h[1] == 'deleted' or (h[2] and tonumber(h[2]) <= now) then return 'gone' end
if not h[2] then return 'unfinished' end
redis.call('DEL', job, base .. 'spec:' .. id, base .. 'rows:' .. id, base .. 'result:' .. id, base .. 'outcome:' .. id)
let_go(owner, id)
redis.call('HSET', job, 'status', 'deleted')
if owner ~= 'default' then redis.call('HSET', job, 'owner', owner) end
if h[4] then
  redis.call('HSET', job, 'size', h[4])  -- the sweep removes the files too, should the caller not get to it
else
  redis.call('XDEL', base .. 'jobs' .. of(owner), h[3])
end
redis.call('PEXPIRE', job, ARGV[2])
announce('g', { id })
return h[4] and 'stored' or 'deleted'
