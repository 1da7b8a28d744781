-- Put before every script of the job store. KEYS[1] is always the base of all keys, "{prefix}:"; keys derived from it
-- share its hash tag, so they lie on the same server.

local base = KEYS[1]

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local micros = clock()
local now = math.floor(micros / 1000)

-- The same table as shared/job.py, TRANSITIONS.
local legal = {
  queued = { running = true, cancelled = true, failed = true },
  running = { queued = true, succeeded = true, partially_succeeded = true, failed = true, cancelled = true },
}

-- %.0f: a number of this size would otherwise be written with an exponent.
local function integer(number) return string.format('%.0f', number) end

local function check_move(id, before, after)
  if not (legal[before] and legal[before][after]) then
    error('illegal transition of ' .. id .. ' from ' .. tostring(before) .. ' to ' .. after)
  end
end

-- What `finish` needs to know of a job, to be read together with what a script itself needs.
local function facts(id, ...)
  return redis.call('HMGET', base .. 'job:' .. id, 'status', 'revision', 'total', 'ttl', 'tombstone', 'deadline', 'kind', ...)
end

-- The queue of a job in stages, whose units only the workers of that queue do.
local function queue_of(id) return redis.call('HGET', base .. 'job:' .. id, 'queue') end

-- Forget how far a job in stages was, and let go of its file.
local function forget_batch(id)
  local file = redis.call('HGET', base .. 'batch:' .. id, 'file')
  if file and redis.call('EXISTS', base .. 'file:' .. file) == 1 then redis.call('HINCRBY', base .. 'file:' .. file, 'users', -1) end
  redis.call('DEL', base .. 'batch:' .. id, base .. 'slices:' .. id, base .. 'again:' .. id, base .. 'parts:' .. id, base .. 'reasons:' .. id)
  redis.call('SREM', base .. 'batches', id)
  redis.call('SADD', base .. 'ended', id)
  redis.call('ZREM', base .. 'ready:' .. queue_of(id), id)
end

-- Write a final status; rows that are not accounted for count as skipped. `h` are the job's facts.
local function finish(id, h, after, succeeded, failed, outcome)
  check_move(id, h[1], after)
  local job, ttl = base .. 'job:' .. id, tonumber(h[4])
  if h[7] then
    -- Of a file that was not read to its end, the rows that were seen are the total.
    if not h[3] then h[3] = redis.call('HGET', base .. 'batch:' .. id, 'rows') end
    redis.call('HSET', job, 'total', h[3], 'phase', '')
    forget_batch(id)
  end
  redis.call('HSET', job, 'status', after, 'revision', h[2] + 1, 'fence', '', 'succeeded', succeeded, 'failed', failed,
    'skipped', h[3] - succeeded - failed, 'finished', integer(now), 'expires', integer(now + ttl))
  redis.call('PEXPIRE', job, ttl + h[5])
  redis.call('PEXPIRE', base .. 'spec:' .. id, ttl)
  redis.call('PEXPIRE', base .. 'rows:' .. id, ttl)
  if outcome ~= '' then redis.call('SET', base .. 'outcome:' .. id, outcome, 'PX', ttl) end
  if h[6] then redis.call('ZREM', base .. 'deadlines', id) end
end

local function enqueue(id, lane, queue, order)
  redis.call('ZADD', base .. 'lane:' .. lane, order, id)
  redis.call('ZADD', base .. 'ready:' .. queue, 'NX', integer(micros), lane)
end

local function leave_lane(id, lane, queue)
  redis.call('ZREM', base .. 'lane:' .. lane, id)
  if redis.call('EXISTS', base .. 'lane:' .. lane) == 0 then redis.call('ZREM', base .. 'ready:' .. queue, lane) end
end

-- Get a worker to look: wake one that lingers, or return 1 if a doorbell must be published by the caller. One bell on
-- its way is enough: whoever answers it calls the next while work is left. A lost bell is forgotten after 5 s.
local function call_worker(queue)
  local linger = base .. 'linger:' .. queue
  -- The one that became idle last: the others may let go.
  local idle = redis.call('ZRANGE', linger, '+inf', integer(now), 'BYSCORE', 'REV', 'LIMIT', 0, 1)[1]
  if idle then
    redis.call('ZREM', linger, idle)
    redis.call('RPUSH', base .. 'wake:' .. idle, 1)
    redis.call('PEXPIRE', base .. 'wake:' .. idle, 60000)
    return 0
  end
  if redis.call('SET', base .. 'bell:' .. queue, 1, 'NX', 'PX', 5000) then return 1 end
  return 0
end

-- The sign that a worker will pull from this lane in a moment: it takes what comes in meanwhile in one call, which is
-- cheaper than waking another worker for it. It is a promise: whoever stops pulling takes the sign down. Only for lanes whose units are quick: below
-- 5 ms of CPU time, or below 25 ms if most of that is the call itself and not its rows (units do not take much longer than
-- the least of late). The sign falls by itself if it takes much longer than usual, or the worker dies.
local function sign_busy(lane)
  local p = redis.call('HMGET', base .. 'pace:' .. lane, 'unit', 'cpu', 'floor')
  if not p[1] then return end
  local cpu, floor = tonumber(p[2]), tonumber(p[3])
  if cpu < 5 or (cpu < 25 and cpu < 2.5 * floor) then
    redis.call('SET', base .. 'busy:' .. lane, 1, 'PX', math.min(100, math.ceil(2 * p[1]) + 2))
  end
end

local function is_busy(lane) return redis.call('EXISTS', base .. 'busy:' .. lane) == 1 end

-- Tell API processes, if any has clients that wait: 'd' = these jobs are done, 'r' = they changed otherwise.
local function announce(kind, ids)
  if #ids == 0 then return end
  if redis.call('EXISTS', kind == 'd' and base .. 'awaited' or base .. 'followed') == 1 then
    redis.call('PUBLISH', base .. 'changes', kind .. ' ' .. table.concat(ids, ' '))
  end
end

-- Which unit of a job in stages can be handed out now: 'again' (a chunk that was lost), 'plan', 'chunk', 'final' or nil.
-- A plan that unpacks a stream is kept for the worker that has it open, if that asks soon enough, and waits while many
-- slices are not scored yet, so that what is unpacked does not fill the disk.
local function next_unit(id, worker)
  local b = redis.call('HMGET', base .. 'batch:' .. id, 'plan', 'stop', 'slices', 'next', 'flying', 'final', 'owner', 'owned')
  if not b[1] then return nil end
  local idle = b[5] == '0' and b[6] == ''
  if b[2] ~= '' then return idle and (b[1] == 'waiting' or b[1] == 'done') and 'final' or nil end
  if redis.call('EXISTS', base .. 'again:' .. id) == 1 then return 'again' end
  if b[1] == 'waiting' and (not b[7] or b[3] - b[4] < 32 and (not worker or b[7] == worker or tonumber(b[8]) <= now)) then
    return 'plan'
  end
  if tonumber(b[4]) < tonumber(b[3]) then return 'chunk' end
  return b[1] == 'done' and idle and 'final' or nil
end

-- A job in stages stands in ready:<queue> while it has a unit to hand out; a job of high priority as if it had waited for long.
local function refresh_lane(id)
  if next_unit(id) then
    local head = redis.call('HGET', base .. 'batch:' .. id, 'head')
    redis.call('ZADD', base .. 'ready:' .. queue_of(id), 'NX', integer(micros + head), id)
  else
    redis.call('ZREM', base .. 'ready:' .. queue_of(id), id)
  end
end

-- Hand out nothing more of a job in stages: what is done is made into its output, then it ends. `outcome` is why it failed.
local function stop_batch(id, why, outcome)
  local batch = base .. 'batch:' .. id
  if redis.call('HGET', batch, 'stop') ~= '' then return end
  redis.call('HSET', batch, 'stop', why, 'outcome', outcome)
  redis.call('DEL', base .. 'again:' .. id)
  refresh_lane(id)
end

-- Whether more rows failed than the job allows; of a fraction only once all rows are counted.
local function check_failed(id, failed)
  local b = redis.call('HMGET', base .. 'batch:' .. id, 'most', 'fraction', 'plan', 'rows')
  failed = tonumber(failed)
  if b[1] ~= '' and failed > tonumber(b[1]) or b[2] ~= '' and b[3] == 'done' and failed > b[2] * b[4] then
    stop_batch(id, 'failed_rows', '')
  end
end

-- End a job in stages without its output: cancelled if that was promised, else for the first reason that was found.
local function end_batch(id, h, outcome)
  local counts = redis.call('HMGET', base .. 'job:' .. id, 'succeeded', 'failed', 'cancel')
  local first = redis.call('HGET', base .. 'batch:' .. id, 'outcome')
  if first and first ~= '' then outcome = first end
  local cancelled = counts[3] == '1'
  finish(id, h, cancelled and 'cancelled' or 'failed', counts[1] or 0, counts[2] or 0, cancelled and '' or outcome)
end

-- The lease of a unit of a job in stages ended without a commit. A lost chunk is tried again slice by slice, so that one that
-- kills its worker takes no other with it; after the last attempt the rows of that slice fail without being predicted.
-- A chunk that was given `back`, since it could not be done for the moment, is tried again as if it never had been.
local function release_batch(u, max_attempts, outcome, back)
  local id, attempt = u[1], tonumber(u[7])
  local batch, h = base .. 'batch:' .. id, facts(id)
  if h[1] ~= 'running' then return end
  -- A version that is registered is there to stay: the job may not fail any more.
  local registered = redis.call('HGET', base .. 'job:' .. id, 'phase') == 'registering'
  local lost = not back and attempt >= tonumber(max_attempts) and not registered
  local tried = back and attempt - 1 or attempt
  if u[4] == 'plan' then
    redis.call('HSET', batch, 'plan', 'waiting', 'plan_attempt', tried)
    redis.call('HDEL', batch, 'owner', 'owned')
    if lost then stop_batch(id, 'failed', outcome) end
  elseif u[4] == 'final' then
    redis.call('HSET', batch, 'final', '', 'final_attempt', tried)
    if lost then
      end_batch(id, h, outcome)
      return true
    end
  else
    redis.call('HINCRBY', batch, 'flying', -1)
    if redis.call('HGET', batch, 'stop') == '' then
      if back then
        redis.call('ZADD', base .. 'again:' .. id, u[5], u[5] .. ' ' .. u[6] .. ' ' .. u[7])
      elseif attempt > tonumber(max_attempts) then
        stop_batch(id, 'failed', outcome)
      else
        for first = u[5], u[5] + u[6] - 1 do
          redis.call('ZADD', base .. 'again:' .. id, first, integer(first) .. ' 1 ' .. integer(attempt + 1))
        end
      end
    end
  end
  redis.call('HSET', base .. 'job:' .. id, 'revision', h[2] + 1)
  refresh_lane(id)
end

-- End the lease of a unit that was not committed. Its jobs go back to the head of their lane, each to be tried alone,
-- or end: cancelled if that was wanted, failed with `outcome` if no attempt is left.
local function release(fence, max_attempts, outcome, back)
  local unit = base .. 'unit:' .. fence
  local u = redis.call('HMGET', unit, 'lane', 'queue', 'jobs', 'kind', 'first', 'count', 'attempt')
  redis.call('ZREM', base .. 'leases', fence)
  redis.call('DEL', unit)
  local again, done = {}, {}
  if not u[1] then return again, done, nil end
  if u[4] then
    local ended = release_batch(u, max_attempts, outcome, back)
    return ended and {} or { u[1] }, ended and { u[1] } or {}, u[2]
  end
  for id in string.gmatch(u[3], '%S+') do
    local h = facts(id, 'fence', 'attempt', 'cancel', 'order')
    if h[1] == 'running' and h[8] == fence then
      if h[10] == '1' then
        finish(id, h, 'cancelled', 0, 0, '')
        done[#done + 1] = id
      elseif tonumber(h[9]) >= tonumber(max_attempts) then
        finish(id, h, 'failed', 0, 0, outcome)
        done[#done + 1] = id
      else
        check_move(id, h[1], 'queued')
        redis.call('HSET', base .. 'job:' .. id, 'status', 'queued', 'revision', h[2] + 1, 'fence', '')
        enqueue(id, u[1], u[2], h[11])
        again[#again + 1] = id
      end
    end
  end
  return again, done, u[2]
end
