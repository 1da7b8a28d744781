-- Forget a key that is not valid any more; the last one stays, since the service would be open to everybody without it.
-- KEYS: base. ARGV: id. Returns 'unknown' | 'active' | 'last' | 'deleted'.
local key = base .. 'apikey:' .. ARGV[1]
local h = redis.call('HMGET', key, 'digest', 'expires', 'revoked')
if not h[1] then return 'unknown' end
if not h[3] and not (h[2] and tonumber(h[2]) <= now) then return 'active' end
if redis.call('SCARD', base .. 'apikeys') == 1 then return 'last' end
redis.call('DEL', key)
redis.call('SREM', base .. 'apikeys', ARGV[1])
return 'deleted'
