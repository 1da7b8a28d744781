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

local function move(job, before, after)
  if not (legal[before] and legal[before][after]) then
    error('illegal transition of ' .. job .. ' from ' .. tostring(before) .. ' to ' .. after)
  end
  redis.call('HINCRBY', job, 'revision', 1)
end

-- Write a final status; rows that are not accounted for count as skipped.
local function finish(id, before, after, succeeded, failed, outcome)
  local job = base .. 'job:' .. id
  move(job, before, after)
  local h = redis.call('HMGET', job, 'total', 'ttl', 'tombstone')
  local ttl, expires = tonumber(h[2]), now + h[2]
  redis.call('HSET', job, 'status', after, 'fence', '', 'succeeded', succeeded, 'failed', failed,
    'skipped', h[1] - succeeded - failed, 'finished', integer(now), 'expires', integer(expires))
  redis.call('PEXPIRE', job, ttl + h[3])
  redis.call('PEXPIRE', base .. 'spec:' .. id, ttl)
  redis.call('PEXPIRE', base .. 'rows:' .. id, ttl)
  if outcome ~= '' then redis.call('SET', base .. 'outcome:' .. id, outcome, 'PX', ttl) end
  redis.call('ZREM', base .. 'active', id)
  redis.call('ZREM', base .. 'deadlines', id)
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

local function announce(kind, ids)
  if #ids > 0 then redis.call('PUBLISH', base .. 'changes', kind .. ' ' .. table.concat(ids, ' ')) end
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
    local job = base .. 'job:' .. id
    local h = redis.call('HMGET', job, 'status', 'fence', 'attempt', 'cancel', 'order')
    if h[1] == 'running' and h[2] == fence then
      if h[4] == '1' then
        finish(id, 'running', 'cancelled', 0, 0, '')
        done[#done + 1] = id
      elseif tonumber(h[3]) >= tonumber(max_attempts) then
        finish(id, 'running', 'failed', 0, 0, outcome)
        done[#done + 1] = id
      else
        move(job, 'running', 'queued')
        redis.call('HSET', job, 'status', 'queued', 'fence', '')
        enqueue(id, u[1], u[2], h[5])
        again[#again + 1] = id
      end
    end
  end
  return again, done, u[2]
end
