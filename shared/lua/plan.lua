-- Add slices (of a train job fits) to a job in stages, and say how far its plan is.
-- KEYS: base. ARGV: fence, 'more' | 'pause' (the unit ends, the plan goes on) | 'done', worker, how long the plan of a stream is kept for that worker (ms, 0 = it is none),
-- layout (JSON), position (JSON), rows so far, slices before these, rows that failed while it was planned, then the slices. Returns {1 if the unit goes on, 1 if a doorbell must be
-- published, slices that no worker has begun}; a unit that does not go on after 'more' has lost its lease, or the job stops.
local fence, mode = ARGV[1], ARGV[2]
local unit = base .. 'unit:' .. fence
local u = redis.call('HMGET', unit, 'lane', 'queue')
local id, queue = u[1], u[2]
if not id then return { 0, 0, 0 } end
local job, batch = base .. 'job:' .. id, base .. 'batch:' .. id
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREM', base .. 'leases', '')
local b = redis.call('HMGET', batch, 'plan', 'stop')
if b[1] ~= fence then return { 0, 0, 0 } end
if b[2] ~= '' or mode ~= 'more' then
  redis.call('ZREM', base .. 'leases', fence)
  redis.call('DEL', unit)
end
if b[2] ~= '' then
  redis.call('HSET', batch, 'plan', 'waiting')
  refresh_lane(id)
  return { 0, call_worker(queue), 0 }
end
if redis.call('HGET', batch, 'slices') == ARGV[8] then  -- else this is a repeat: the answer to the first try was lost
  for i = 10, #ARGV do redis.call('RPUSH', base .. 'slices:' .. id, ARGV[i]) end
  redis.call('HINCRBY', batch, 'slices', #ARGV - 9)
end
redis.call('HSET', batch, 'layout', ARGV[5], 'position', ARGV[6], 'rows', ARGV[7], 'plan_attempt', 0)
if mode == 'pause' then
  redis.call('HSET', batch, 'plan', 'waiting')
  if ARGV[4] ~= '0' then redis.call('HSET', batch, 'owner', ARGV[3], 'owned', integer(now + ARGV[4])) end
elseif mode == 'done' then
  redis.call('HSET', batch, 'plan', 'done')
  redis.call('HSET', job, 'total', ARGV[7])
  if ARGV[9] ~= '0' then redis.call('HSET', job, 'failed', ARGV[9]) end
  check_failed(id, redis.call('HGET', job, 'failed') or 0)
end
redis.call('HINCRBY', job, 'revision', 1)
refresh_lane(id)
announce('r', { id })
local waiting = redis.call('HGET', batch, 'slices') - redis.call('HGET', batch, 'next')
return { mode == 'more' and 1 or 0, redis.call('EXISTS', base .. 'ready:' .. queue) == 1 and call_worker(queue) or 0, waiting }
