-- Take a unit of work and lease it: both or neither, so no job is ever without a lane or a lease.
-- KEYS: base. ARGV: queue, worker, most jobs, most rows, lease (ms), linger (ms, 0 = do not), answered ('1' = a doorbell is being answered),
-- outcome of a job whose deadline is over, lane of the worker's last unit ('' if none).
-- Returns nil if there is nothing to do (the worker then stands in linger:<queue>), else {fence, lane, ring, {id, attempt, spec, rows}, ...}.
local queue, worker = ARGV[1], ARGV[2]
local ready = base .. 'ready:' .. queue
local ids, taken, late = {}, {}, {}
local lane
-- Deleting is allowed when memory is used up, and lets the rest of the script through: work in hand can end.
redis.call('ZREM', base .. 'linger:' .. queue, worker)
if ARGV[7] == '1' then redis.call('DEL', base .. 'bell:' .. queue) end

while #ids == 0 do
  -- The lane that was served longest ago comes first, so none holds the workers to itself.
  lane = redis.call('ZRANGE', ready, 0, 0)[1]
  if not lane then break end
  local key, rows, gone = base .. 'lane:' .. lane, 0, {}
  for _, id in ipairs(redis.call('ZRANGE', key, 0, ARGV[3] - 1)) do
    local h = facts(id, 'attempt', 'started')
    local attempt, total = tonumber(h[8]), tonumber(h[3])
    if h[6] and tonumber(h[6]) <= now then
      finish(id, h, 'failed', 0, 0, ARGV[8])
      late[#late + 1] = id
      gone[#gone + 1] = id
    else
      -- A job whose worker died is tried alone, so that it takes no other with it.
      if #ids > 0 and (attempt > 0 or rows + total > tonumber(ARGV[4])) then break end
      ids[#ids + 1] = id
      gone[#gone + 1] = id
      taken[#taken + 1] = h
      rows = rows + total
      if attempt > 0 then break end
    end
  end
  if #gone > 0 then redis.call('ZREM', key, unpack(gone)) end
  if redis.call('EXISTS', key) == 1 then
    redis.call('ZADD', ready, integer(micros), lane)
  else
    redis.call('ZREM', ready, lane)
  end
end
announce('d', late)
if ARGV[9] ~= '' and ARGV[9] ~= lane then redis.call('DEL', base .. 'busy:' .. ARGV[9]) end
if #ids == 0 then
  if ARGV[6] ~= '0' then redis.call('ZADD', base .. 'linger:' .. queue, integer(now + ARGV[6]), worker) end
  return nil
end

local fence = integer(redis.call('INCR', base .. 'fence'))
local reply = { fence, lane, 0 }
for i, id in ipairs(ids) do
  local h = taken[i]
  check_move(id, h[1], 'running')
  redis.call('HSET', base .. 'job:' .. id, 'status', 'running', 'revision', h[2] + 1, 'attempt', h[8] + 1, 'fence', fence,
    'started', h[9] or integer(now))
  reply[#reply + 1] = { id, h[8] + 1, redis.call('GET', base .. 'spec:' .. id), redis.call('GET', base .. 'rows:' .. id) }
end
redis.call('HSET', base .. 'unit:' .. fence, 'lane', lane, 'queue', queue, 'worker', worker, 'pulled', integer(micros),
  'jobs', table.concat(ids, ' '))
sign_busy(lane)
redis.call('ZADD', base .. 'leases', integer(now + ARGV[5]), fence)
announce('r', ids)
if redis.call('EXISTS', ready) == 1 then reply[3] = call_worker(queue) end
return reply
