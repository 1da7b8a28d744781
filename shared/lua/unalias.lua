-- Remove an alias, with an entry in the history.
-- KEYS: base. ARGV: model, alias, revision that it must have ('' = any), entry of the history (JSON without its beginning), most entries.
-- Returns {'done'} | {'unknown'} | {'conflict', version, revision}.
local name, alias = ARGV[1], ARGV[2]
local model, history = base .. 'model:' .. name, base .. 'history:' .. name .. '@' .. alias
local m = redis.call('HMGET', model, 'alias:' .. alias, 'revision:' .. alias)
if not m[1] then return { 'unknown' } end
if ARGV[3] ~= '' and (m[2] or '0') ~= ARGV[3] then return { 'conflict', m[1], m[2] or '0' } end
-- The first write is one that Redis refuses when its memory is used up, and a refused script has written nothing.
redis.call('SADD', base .. 'unsaved', name)
redis.call('LPUSH', history, '{"at":' .. integer(now) .. ',"from":' .. m[1] .. ',' .. ARGV[4])
redis.call('LTRIM', history, 0, ARGV[5] - 1)
redis.call('HDEL', model, 'alias:' .. alias, 'moved:' .. alias)
-- The revision goes on, so that one of another life of the alias is never taken for one of this.
redis.call('HINCRBY', model, 'revision:' .. alias, 1)
redis.call('HINCRBY', model, 'changes', 1)
return { 'done' }
