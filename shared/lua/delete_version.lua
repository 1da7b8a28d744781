-- Forget a version that nothing needs, or a whole model with its aliases, history, schedule and windows of drift. Numbers of versions and revisions go on
-- where they were in a later life of the model, and what was deleted stands in `removed` until its files are gone.
-- KEYS: base. ARGV: model, version ('' = all of it), owner who is told ids of jobs, of its own alone ('' = of all).
-- Returns {'deleted', version, ...} | {'unknown'} | {'alias', alias, ...} | {'jobs', how many wait, how many units run, how many unfinished jobs in stages are of other
-- owners, ids of the rest, ...}.
local name, whole = ARGV[1], ARGV[2] == ''
local model = base .. 'model:' .. name
local going, late, lost, moved, aliases, others = {}, {}, {}, {}, { 'alias' }, false
local record = redis.call('HGETALL', model)
for i = 1, #record, 2 do
  local kind, rest = string.match(record[i], '^(%a+):(.*)$')
  if kind == 'v' then
    if whole or rest == ARGV[2] then going[rest] = true else others = true end
  elseif kind == 'alias' and record[i + 1] == ARGV[2] then
    aliases[#aliases + 1] = rest
  elseif kind == 'job' then
    late[record[i + 1]] = true
  elseif kind == 'revision' then
    moved[#moved + 1] = rest
  end
  if kind == 'alias' or kind == 'moved' or kind == 'job' then lost[#lost + 1] = record[i] end
end
if next(going) == nil then return { 'unknown' } end
if #aliases > 1 then return aliases end
local needing, lanes, sources = { 'jobs', 0, 0, 0 }, {}, {}
for number in pairs(going) do
  local lane = name .. '@' .. number
  local manifest = redis.call('GET', base .. 'version:' .. lane)
  lanes[lane] = true
  -- A job that has just made it has not said so yet.
  if manifest then sources[cjson.decode(manifest).source_job or ''] = true end
  for _, owner in ipairs(redis.call('ZRANGE', base .. 'sharers:' .. lane, 0, -1)) do
    needing[2] = needing[2] + redis.call('ZCARD', base .. 'lane:' .. lane .. of(owner))
  end
end
-- Those that wait for a worker of a newer version stand in no lane meanwhile.
for _, id in ipairs(redis.call('ZRANGE', base .. 'aside:' .. 'online', 0, -1)) do
  local h = redis.call('HMGET', base .. 'job:' .. id, 'status', 'lane')
  if h[1] == 'queued' and lanes[h[2]] then needing[2] = needing[2] + 1 end
end
for _, fence in ipairs(redis.call('ZRANGE', base .. 'leases', 0, -1)) do
  if lanes[redis.call('HGET', base .. 'unit:' .. fence, 'lane')] then needing[3] = needing[3] + 1 end
end
for _, id in ipairs(redis.call('SMEMBERS', base .. 'batches')) do
  local spec = redis.call('GET', base .. 'spec:' .. id)
  local s = spec and cjson.decode(spec) or {}
  -- A training may start from a version of another model, and so may one that makes the first version of this one.
  local from = s.train and s.train.recipe.base
  if s.model == name and (whole or s.version == tonumber(ARGV[2])) or from and lanes[from] or sources[id] then
    if ARGV[3] == '' or owner_of(id) == ARGV[3] then needing[#needing + 1] = id else needing[4] = needing[4] + 1 end
  end
end
if needing[2] + needing[3] + needing[4] > 0 or #needing > 4 then return needing end

local function go(number)
  redis.call('HSET', model, 'gone:' .. number, 1)
  redis.call('SADD', base .. 'removed', name .. '@' .. number)
end

-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
local deleted = { 'deleted' }
for number in pairs(going) do
  redis.call('HDEL', model, 'v:' .. number)
  redis.call('DEL', base .. 'version:' .. name .. '@' .. number)
  let_go_version(name, number)
  deleted[#deleted + 1] = tonumber(number)
end
for i = 1, #record, 2 do
  if going[record[i + 1]] and string.sub(record[i], 1, 4) == 'job:' then redis.call('HDEL', model, record[i]) end
end
for number in pairs(going) do go(number) end
if whole then
  -- What somebody is about to register comes too late.
  for _, field in ipairs(lost) do redis.call('HDEL', model, field) end
  for number in pairs(late) do if not going[number] then go(number) end end
end
if not others then
  local schedule = base .. 'schedule:' .. name
  redis.call('SREM', base .. 'models', name)
  redis.call('SREM', base .. 'owned:' .. (redis.call('HGET', model, 'owner') or ''), name)
  redis.call('HDEL', model, 'owner')
  for _, alias in ipairs(moved) do redis.call('DEL', base .. 'history:' .. name .. '@' .. alias) end
  redis.call('DEL', base .. 'drift:' .. name)
  -- Its counters go too, and leave their room to another model.
  if redis.call('SREM', base .. 'metered', name) == 1 then
    for _, field in ipairs(redis.call('HKEYS', base .. 'metrics')) do
      local metric, _, counted = string.match(field, '^(%S+) (%S+) (%S+)')
      if counted == name and string.sub(metric, 1, 5) == 'jobs_' then redis.call('HDEL', base .. 'metrics', field) end
    end
  end
  redis.call('ZREM', base .. 'schedules', name)
  redis.call('SREM', base .. 'watching', name)
  -- As schedule_delete.lua does it.
  if redis.call('HDEL', schedule, 'schedule', 'times', 'last', 'ran') > 0 then redis.call('HINCRBY', schedule, 'revision', 1) end
end
redis.call('HINCRBY', model, 'changes', 1)
redis.call('SADD', base .. 'unsaved', name)
if not others then redis.call('SADD', base .. 'uncopied', name) end
return deleted
