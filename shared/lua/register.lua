-- Register a version, move an alias, or both: in one step, so that a version is seen together with the move that it came with, or not at all.
-- KEYS: base. ARGV: model, version, manifest ('' = it is registered, only the alias moves), fence of the unit that registers ('' if none),
-- alias ('' = none moves), version that it must point to ('' = it must not exist, '*' = any), revision that it must have ('' = any),
-- entry of the history (JSON without its beginning), most entries, owner of the model if this is its first version ('' = nobody).
-- Returns {'done', manifest or '', version, revision, moved (ms)} of what there is now (the alias blank if none was named) | {'conflict', version or '', revision}
-- | {'lost'} (the lease) | {'unknown'} (the version) | {'gone'} (it was deleted) | {'foreign'} (the model is another owner's than the job)
-- | {'too_many'} (the owner of the job has as many models as it may).
local name, number, manifest, fence, alias = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local model, version = base .. 'model:' .. name, base .. 'version:' .. name .. '@' .. number
local m = redis.call('HMGET', model, 'v:' .. number, 'gone:' .. number, 'alias:' .. alias, 'revision:' .. alias, 'moved:' .. alias)
local points_to, revision = m[3], m[4] or '0'

local function done(kept) return { 'done', kept, points_to or '', revision, m[5] or '' } end

if m[2] then
  -- Whoever comes too late may have written files once more.
  if manifest ~= '' then redis.call('SADD', base .. 'removed', name .. '@' .. number) end
  return { 'gone' }
end
-- A repeat, or somebody else did the same work: what is registered stays as it is.
if manifest ~= '' and m[1] then return done(redis.call('GET', version)) end
if manifest == '' and not m[1] then return { 'unknown' } end
local job
if fence ~= '' then
  job = redis.call('HGET', base .. 'unit:' .. fence, 'jobs')
  if not job then return { 'lost' } end
  local h = redis.call('HMGET', base .. 'job:' .. job, 'status', 'cancel')
  -- Nor after its deadline: a job that failed has made no version.
  if h[1] ~= 'running' or h[2] == '1' or (redis.call('HGET', base .. 'batch:' .. job, 'stop') or '') ~= '' then return { 'lost' } end
  -- Since the job was submitted somebody else may have made the model, or its owner others.
  local spec, owner = cjson.decode(redis.call('GET', base .. 'spec:' .. job) or '{}'), owner_of(job)
  local whose = redis.call('HGET', model, 'owner') or owner
  if whose ~= owner and not spec.any_model then return { 'foreign' } end
  local most = spec.most_models or 0
  if most > 0 and redis.call('SISMEMBER', base .. 'models', name) == 0 and redis.call('SCARD', base .. 'owned:' .. owner) >= most then
    return { 'too_many' }
  end
end
local moves = alias ~= '' and points_to ~= number
-- Also one that somebody else moved to this very version since its revision was read.
if moves and ARGV[6] ~= '*' and (points_to or '') ~= ARGV[6] or alias ~= '' and ARGV[7] ~= '' and revision ~= ARGV[7] then
  return { 'conflict', points_to or '', revision }
end
if manifest == '' and not moves then return done('') end

-- The first write is one that Redis refuses when its memory is used up, and a refused script has written nothing.
redis.call('SADD', base .. 'unsaved', name)
if manifest ~= '' then
  redis.call('SET', version, manifest)
  redis.call('HSET', model, 'v:' .. number, integer(now))
  if tonumber(redis.call('HGET', model, 'last') or 0) < tonumber(number) then redis.call('HSET', model, 'last', number) end
  local owner = job and owner_of(job) or ARGV[10]
  if redis.call('SADD', base .. 'models', name) == 1 and owner ~= '' then
    redis.call('HSET', model, 'owner', owner)
    redis.call('SADD', base .. 'owned:' .. owner, name)
  end
  hold_version(name, number)
end
if moves then
  local history = base .. 'history:' .. name .. '@' .. alias
  redis.call('LPUSH', history, '{"at":' .. integer(now) .. ',"from":' .. (points_to or 'null') .. ',' .. ARGV[8])
  redis.call('LTRIM', history, 0, ARGV[9] - 1)
  points_to, m[5] = number, integer(now)
  revision = integer(redis.call('HINCRBY', model, 'revision:' .. alias, 1))
  redis.call('HSET', model, 'alias:' .. alias, number, 'moved:' .. alias, m[5])
end
redis.call('HINCRBY', model, 'changes', 1)
if job then
  -- From here on it is too late to cancel: see cancel.lua.
  redis.call('HSET', base .. 'job:' .. job, 'phase', 'registering')
  redis.call('HINCRBY', base .. 'job:' .. job, 'revision', 1)
  announce('r', { job })
end
return done(manifest)
