-- Say what the unit of a job in stages is at; for display only.
-- KEYS: base. ARGV: fence, phase. Returns 1, or 0 if the lease was lost.
local id = redis.call('HGET', base .. 'unit:' .. ARGV[1], 'lane')
if not id then return 0 end
local job = base .. 'job:' .. id
redis.call('HSET', job, 'phase', ARGV[2])
redis.call('HINCRBY', job, 'revision', 1)
announce('r', { id })
return 1
