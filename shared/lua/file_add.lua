-- Keep an uploaded file. KEYS: base. ARGV: id, upload, file (JSON), time to live (ms). Returns its expiry (ms), or nil if the upload was given up.
local known = redis.call('HGET', base .. 'file:' .. ARGV[1], 'expires')
if known then return known end  -- the answer to the first try was lost
if tonumber(redis.call('ZSCORE', base .. 'uploads', ARGV[2]) or 0) <= now then return nil end
local expires = integer(now + ARGV[4])
redis.call('HSET', base .. 'file:' .. ARGV[1], 'file', ARGV[3], 'expires', expires, 'users', 0)
redis.call('ZADD', base .. 'files', expires, ARGV[1])
redis.call('ZREM', base .. 'uploads', ARGV[2])
return expires
