-- Add to a model what its copy in storage has and Redis has not; what Redis knows stays as it is.
-- KEYS: base. ARGV: model, JSON {last, reserved {token: number}, deleted [number], aliases {alias: [version, revision, moved]}, history {alias: [entry]}, owner ('' = nobody's)} with every number as a string,
-- then number and manifest of each version. Returns {{version, ...}, {alias, ...}} of what was added.
local name, about = ARGV[1], cjson.decode(ARGV[2])
local model = base .. 'model:' .. name
local versions, aliases = {}, {}
-- Idle, and refused when memory is used up: a refused script has written nothing.
redis.call('SADD', base .. 'unsaved', name)
for _, number in ipairs(about.deleted) do
  if redis.call('HEXISTS', model, 'v:' .. number) == 0 then redis.call('HSETNX', model, 'gone:' .. number, 1) end
end
local last = math.max(tonumber(redis.call('HGET', model, 'last') or 0), tonumber(about.last))
for i = 3, #ARGV, 2 do
  local number = ARGV[i]
  local known = redis.call('HMGET', model, 'v:' .. number, 'gone:' .. number)
  if not known[1] and not known[2] then
    redis.call('SET', base .. 'version:' .. name .. '@' .. number, ARGV[i + 1])
    redis.call('HSET', model, 'v:' .. number, integer(now))
    -- Whose it is is written with its first version, as in register.lua: a model that Redis knows keeps its owner.
    if redis.call('SADD', base .. 'models', name) == 1 and about.owner ~= '' then
      redis.call('HSET', model, 'owner', about.owner)
      redis.call('SADD', base .. 'owned:' .. about.owner, name)
    end
    hold_version(name, number)
    versions[#versions + 1] = tonumber(number)
  end
  last = math.max(last, tonumber(number))
end
redis.call('HSET', model, 'last', integer(last))
for token, number in pairs(about.reserved) do
  if redis.call('HSETNX', model, 'job:' .. token, number) == 1 then
    redis.call('ZADD', base .. 'reserved', integer(now), name .. '@' .. number .. ' ' .. token)
  end
end
for alias, state in pairs(about.aliases) do
  if redis.call('HEXISTS', model, 'v:' .. state[1]) == 1 and redis.call('HSETNX', model, 'alias:' .. alias, state[1]) == 1 then
    redis.call('HSET', model, 'revision:' .. alias, state[2])
    if state[3] ~= '' then redis.call('HSET', model, 'moved:' .. alias, state[3]) end
    aliases[#aliases + 1] = alias
  end
end
for alias, entries in pairs(about.history) do
  local history = base .. 'history:' .. name .. '@' .. alias
  if redis.call('EXISTS', history) == 0 then redis.call('RPUSH', history, unpack(entries)) end
end
redis.call('HINCRBY', model, 'changes', 1)
return { versions, aliases }
