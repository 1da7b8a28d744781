-- Take a unit of a job in stages (over a file, a training, a check of an artifact) and lease it: both or neither.
-- KEYS: base. ARGV: worker, lease (ms), linger (ms, 0 = do not), answered ('1' = a doorbell is being answered), most slices of a chunk,
-- seconds of work of a chunk, outcome of a job whose deadline is over, queue, newest schema that the worker can read.
-- Returns nil if there is nothing to do (the worker then stands in linger:<queue>), else {fence, job, ring, kind, attempt, spec,
-- state} and for a chunk its first slice's number, then its slices; for the final unit the parts as {first slice, part, ...}, the reasons
-- as {reason, rows, ...} and the job's succeeded, failed and total.
local worker, queue = ARGV[1], ARGV[8]
local ready, id, kind, owner = base .. 'ready:' .. queue, nil, nil, nil
-- Deleting is allowed when memory is used up, and lets the rest of the script through: work in hand can end.
redis.call('ZREM', base .. 'linger:' .. queue, worker)
if ARGV[4] == '1' then redis.call('DEL', base .. 'bell:' .. queue) end

take_up(queue, ARGV[9])

local h, late = nil, {}
-- The owner that was served longest ago comes first, and of its jobs that which was; so none holds the workers to itself.
for _, candidate_owner in ipairs(redis.call('ZRANGE', ready, 0, -1)) do
  if redis.call('EXISTS', base .. 'batch:' .. candidate_owner) == 1 then
    -- A job from before owners took turns.
    redis.call('ZREM', ready, candidate_owner)
    refresh_lane(candidate_owner)
  end
  for _, candidate in ipairs(redis.call('ZRANGE', base .. 'work:' .. queue .. of(candidate_owner), 0, -1)) do
    local facts_ = facts(candidate, 'started', 'phase')
    if facts_[1] == 'queued' and facts_[6] and tonumber(facts_[6]) <= now then
      finish(candidate, facts_, 'failed', 0, 0, ARGV[7])
      late[#late + 1] = candidate
    elseif schema_of(candidate) > tonumber(ARGV[9]) then
      set_aside(candidate, queue)
      step_out(queue, candidate_owner, candidate)
    else
      kind = next_unit(candidate, worker)
      if kind then
        id, h, owner = candidate, facts_, candidate_owner
        break
      end
    end
  end
  if id then break end
end
announce('d', late)
if not id then
  if ARGV[4] == '1' then count('doorbells_empty_total ' .. queue) end
  if ARGV[3] ~= '0' then redis.call('ZADD', base .. 'linger:' .. queue, integer(now + ARGV[3]), worker) end
  return nil
end

local job, batch = base .. 'job:' .. id, base .. 'batch:' .. id
local b = redis.call('HMGET', batch, 'slices', 'next', 'flying', 'pace', 'plan_attempt', 'final_attempt', 'head', 'plan')
local fence = new_fence()
local first, count, attempt, extra = 0, 0, 1, {}
if kind == 'plan' then
  attempt = (b[5] or 0) + 1
  redis.call('HSET', batch, 'plan', fence)
elseif kind == 'final' then
  attempt = (b[6] or 0) + 1
  redis.call('HSET', batch, 'final', fence)
  -- What is registered by now can no longer be cancelled.
  if h[13] ~= 'registering' then redis.call('HSET', job, 'phase', 'finalising') end
  local counts = redis.call('HMGET', job, 'succeeded', 'failed', 'total')
  extra = { redis.call('HGETALL', base .. 'parts:' .. id), redis.call('HGETALL', base .. 'reasons:' .. id), counts[1] or 0,
    counts[2] or 0, counts[3] }
else
  if kind == 'again' then
    local member = redis.call('ZPOPMIN', base .. 'again:' .. id)[1]
    first, count, attempt = string.match(member, '(%d+) (%d+) (%d+)')
  else
    local left = b[1] - b[2]
    -- As much as was measured to take that long; less towards the end, so that all workers end at about the same time.
    count = b[4] and math.floor(b[4] * ARGV[6]) or 1
    if b[8] == 'done' then count = math.min(count, math.floor(left / (2 * b[3] + 2))) end
    count = math.max(1, math.min(count, ARGV[5], left))
    first = tonumber(b[2])
    redis.call('HINCRBY', batch, 'next', count)
  end
  redis.call('HINCRBY', batch, 'flying', 1)
  redis.call('HSETNX', batch, 'began', integer(now))
  redis.call('HSET', job, 'phase', 'scoring')
  extra = { tonumber(first), unpack(redis.call('LRANGE', base .. 'slices:' .. id, first, first + count - 1)) }
end
if h[1] == 'queued' then
  redis.call('HSET', job, 'status', 'running', 'attempt', 1, 'started', h[12] or integer(now), 'phase', 'validating')
  observe('queue_seconds ' .. h[7], now - h[10])
end
redis.call('HSET', job, 'revision', h[2] + 1)
redis.call('HSET', base .. 'unit:' .. fence, 'lane', id, 'queue', queue, 'worker', worker, 'pulled', integer(micros), 'jobs', id,
  'kind', kind == 'again' and 'chunk' or kind, 'first', first, 'count', count, 'attempt', attempt)
redis.call('ZADD', base .. 'leases', integer(now + ARGV[2]), fence)
redis.call('ZREM', base .. 'work:' .. queue .. of(owner), id)
refresh_lane(id)
redis.call('ZADD', ready, 'XX', integer(micros), owner)
announce('r', { id })
local ring = redis.call('EXISTS', ready) == 1 and call_worker(queue) or 0
local state = redis.call('HMGET', batch, 'layout', 'position', 'stop', 'outcome', 'rows', 'plan')
return { fence, id, ring, kind == 'again' and 'chunk' or kind, tonumber(attempt), redis.call('GET', base .. 'spec:' .. id), state, unpack(extra) }
