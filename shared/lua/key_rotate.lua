-- Give a key a new secret; the one that it had is valid for a while longer. One step, so that of two rotations each sees the other.
-- KEYS: base. ARGV: id, digest of the new secret, overlap (ms). Returns 1, or 0 if there is no such key that is valid.
local key = base .. 'apikey:' .. ARGV[1]
local h = redis.call('HMGET', key, 'digest', 'expires', 'revoked')
if not h[1] or h[3] or h[2] and tonumber(h[2]) <= now then return 0 end
if h[1] == ARGV[2] then return 1 end  -- the answer to the first try was lost
redis.call('HSET', key, 'digest', ARGV[2], 'previous', h[1], 'until', integer(now + ARGV[3]))
return 1
