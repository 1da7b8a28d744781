-- End a key for ever. KEYS: base. ARGV: id. Returns 1, or 0 if there is no such key.
local key = base .. 'apikey:' .. ARGV[1]
if redis.call('HDEL', key, 'previous', 'until') == 0 and redis.call('EXISTS', key) == 0 then return 0 end
redis.call('HSETNX', key, 'revoked', integer(now))
return 1
