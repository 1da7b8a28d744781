-- Take a unit of work and lease it: both or neither, so no job is ever without a lane or a lease.
-- KEYS: base. ARGV: queue, worker, most jobs, most rows, lease (ms), linger (ms, 0 = do not), answered ('1' = a doorbell is being answered),
-- outcome of a job whose deadline is over, lane of the worker's last unit ('' if none), newest schema that the worker can read.
-- Returns nil if there is nothing to do (the worker then stands in linger:<queue>), else {fence, lane, ring, {id, attempt, spec, rows,
-- how long ago it was accepted (ms)}, ...}.
local queue, worker = ARGV[1], ARGV[2]
local ready = base .. 'ready:' .. queue
local ids, taken, specs, late = {}, {}, {}, {}
local lane
local most, most_rows, schema = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[10])
-- Deleting is allowed when memory is used up, and lets the rest of the script through: work in hand can end.
redis.call('ZREM', base .. 'linger:' .. queue, worker)
if ARGV[7] == '1' then redis.call('DEL', base .. 'bell:' .. queue) end

take_up(queue, schema)

local rows, alone = 0, false

-- Take up to so many jobs of an owner from the lane, and put it at the end of the lane's line.
local function take(owner, count)
  local gone = {}
  for _, id in ipairs(redis.call('ZRANGE', base .. 'lane:' .. lane .. of(owner), 0, count - 1)) do
    local h = facts(id, 'attempt', 'started')
    local spec = redis.call('GET', base .. 'spec:' .. id) or ''
    local attempt, total = tonumber(h[12]), tonumber(h[3])
    if h[6] and tonumber(h[6]) <= now then
      finish(id, h, 'failed', 0, 0, ARGV[8])
      late[#late + 1] = id
      gone[#gone + 1] = id
    elseif schema_in(spec) > schema then
      set_aside(id, queue)
      gone[#gone + 1] = id
    else
      -- A job whose worker died is tried alone, so that it takes no other with it.
      if #ids > 0 and (attempt > 0 or rows + total > most_rows) then break end
      ids[#ids + 1] = id
      gone[#gone + 1] = id
      taken[#taken + 1] = h
      specs[#specs + 1] = spec
      rows = rows + total
      if attempt > 0 then
        alone = true
        break
      end
    end
  end
  if #gone > 0 and leave_lane(lane, queue, owner, unpack(gone)) then
    redis.call('ZADD', base .. 'sharers:' .. lane, 'XX', integer(micros), owner)
    redis.call('ZADD', base .. 'work:' .. queue .. of(owner), 'XX', integer(micros), lane)
  end
end

while #ids == 0 do
  -- The owner that was served longest ago comes first, and of its lanes that which was; so none holds the workers to itself.
  local owner = redis.call('ZRANGE', ready, 0, 0)[1]
  if not owner then
    lane = nil
    break
  end
  lane = redis.call('ZRANGE', base .. 'work:' .. queue .. of(owner), 0, 0)[1]
  if not lane then
    -- Whoever has no work does not keep others from theirs. What stands here may be a lane from before owners took turns.
    redis.call('ZREM', ready, owner)
    if redis.call('EXISTS', base .. 'lane:' .. owner) == 1 then
      redis.call('ZADD', base .. 'sharers:' .. owner, 'NX', integer(micros), 'default')
      line_up(queue, 'default', owner, micros)
    end
  else
    local sharers = base .. 'sharers:' .. lane
    local others = redis.call('ZCARD', sharers) > 1 and redis.call('ZRANGE', sharers, 0, most) or {}
    -- Who waits in the same lane shares the micro-batch: each gets a part of the room that is left.
    local left = math.max(#others, 1)
    take(owner, math.ceil(most / left))
    -- It has had its turn; those who share this one keep theirs, for their other lanes.
    redis.call('ZADD', ready, 'XX', integer(micros), owner)
    for _, other in ipairs(others) do
      if alone or #ids >= most then break end
      if other ~= owner then
        left = math.max(left - 1, 1)
        take(other, math.ceil((most - #ids) / left))
      end
    end
    if #others > 1 and not alone and #ids > 0 and #ids < most then take(owner, most - #ids) end
  end
end
announce('d', late)
if ARGV[9] ~= '' and ARGV[9] ~= lane then stop_pulling(ARGV[9], worker) end
if #ids == 0 then
  if ARGV[7] == '1' then count('doorbells_empty_total ' .. queue) end
  if ARGV[6] ~= '0' then redis.call('ZADD', base .. 'linger:' .. queue, integer(now + ARGV[6]), worker) end
  return nil
end

local fence = new_fence()
local reply = { fence, lane, 0 }
for i, id in ipairs(ids) do
  local h = taken[i]
  check_move(id, h[1], 'running')
  redis.call('HSET', base .. 'job:' .. id, 'status', 'running', 'revision', h[2] + 1, 'attempt', h[12] + 1, 'fence', fence,
    'started', h[13] or integer(now))
  reply[#reply + 1] = { id, h[12] + 1, specs[i], redis.call('GET', base .. 'rows:' .. id), now - h[10] }
end
redis.call('HSET', base .. 'unit:' .. fence, 'lane', lane, 'queue', queue, 'worker', worker, 'pulled', integer(micros),
  'jobs', table.concat(ids, ' '))
sign_busy(lane, worker)
redis.call('ZADD', base .. 'leases', integer(now + ARGV[5]), fence)
announce('r', ids)
if redis.call('EXISTS', ready) == 1 then reply[3] = call_worker(queue) end
return reply
