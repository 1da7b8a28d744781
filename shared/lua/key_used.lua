-- Note that a key was used; one that was deleted in this moment stays so. KEYS: base. ARGV: id. Returns 1, or 0 if there is no such key.
local key = base .. 'apikey:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then return 0 end
redis.call('HSET', key, 'used', integer(now))
return 1
