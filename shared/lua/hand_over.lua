-- Make a model another owner's. KEYS: base. ARGV: model, owner ('' = nobody's in particular). Returns 1, or 0 if there is no such model.
local model = base .. 'model:' .. ARGV[1]
if redis.call('SISMEMBER', base .. 'models', ARGV[1]) == 0 then return 0 end
-- The first write is one that Redis refuses when its memory is used up, and a refused script has written nothing.
redis.call('SADD', base .. 'unsaved', ARGV[1])
local before, versions = redis.call('HGET', model, 'owner'), {}
for _, field in ipairs(redis.call('HKEYS', model)) do versions[#versions + 1] = string.match(field, '^v:(%d+)$') end
for _, number in ipairs(versions) do let_go_version(ARGV[1], number) end
if before then redis.call('SREM', base .. 'owned:' .. before, ARGV[1]) end
if ARGV[2] == '' then
  redis.call('HDEL', model, 'owner')
else
  redis.call('HSET', model, 'owner', ARGV[2])
  redis.call('SADD', base .. 'owned:' .. ARGV[2], ARGV[1])
end
for _, number in ipairs(versions) do hold_version(ARGV[1], number) end
redis.call('HINCRBY', model, 'changes', 1)
return 1
