-- Note that an upload is under way, so that what is left of it is removed if nobody finishes it.
-- KEYS: base. ARGV: prefix in storage, how long it may be idle (ms), 'begin' | 'go on' | 'forget'. Returns 1, or 0 if it was given up.
local uploads = base .. 'uploads'
if ARGV[3] == 'forget' then return redis.call('ZREM', uploads, ARGV[1]) end
if ARGV[3] == 'go on' and tonumber(redis.call('ZSCORE', uploads, ARGV[1]) or 0) <= now then return 0 end
redis.call('ZADD', uploads, integer(now + ARGV[2]), ARGV[1])
return 1
