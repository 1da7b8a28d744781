-- Set right what versions count to an owner, where a release that did not count them has registered or deleted some.
-- KEYS: base. ARGV: owner, one of its models ('' = take off what versions count that are not its any more).
-- Returns how many versions were set right. One call a model, so that none takes long; what is right stays as it is.
local owner, name, count = ARGV[1], ARGV[2], 0
local held = base .. 'held' .. of(owner)
local function is_its(model, number)
  local m = redis.call('HMGET', base .. 'model:' .. model, 'owner', 'v:' .. number)
  return m[1] == owner and m[2]
end

if name == '' then
  for _, member in ipairs(redis.call('HKEYS', held)) do
    local model, number = string.match(member, '^(.+)@(%d+)$')
    if model and not is_its(model, number) then
      let_go(owner, member)
      count = count + 1
    end
  end
  return count
end
for _, field in ipairs(redis.call('HKEYS', base .. 'model:' .. name)) do
  local number = string.match(field, '^v:(%d+)$')
  if number and is_its(name, number) and redis.call('HEXISTS', held, name .. '@' .. number) == 0 then
    hold_version(name, number)
    count = count + 1
  end
end
return count
