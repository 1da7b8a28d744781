-- Give up numbers that were reserved long ago for versions that never came: what a crash or a cancelled job left of them can be removed then.
-- KEYS: base. ARGV: how long ago (ms), most numbers. Returns how many were given up.
local reserved, count = base .. 'reserved', 0
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREM', reserved, '')
for _, member in ipairs(redis.call('ZRANGE', reserved, '-inf', integer(now - ARGV[1]), 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  local name, number, token = string.match(member, '^(%S+)@(%d+) (.*)$')
  local status = redis.call('HGET', base .. 'job:' .. token, 'status')
  local model = base .. 'model:' .. name
  if status == 'queued' or status == 'running' then
    redis.call('ZADD', reserved, integer(now), member)
  else
    redis.call('ZREM', reserved, member)
    if redis.call('HEXISTS', model, 'v:' .. number) == 0 then
      redis.call('HDEL', model, 'job:' .. token)
      if redis.call('HSETNX', model, 'gone:' .. number, 1) == 1 then
        redis.call('HINCRBY', model, 'changes', 1)
        redis.call('SADD', base .. 'removed', name .. '@' .. number)
        redis.call('SADD', base .. 'unsaved', name)
        count = count + 1
      end
    end
  end
end
return count
