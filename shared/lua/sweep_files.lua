-- Uploads that were given up, and files that have expired. Their entries go when their bytes are gone.
-- KEYS: base. ARGV: most of each, grace (ms) of a file that a job still reads. Returns {prefixes of uploads, ids of files}.
local function expired(key) return redis.call('ZRANGE', key, '-inf', integer(now), 'BYSCORE', 'LIMIT', 0, ARGV[1]) end
local gone = {}
for _, id in ipairs(expired(base .. 'files')) do
  if tonumber(redis.call('HGET', base .. 'file:' .. id, 'users') or 0) > 0 then
    local expires = integer(now + ARGV[2])
    redis.call('HSET', base .. 'file:' .. id, 'expires', expires)
    redis.call('ZADD', base .. 'files', expires, id)
  else
    redis.call('DEL', base .. 'file:' .. id)
    gone[#gone + 1] = id
  end
end
return { expired(base .. 'uploads'), gone }
