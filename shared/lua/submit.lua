-- Accept a job: record, lane entry and the need for a doorbell in one step, so that a crash leaves all or nothing.
-- KEYS: base. ARGV: id, spec, rows, lane, queue, priority offset (us), total, ttl (ms), tombstone (ms), deadline (ms or ''),
-- max waiting, idempotency digest ('' if none), request digest, idempotency ttl (ms), model, alias ('' if pinned), version,
-- owner, most unfinished jobs of it ('' if any), most rows of its unfinished jobs ('' if any), most bytes of it in storage ('' if any), bytes of the upload, limits of its webhook, for outbox.lua ('' if it has none),
-- kind ('batch', 'train' or 'register'; none for rows), upload ('' if none), file id ('' if none), most failed rows ('' if any), most of them as a fraction ('' if any).
-- Returns {'accepted', created, ring, position} | {'same', id, ring?} | {'reused'} | {'moved'} | {'full', of what} | {'queue_full', waiting, rate}
-- | {'too_much', what, used} | {'upload_lost'} | {'file_gone'}.
local id, spec, rows, lane, queue, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[18]
local idem = ARGV[12] ~= '' and base .. 'idem:' .. ARGV[12] or nil

if idem then
  local seen = redis.call('GET', idem)
  if seen then
    local first, digest = string.match(seen, '^(%S+) (%S+)$')
    if digest == ARGV[13] then return { 'same', first } end
    return { 'reused' }
  end
end
local job = base .. 'job:' .. id
if redis.call('EXISTS', job) == 1 then
  -- The answer to the first try was lost, and with it the call for a worker.
  redis.call('DEL', base .. 'bell:' .. queue)
  return { 'same', id, call_worker(queue) }
end
-- Since they were looked up the version may have been deleted, or the alias moved. A job on no version has 0.
local pinned = redis.call('HMGET', base .. 'model:' .. ARGV[15], 'v:' .. ARGV[17], 'alias:' .. ARGV[16])
if ARGV[17] ~= '0' and not pinned[1] or ARGV[16] ~= '' and pinned[2] ~= ARGV[17] then return { 'moved' } end
local short = redis.call('GET', base .. 'full')
if short then return { 'full', short } end
local batch = ARGV[24]  -- a job in stages
if batch then
  -- What the janitor may have removed already is not taken any more.
  if ARGV[25] ~= '' and tonumber(redis.call('ZSCORE', base .. 'uploads', ARGV[25]) or 0) <= now then return { 'upload_lost' } end
  if ARGV[26] ~= '' then
    local file = redis.call('HMGET', base .. 'file:' .. ARGV[26], 'expires', 'owner')
    if tonumber(file[1] or 0) <= now or (file[2] or 'default') ~= owner then return { 'file_gone' } end
  end
end
local used = redis.call('HMGET', base .. 'usage' .. of(owner), 'jobs', 'rows', 'bytes', 'staged')
-- Jobs, rows and bytes that the owner would have, and may have at most.
for i, more in ipairs({ 1, batch and 0 or ARGV[7], ARGV[22] }) do
  local most, had = ARGV[18 + i], tonumber(used[i] or 0)
  if most ~= '' and tonumber(more) > 0 and had + more > tonumber(most) then return { 'too_much', ({ 'jobs', 'rows', 'bytes' })[i], had } end
end
local waiting = batch and tonumber(used[4] or 0) or redis.call('ZCARD', base .. 'lane:' .. lane .. of(owner))
if waiting >= tonumber(ARGV[11]) then
  return { 'queue_full', waiting, redis.call('HGET', base .. 'pace:' .. lane, 'rate') or '' }
end

-- The first write is one that Redis refuses when its memory is used up, and a refused script has written nothing.
redis.call('SET', base .. 'spec:' .. id, spec)
if not batch then redis.call('SET', base .. 'rows:' .. id, rows) end
local seq = redis.call('XADD', base .. 'jobs' .. of(owner), '*', 'j', id, 'm', ARGV[15])
local order = integer(micros + ARGV[6])
redis.call('HSET', job, 'status', 'queued', 'revision', 1, 'lane', lane, 'queue', queue, 'order', order, 'attempt', 0,
  'ttl', ARGV[8], 'tombstone', ARGV[9], 'created', integer(now), 'seq', seq)
if owner ~= 'default' then
  redis.call('HSET', job, 'owner', owner)
  redis.call('SADD', base .. 'owners', owner)
end
if ARGV[7] ~= '' then redis.call('HSET', job, 'total', ARGV[7]) end
if ARGV[23] ~= '' then redis.call('HSET', job, 'webhook', ARGV[23]) end
if ARGV[10] ~= '' then
  local deadline = integer(now + ARGV[10])
  redis.call('HSET', job, 'deadline', deadline)
  redis.call('ZADD', base .. 'deadlines', deadline, id)
end
count_model('jobs_accepted_total ' .. (batch or 'predict') .. ' ', ARGV[15], '', 1)
if idem then redis.call('SET', idem, id .. ' ' .. ARGV[13], 'PX', ARGV[14]) end
if batch then
  redis.call('HSET', job, 'kind', batch, 'size', 0)
  redis.call('HSET', base .. 'batch:' .. id, 'plan', 'waiting', 'stop', '', 'slices', 0, 'next', 0, 'rows', 0, 'flying', 0,
    'final', '', 'head', ARGV[6], 'most', ARGV[27], 'fraction', ARGV[28])
  redis.call('SADD', base .. 'batches', id)
  if ARGV[25] ~= '' then redis.call('ZREM', base .. 'uploads', ARGV[25]) end
  if ARGV[26] ~= '' then
    redis.call('HSET', base .. 'batch:' .. id, 'file', ARGV[26])
    redis.call('HINCRBY', base .. 'file:' .. ARGV[26], 'users', 1)
  end
  hold(owner, id, ARGV[22])
  use(owner, 'jobs', 1, 'staged', 1)
  refresh_lane(id)
  return { 'accepted', integer(now), call_worker(queue), place(base .. 'work:' .. queue, base .. 'ready:' .. queue, owner, id) + 1 }
end
use(owner, 'jobs', 1, 'rows', ARGV[7])
enqueue(id, lane, queue, order, owner)
local ring = is_busy(lane) and 0 or call_worker(queue)
return { 'accepted', integer(now), ring, place(base .. 'lane:' .. lane, base .. 'sharers:' .. lane, owner, id) + 1 }
