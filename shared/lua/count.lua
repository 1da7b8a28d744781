-- Add what a process has counted to the metrics, once: a sending that is repeated changes nothing.
-- KEYS: base. ARGV: process, number of the sending, how many models may have counters of their own, then field and amount of each.
-- Returns 1, or 0 if it was counted before.
local counted = base .. 'counted:' .. ARGV[1]
if tonumber(redis.call('GET', counted) or 0) >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', counted, ARGV[2], 'PX', 86400000)
redis.call('HSET', base .. 'metrics', 'most', ARGV[3])
for i = 4, #ARGV, 2 do count(ARGV[i], ARGV[i + 1]) end
return 1
