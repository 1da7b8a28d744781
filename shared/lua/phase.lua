-- Say what the unit of a job in stages is at; for display only. What is registered stays `registering`, which cancel.lua and others look at.
-- KEYS: base. ARGV: fence, phase. Returns 1, or 0 if the lease was lost.
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREM', base .. 'leases', '')
local id = redis.call('HGET', base .. 'unit:' .. ARGV[1], 'lane')
if not id then return 0 end
local job = base .. 'job:' .. id
if redis.call('HGET', job, 'phase') == 'registering' then return 1 end
redis.call('HSET', job, 'phase', ARGV[2])
redis.call('HINCRBY', job, 'revision', 1)
announce('r', { id })
return 1
