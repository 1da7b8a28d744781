-- End a chunk: count its rows and note its part, once. A repeated commit, or one whose lease was lost, changes nothing.
-- KEYS: base. ARGV: fence, part (JSON), succeeded, failed, then reason and rows of each kind of failure. Returns 1 if the part counts.
local fence = ARGV[1]
local u = redis.call('HMGET', base .. 'unit:' .. fence, 'lane', 'first', 'count', 'pulled')
if not u[1] then return 0 end
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('ZREM', base .. 'leases', fence)
redis.call('DEL', base .. 'unit:' .. fence)
local id = u[1]
local job, batch = base .. 'job:' .. id, base .. 'batch:' .. id
local h = facts(id)
if h[1] ~= 'running' then return 0 end
redis.call('HINCRBY', batch, 'flying', -1)
redis.call('HSET', base .. 'parts:' .. id, u[2], ARGV[2])
redis.call('HINCRBY', job, 'succeeded', ARGV[3])
local failed = redis.call('HINCRBY', job, 'failed', ARGV[4])
redis.call('HSET', job, 'revision', h[2] + 1)
for i = 5, #ARGV, 2 do redis.call('HINCRBY', base .. 'reasons:' .. id, ARGV[i], ARGV[i + 1]) end
-- Slices a second of one worker.
local pace, before = u[3] * 1000000 / math.max(micros - u[4], 1), redis.call('HGET', batch, 'pace')
redis.call('HSET', batch, 'pace', string.format('%.3f', before and 0.5 * before + 0.5 * pace or pace), 'ended', integer(now))
redis.call('HINCRBY', batch, 'scored', ARGV[3] + ARGV[4])
count_rows(h[7], ARGV[3] + ARGV[4], tonumber(ARGV[4]))
check_failed(id, failed)
refresh_lane(id)
announce('r', { id })
return 1
