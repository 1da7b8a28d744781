-- Keep a new key for the API. KEYS: base. ARGV: id, digest, lifetime (ms, '' = for ever), then field and value of what else is known of it.
-- Returns 1. A repeat writes the same once more.
local key = base .. 'apikey:' .. ARGV[1]
redis.call('HSET', key, 'digest', ARGV[2], 'created', integer(now), unpack(ARGV, 4))
if ARGV[3] ~= '' then redis.call('HSET', key, 'expires', integer(now + ARGV[3])) end
redis.call('SADD', base .. 'apikeys', ARGV[1])
return 1
