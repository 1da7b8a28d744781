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
  return redis.call('HMGET', base .. 'job:' .. id, 'status', 'revision', 'total', 'ttl', 'tombstone', 'deadline', ...)
end

-- Write a final status; rows that are not accounted for count as skipped. `h` are the job's facts.
local function finish(id, h, after, succeeded, failed, outcome)
  check_move(id, h[1], after)
  local job, ttl = base .. 'job:' .. id, tonumber(h[4])
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

-- End the lease of a unit that was not committed. Its jobs go back to the head of their lane, each to be tried alone,
-- or end: cancelled if that was wanted, failed with `outcome` if no attempt is left.
local function release(fence, max_attempts, outcome)
  local unit = base .. 'unit:' .. fence
  local u = redis.call('HMGET', unit, 'lane', 'queue', 'jobs')
  redis.call('ZREM', base .. 'leases', fence)
  redis.call('DEL', unit)
  local again, done = {}, {}
  if not u[1] then return again, done, nil end
  for id in string.gmatch(u[3], '%S+') do
    local h = facts(id, 'fence', 'attempt', 'cancel', 'order')
    if h[1] == 'running' and h[7] == fence then
      if h[9] == '1' then
        finish(id, h, 'cancelled', 0, 0, '')
        done[#done + 1] = id
      elseif tonumber(h[8]) >= tonumber(max_attempts) then
        finish(id, h, 'failed', 0, 0, outcome)
        done[#done + 1] = id
      else
        check_move(id, h[1], 'queued')
        redis.call('HSET', base .. 'job:' .. id, 'status', 'queued', 'revision', h[2] + 1, 'fence', '')
        enqueue(id, u[1], u[2], h[10])
        again[#again + 1] = id
      end
    end
  end
  return again, done, u[2]
end
