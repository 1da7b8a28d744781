-- Have an unfinished job in stages begin anew: of all that it had read, cut and written nothing is left but its input. So it is after a
-- restore, and where a failover forgot that a unit was done, and what that was made of is removed. A job that was to be cancelled is; one
-- whose version is registered only has to say so, and goes on.
-- KEYS: base. ARGV: id, then of a worker that misses what its unit is made of: fence, how often a job may begin anew at most. Returns 1, or
-- 0 if there is nothing to begin, the lease was lost, or it began anew so often.
local id, fence = ARGV[1], ARGV[2]
local job, batch = base .. 'job:' .. id, base .. 'batch:' .. id
local h = facts(id)
local j = redis.call('HMGET', job, 'cancel', 'phase', 'kind', 'deadline')
if h[1] ~= 'queued' and h[1] ~= 'running' or j[2] == 'registering' then return 0 end
if fence then
  if redis.call('HGET', base .. 'unit:' .. fence, 'lane') ~= id then return 0 end
  if tonumber(redis.call('HGET', batch, 'begun') or 0) >= tonumber(ARGV[3]) then return 0 end
  -- Deletes first: they are allowed when memory is used up and let the rest of the script through. Whoever else is at work on this job does
  -- what no longer counts.
  for _, other in ipairs(redis.call('ZRANGE', base .. 'leases', 0, -1)) do
    if redis.call('HGET', base .. 'unit:' .. other, 'lane') == id then
      redis.call('ZREM', base .. 'leases', other)
      redis.call('DEL', base .. 'unit:' .. other)
    end
  end
  redis.call('HINCRBY', batch, 'begun', 1)
end
if j[1] == '1' then
  end_batch(id, h, '')
  announce('d', { id })
  return 1
end
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('DEL', base .. 'slices:' .. id, base .. 'again:' .. id, base .. 'parts:' .. id, base .. 'reasons:' .. id)
redis.call('HDEL', batch, 'plan_attempt', 'final_attempt', 'owner', 'owned', 'layout', 'position', 'pace', 'scored', 'began', 'ended', 'outcome')
redis.call('HSET', batch, 'plan', 'waiting', 'stop', '', 'slices', 0, 'next', 0, 'rows', 0, 'flying', 0, 'final', '')
-- The rows of an artifact's check are none from the beginning; of a file they are counted by its plan.
if j[3] ~= 'register' then redis.call('HDEL', job, 'total') end
redis.call('HDEL', job, 'succeeded', 'failed', 'started', 'phase')
if h[1] == 'running' then
  check_move(id, h[1], 'queued')
  redis.call('HSET', job, 'status', 'queued', 'attempt', 0)
end
redis.call('HSET', job, 'revision', h[2] + 1)
-- A deadline that was over once had stopped it.
if j[4] then redis.call('ZADD', base .. 'deadlines', j[4], id) end
refresh_lane(id)
announce('r', { id })
return 1
