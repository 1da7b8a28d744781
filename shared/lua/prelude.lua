-- What scripts know of jobs: put before every script, after base.lua, which has KEYS[1], and outbox.lua.

-- The same table as shared/job.py, TRANSITIONS.
local legal = {
  queued = { running = true, cancelled = true, failed = true },
  running = { queued = true, succeeded = true, partially_succeeded = true, failed = true, cancelled = true },
}

local function check_move(id, before, after)
  if not (legal[before] and legal[before][after]) then
    error('illegal transition of ' .. id .. ' from ' .. tostring(before) .. ' to ' .. after)
  end
end

-- Whose a job is; and the end of the keys that an owner has for itself. Those of the default owner have none.
local function owner_of(id) return redis.call('HGET', base .. 'job:' .. id, 'owner') or 'default' end
local function of(owner) return owner == 'default' and '' or ':' .. owner end

-- What an owner has: unfinished jobs (`jobs`), those of them in stages (`staged`), rows of the others (`rows`), bytes in storage (`bytes`), versions of its models among them.
local function use(owner, ...)
  local change = { ... }
  for i = 1, #change, 2 do redis.call('HINCRBY', base .. 'usage' .. of(owner), change[i], change[i + 1]) end
end

-- A job or file of an owner takes so many bytes of storage more; and all that it takes is going.
local function hold(owner, id, bytes)
  if tonumber(bytes) > 0 then
    redis.call('HINCRBY', base .. 'held' .. of(owner), id, bytes)
    use(owner, 'bytes', bytes)
  end
end

local function let_go(owner, id)
  local bytes = redis.call('HGET', base .. 'held' .. of(owner), id)
  if bytes then
    redis.call('HDEL', base .. 'held' .. of(owner), id)
    use(owner, 'bytes', -bytes)
  end
end

-- The files of a version take their bytes of the owner of its model; of a model that is nobody's they count to nobody.
local function let_go_version(name, number)
  local owner = redis.call('HGET', base .. 'model:' .. name, 'owner')
  if owner then let_go(owner, name .. '@' .. number) end
end

local function hold_version(name, number)
  local owner = redis.call('HGET', base .. 'model:' .. name, 'owner')
  local manifest = owner and redis.call('GET', base .. 'version:' .. name .. '@' .. number)
  if not manifest then return end
  local m = cjson.decode(manifest)
  let_go_version(name, number)
  -- An older release has not written how many bytes there are beside the artifact.
  hold(owner, name .. '@' .. number, integer(math.max(m.stored_bytes or 0, m.size_bytes or 0)))
end

-- What `finish` needs to know of a job, to be read together with what a script itself needs, from the twelfth on.
local function facts(id, ...)
  return redis.call('HMGET', base .. 'job:' .. id, 'status', 'revision', 'total', 'ttl', 'tombstone', 'deadline', 'kind',
    'owner', 'webhook', 'created', 'lane', ...)
end

-- The queue of a job in stages, whose units only the workers of that queue do.
local function queue_of(id) return redis.call('HGET', base .. 'job:' .. id, 'queue') end

-- Owners take turns, and what one owner has waiting for a queue, lanes or jobs in stages, takes turns among itself.
local function line_up(queue, owner, member, score)
  redis.call('ZADD', base .. 'work:' .. queue .. of(owner), 'NX', integer(score), member)
  redis.call('ZADD', base .. 'ready:' .. queue, 'NX', integer(micros), owner)
end

local function step_out(queue, owner, member)
  local work = base .. 'work:' .. queue .. of(owner)
  redis.call('ZREM', work, member)
  if redis.call('EXISTS', work) == 0 then redis.call('ZREM', base .. 'ready:' .. queue, owner) end
end

-- How many come before a member of an owner's line, given that owners take turns; nil if it is not in it.
local function place(line, owners, owner, member)
  local rank = redis.call('ZRANK', line .. of(owner), member)
  if not rank or redis.call('ZCARD', owners) < 2 then return rank end
  local before = rank
  -- Of very many owners some are enough for an estimate.
  for _, other in ipairs(redis.call('ZRANGE', owners, 0, 99)) do
    if other ~= owner then before = before + math.min(rank, redis.call('ZCARD', line .. of(other))) end
  end
  return before
end

-- Forget how far a job in stages was, and let go of its file.
local function forget_batch(id)
  local file = redis.call('HGET', base .. 'batch:' .. id, 'file')
  if file and redis.call('EXISTS', base .. 'file:' .. file) == 1 then redis.call('HINCRBY', base .. 'file:' .. file, 'users', -1) end
  redis.call('DEL', base .. 'batch:' .. id, base .. 'slices:' .. id, base .. 'again:' .. id, base .. 'parts:' .. id, base .. 'reasons:' .. id)
  redis.call('SREM', base .. 'batches', id)
  redis.call('SADD', base .. 'ended', id)
  step_out(queue_of(id), owner_of(id), id)
end

-- What ends in this call, by owner: jobs, those of them that failed, rows that were tried; what it used of what it may
-- have (see `use`); how long the jobs took, by half powers of two of milliseconds; and the ids of those that failed. It is
-- written down once, by `count_ends`.
local ends = {}

local function note_end(owner, id, after, rows, created, staged, waiting_rows)
  local e = ends[owner]
  if not e then
    e = { 0, 0, 0, staged = 0, rows = 0, took = {} }
    ends[owner] = e
  end
  e[1], e[3] = e[1] + 1, e[3] + rows
  e.staged, e.rows = e.staged + staged, e.rows + waiting_rows
  if after ~= 'cancelled' then
    local bucket = math.floor(2 * math.log(math.max(now - created, 1)) / math.log(2))
    e.took[bucket] = (e.took[bucket] or 0) + 1
  end
  if after == 'failed' then
    e[2] = e[2] + 1
    e.failures = e.failures or {}
    table.insert(e.failures, id)
  end
end

-- The same for the counters of shared/metrics.py: jobs by kind, model and status, those that failed by kind and code, and rows by kind,
-- failed ones among them.
local ended, faults, tried, bad = {}, {}, {}, {}

local function tally(kind, model, after, succeeded, failed)
  local series = kind .. ' ' .. model .. ' ' .. after
  local e = ended[series]
  if not e then
    e = { kind, model, after, 0 }
    ended[series] = e
  end
  e[4] = e[4] + 1
  -- Those of a file are counted with each chunk.
  if kind ~= 'batch' then
    tried[kind] = (tried[kind] or 0) + succeeded + failed
    bad[kind] = (bad[kind] or 0) + failed
  end
end

-- By the code in its outcome. What cannot be read does not stop a job from ending.
local function tally_failure(kind, outcome)
  local readable, told = pcall(cjson.decode, outcome)
  local failure = readable and type(told) == 'table' and told.failure
  local series = kind .. ' ' .. (type(failure) == 'table' and type(failure.code) == 'string' and failure.code or 'other')
  faults[series] = (faults[series] or 0) + 1
end

local function count_rows(kind, rows, failed)
  if rows > 0 then count('rows_total ' .. kind, rows) end
  if failed > 0 then count('rows_failed_total ' .. kind, failed) end
end

-- A slot is ten seconds; shared/overview.py reads the last sixty. Each owner's text in it is "jobs failed rows", then "bucket:jobs" of each bucket.
local function count_ends()
  for owner, e in pairs(ends) do
    use(owner, 'jobs', -e[1])
    if e.staged > 0 then use(owner, 'staged', -e.staged) end
    if e.rows > 0 then use(owner, 'rows', -e.rows) end
    local slot = base .. 'slot:' .. integer(math.floor(now / 10000))
    local before = redis.call('HGET', slot, owner)
    if before then
      local jobs, failed, rows, took = string.match(before, '^(%d+) (%d+) (%d+)(.*)$')
      e[1], e[2], e[3] = e[1] + jobs, e[2] + failed, e[3] + rows
      for bucket, count in string.gmatch(took, '(%d+):(%d+)') do
        bucket = tonumber(bucket)
        e.took[bucket] = (e.took[bucket] or 0) + count
      end
    end
    local text = { integer(e[1]), integer(e[2]), integer(e[3]) }
    for bucket, count in pairs(e.took) do text[#text + 1] = bucket .. ':' .. integer(count) end
    redis.call('HSET', slot, owner, table.concat(text, ' '))
    if not before then redis.call('PEXPIRE', slot, 660000) end
    for _, line in ipairs(e.failures and { base .. 'failures' .. of(owner), base .. 'failures' .. of('*') } or {}) do
      redis.call('LPUSH', line, unpack(e.failures))
      redis.call('LTRIM', line, 0, 49)
      redis.call('PEXPIRE', line, 604800000)
    end
  end
  for _, e in pairs(ended) do count_model('jobs_ended_total ' .. e[1] .. ' ', e[2], ' ' .. e[3], e[4]) end
  for series, jobs in pairs(faults) do count('jobs_failed_total ' .. series, jobs) end
  for kind, rows in pairs(tried) do count_rows(kind, rows, bad[kind]) end
  ends, ended, faults, tried, bad = {}, {}, {}, {}, {}
end

-- Whether the worker itself measures how long the jobs took that end in this call.
local measured = false

-- Write a final status; rows that are not accounted for count as skipped. `h` are the job's facts.
local function finish(id, h, after, succeeded, failed, outcome)
  check_move(id, h[1], after)
  local job, ttl = base .. 'job:' .. id, tonumber(h[4])
  local owner = h[8] or 'default'
  if h[7] then
    -- Of a file that was not read to its end, the rows that were seen are the total.
    if not h[3] then h[3] = redis.call('HGET', base .. 'batch:' .. id, 'rows') end
    redis.call('HSET', job, 'total', h[3], 'phase', '')
    forget_batch(id)
    if h[7] == 'register' then let_go(owner, id) end  -- the artifact that was sent goes with the job's parts
  end
  redis.call('HSET', job, 'status', after, 'revision', h[2] + 1, 'fence', '', 'succeeded', succeeded, 'failed', failed,
    'skipped', h[3] - succeeded - failed, 'finished', integer(now), 'expires', integer(now + ttl))
  redis.call('PEXPIRE', job, ttl + h[5])
  redis.call('PEXPIRE', base .. 'spec:' .. id, ttl)
  redis.call('PEXPIRE', base .. 'rows:' .. id, ttl)
  if outcome ~= '' then redis.call('SET', base .. 'outcome:' .. id, outcome, 'PX', ttl) end
  if h[6] then redis.call('ZREM', base .. 'deadlines', id) end
  note_end(owner, id, after, succeeded + failed, h[10], h[7] and 1 or 0, h[7] and 0 or h[3])
  local spec = (h[7] or h[9]) and redis.call('GET', base .. 'spec:' .. id)
  spec = spec and cjson.decode(spec)
  -- The lane of a job in stages is its id; that of rows is <model>@<version>.
  tally(h[7] or 'predict', h[7] and spec and spec.model or string.match(h[11], '^(.*)@') or 'other', after, succeeded, failed)
  if after == 'failed' then tally_failure(h[7] or 'predict', outcome) end
  if after ~= 'cancelled' and not measured then observe('job_seconds ' .. (h[7] or 'predict'), now - h[10]) end
  if h[9] then put_end(id, owner, spec.webhook.url, 'job.' .. after, h[9], spec.traceparent) end
end

local function enqueue(id, lane, queue, order, owner)
  redis.call('ZADD', base .. 'lane:' .. lane .. of(owner), order, id)
  redis.call('ZADD', base .. 'sharers:' .. lane, 'NX', integer(micros), owner)
  line_up(queue, owner, lane, micros)
end

-- Jobs of an owner have left a lane.
local function leave_lane(lane, queue, owner, ...)
  redis.call('ZREM', base .. 'lane:' .. lane .. of(owner), ...)
  if redis.call('EXISTS', base .. 'lane:' .. lane .. of(owner)) == 0 then
    redis.call('ZREM', base .. 'sharers:' .. lane, owner)
    step_out(queue, owner, lane)
    return false
  end
  return true
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
  if redis.call('SET', base .. 'bell:' .. queue, 1, 'NX', 'PX', 5000) then
    count('doorbells_total ' .. queue)
    return 1
  end
  return 0
end

-- The sign that a worker will pull from this lane in a moment: it takes what comes in meanwhile in one call, which is
-- cheaper than waking another worker for it. It is a promise: whoever stops pulling takes its own sign down. Only for lanes whose units are quick: below
-- 5 ms of CPU time, or below 25 ms if most of that is the call itself and not its rows (units do not take much longer than
-- the least of late). The sign falls by itself if it takes much longer than usual, or the worker dies.
local function sign_busy(lane, worker)
  local p = redis.call('HMGET', base .. 'pace:' .. lane, 'unit', 'cpu', 'floor')
  if not p[1] then return end
  local cpu, floor = tonumber(p[2]), tonumber(p[3])
  if cpu < 5 or (cpu < 25 and cpu < 2.5 * floor) then
    redis.call('SET', base .. 'busy:' .. lane, worker, 'PX', math.min(100, math.ceil(2 * p[1]) + 2))
  end
end

-- Take the sign down if it is this worker's: another one may have put up its own since.
local function stop_pulling(lane, worker)
  if redis.call('GET', base .. 'busy:' .. lane) == worker then redis.call('DEL', base .. 'busy:' .. lane) end
end

local function is_busy(lane) return redis.call('EXISTS', base .. 'busy:' .. lane) == 1 end

-- Tell API processes, if any has use for it: 'd' = these jobs are done, 'r' = they changed otherwise, 'g' = they were deleted.
-- Those that are done are counted. `tell` makes what is said of them besides (none: nothing).
local function announce(kind, ids, tell)
  if #ids == 0 then return end
  if kind == 'd' then count_ends() end
  if kind == 'g' or redis.call('EXISTS', kind == 'r' and base .. 'followed' or base .. 'awaited') == 1 then
    redis.call('PUBLISH', base .. 'changes', kind .. ' ' .. table.concat(ids, ' ') .. (tell and tell() or ''))
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

-- A job in stages stands in its owner's line while it has a unit to hand out; a job of high priority as if it had waited for long.
local function refresh_lane(id)
  if next_unit(id) then
    line_up(queue_of(id), owner_of(id), id, micros + redis.call('HGET', base .. 'batch:' .. id, 'head'))
  else
    step_out(queue_of(id), owner_of(id), id)
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

-- The schema that all about a job is written in: the first field of its spec, see shared/schema.py.
local function schema_in(spec) return tonumber(string.match(spec, '^{"schema":(%d+)') or 1) end
local function schema_of(id) return schema_in(redis.call('GETRANGE', base .. 'spec:' .. id, 0, 30)) end

-- A job that its worker is too old for waits for another one, where it is in nobody's way.
local function set_aside(id, queue) redis.call('ZADD', base .. 'aside:' .. queue, schema_of(id), id) end

-- A worker of this schema is there.
local function take_up(queue, schema)
  local aside = base .. 'aside:' .. queue
  for _, id in ipairs(redis.call('ZRANGE', aside, '-inf', schema, 'BYSCORE', 'LIMIT', 0, 100)) do
    redis.call('ZREM', aside, id)
    local h = redis.call('HMGET', base .. 'job:' .. id, 'status', 'lane', 'order', 'kind')
    if h[4] and legal[h[1]] then
      refresh_lane(id)
    elseif h[1] == 'queued' then
      enqueue(id, h[2], queue, h[3], owner_of(id))
    end
  end
end

-- Whether jobs wait aside; those that have ended meanwhile do no more.
local function wait_aside(queue)
  local aside = base .. 'aside:' .. queue
  for _, id in ipairs(redis.call('ZRANGE', aside, 0, 99)) do
    if not legal[redis.call('HGET', base .. 'job:' .. id, 'status') or ''] then redis.call('ZREM', aside, id) end
  end
  return redis.call('EXISTS', aside) == 1
end

-- A unit is to be tried again, or was given back untried.
local function count_again(queue, back) count((back and 'units_given_back_total ' or 'units_retried_total ') .. queue) end

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
  local again = not lost
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
    again = redis.call('HGET', batch, 'stop') == '' and (back or attempt <= tonumber(max_attempts))
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
  if again then count_again(u[2], back) end
  redis.call('HSET', base .. 'job:' .. id, 'revision', h[2] + 1)
  refresh_lane(id)
end

-- The fence of a new unit: never one that was handed out before. Counted alone, those that were lost with a master, which its replica never
-- heard of, would be handed out again, and who holds such a one could commit another's unit. So they go with the clock.
local function new_fence()
  local fence = integer(math.max((redis.call('GET', base .. 'fence') or 0) + 1, micros))
  redis.call('SET', base .. 'fence', fence)
  return fence
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
    if h[1] == 'running' and h[12] == fence then
      if h[14] == '1' then
        finish(id, h, 'cancelled', 0, 0, '')
        done[#done + 1] = id
      elseif not back and tonumber(h[13]) >= tonumber(max_attempts) then
        finish(id, h, 'failed', 0, 0, outcome)
        done[#done + 1] = id
      else
        check_move(id, h[1], 'queued')
        redis.call('HSET', base .. 'job:' .. id, 'status', 'queued', 'revision', h[2] + 1, 'fence', '', 'attempt', back and h[13] - 1 or h[13])
        enqueue(id, u[1], u[2], h[15], h[8] or 'default')
        again[#again + 1] = id
      end
    end
  end
  if #again > 0 then count_again(u[2], back) end
  return again, done, u[2]
end
