-- Keep an uploaded file. KEYS: base. ARGV: id, upload, file (JSON), time to live (ms), owner, bytes, most bytes of the owner in
-- storage ('' if any). Returns its expiry (ms, a string), the bytes that the owner has in storage if there is no room, or nil if the upload was given up.
local known = redis.call('HGET', base .. 'file:' .. ARGV[1], 'expires')
if known then return known end  -- the answer to the first try was lost
if tonumber(redis.call('ZSCORE', base .. 'uploads', ARGV[2]) or 0) <= now then return nil end
local held = tonumber(redis.call('HGET', base .. 'usage' .. of(ARGV[5]), 'bytes') or 0)
if ARGV[7] ~= '' and held + ARGV[6] > tonumber(ARGV[7]) then return held end
local expires = integer(now + ARGV[4])
redis.call('HSET', base .. 'file:' .. ARGV[1], 'file', ARGV[3], 'expires', expires, 'users', 0)
if ARGV[5] ~= 'default' then redis.call('HSET', base .. 'file:' .. ARGV[1], 'owner', ARGV[5]) end
hold(ARGV[5], ARGV[1], ARGV[6])
redis.call('ZADD', base .. 'files', expires, ARGV[1])
redis.call('ZADD', base .. 'files:' .. ARGV[5], 0, ARGV[1])
redis.call('ZREM', base .. 'uploads', ARGV[2])
return expires
