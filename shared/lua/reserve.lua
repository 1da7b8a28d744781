-- Give a version its number before there is anything of it: the same token gets the same number, so that work which is done again ends in one version.
-- KEYS: base. ARGV: model, token. Returns the number.
local model = base .. 'model:' .. ARGV[1]
local known = redis.call('HGET', model, 'job:' .. ARGV[2])
if known then return tonumber(known) end
-- In the copy in storage the last number counts too: none may be given twice.
redis.call('SADD', base .. 'unsaved', ARGV[1])
local number = redis.call('HINCRBY', model, 'last', 1)
redis.call('HSET', model, 'job:' .. ARGV[2], number)
redis.call('HINCRBY', model, 'changes', 1)
redis.call('ZADD', base .. 'reserved', integer(now), ARGV[1] .. '@' .. integer(number) .. ' ' .. ARGV[2])
return number
