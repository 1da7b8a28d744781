-- Forget a version that nothing needs. Its number stays taken, and stands in `removed` until its files are gone.
-- KEYS: base. ARGV: model, version. Returns {'deleted'} | {'unknown'} | {'alias', alias, ...} | {'jobs', how many wait, how many units run, ids of unfinished jobs in stages, ...}.
local name, number = ARGV[1], ARGV[2]
local model, lane = base .. 'model:' .. name, name .. '@' .. number
if redis.call('HEXISTS', model, 'v:' .. number) == 0 then return { 'unknown' } end
local aliases, others = { 'alias' }, false
local record = redis.call('HGETALL', model)
for i = 1, #record, 2 do
  local alias = string.match(record[i], '^alias:(.*)$')
  if alias and record[i + 1] == number then aliases[#aliases + 1] = alias end
  others = others or string.sub(record[i], 1, 2) == 'v:' and record[i] ~= 'v:' .. number
end
if #aliases > 1 then return aliases end
local needing = { 'jobs', redis.call('ZCARD', base .. 'lane:' .. lane), 0 }
for _, fence in ipairs(redis.call('ZRANGE', base .. 'leases', 0, -1)) do
  if redis.call('HGET', base .. 'unit:' .. fence, 'lane') == lane then needing[3] = needing[3] + 1 end
end
for _, id in ipairs(redis.call('SMEMBERS', base .. 'batches')) do
  local spec = redis.call('GET', base .. 'spec:' .. id)
  local s = spec and cjson.decode(spec) or {}
  -- A training may start from a version of another model.
  local from = s.train and s.train.recipe.base
  if s.model == name and s.version == tonumber(number) or from == lane then needing[#needing + 1] = id end
end
if needing[2] + needing[3] > 0 or #needing > 3 then return needing end

-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('HDEL', model, 'v:' .. number)
redis.call('DEL', base .. 'version:' .. lane)
if not others then redis.call('SREM', base .. 'models', name) end
redis.call('HSET', model, 'gone:' .. number, 1)
redis.call('HINCRBY', model, 'changes', 1)
redis.call('SADD', base .. 'removed', lane)
redis.call('SADD', base .. 'unsaved', name)
return { 'deleted' }
