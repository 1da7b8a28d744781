-- Uploads that were given up, and files that have expired. Their entries go when their bytes are gone. And a look at the files that are
-- there, some a call, round and round: those that a release without lists of owners' files has added go into their owner's.
-- KEYS: base. ARGV: most of each, grace (ms) of a file that a job still reads, where the look goes on ('0' to begin with), about how many it looks at.
-- Returns {prefixes of uploads, ids of files, where the look goes on}.
local function expired(key) return redis.call('ZRANGE', key, '-inf', integer(now), 'BYSCORE', 'LIMIT', 0, ARGV[1]) end
redis.call('ZREM', base .. 'uploads', '')  -- nothing; but after a delete the rest may write when memory is used up
local gone = {}
for _, id in ipairs(expired(base .. 'files')) do
  local h = redis.call('HMGET', base .. 'file:' .. id, 'users', 'owner')
  if tonumber(h[1] or 0) > 0 then
    local expires = integer(now + ARGV[2])
    redis.call('HSET', base .. 'file:' .. id, 'expires', expires)
    redis.call('ZADD', base .. 'files', expires, id)
  else
    let_go(h[2] or 'default', id)
    redis.call('DEL', base .. 'file:' .. id)
    redis.call('ZREM', base .. 'files:' .. (h[2] or 'default'), id)
    gone[#gone + 1] = id
  end
end
local look = redis.call('ZSCAN', base .. 'files', ARGV[3], 'COUNT', ARGV[4])
for i = 1, #look[2], 2 do
  local id = look[2][i]
  local h = redis.call('HMGET', base .. 'file:' .. id, 'file', 'owner')
  if h[1] then redis.call('ZADD', base .. 'files:' .. (h[2] or 'default'), 'NX', 0, id) end
end
return { expired(base .. 'uploads'), gone, look[1] }
