-- Keep a reading of the load, for who wants to know what it was; any number of janitors may take some.
-- KEYS: base. ARGV: reading (JSON), least time between two (ms), how many are kept, how long they are (ms).
-- Returns 1, or 0 if the newest is not old enough. In front of each stands when it was taken (ms).
local readings = base .. 'readings'
local newest = redis.call('LINDEX', readings, 0)
if newest and now - string.match(newest, '^%d+') < tonumber(ARGV[2]) then return 0 end
redis.call('LPUSH', readings, integer(now) .. ' ' .. ARGV[1])
redis.call('LTRIM', readings, 0, ARGV[3] - 1)
redis.call('PEXPIRE', readings, ARGV[4])
return 1
