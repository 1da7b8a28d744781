-- Accept a job: record, lane entry and the need for a doorbell in one step, so that a crash leaves all or nothing.
-- KEYS: base. ARGV: id, spec, rows, lane, queue, priority offset (us), total, ttl (ms), tombstone (ms), deadline (ms or ''),
-- max waiting, idempotency digest ('' if none), request digest, idempotency ttl (ms), model, alias ('' if pinned), version,
-- kind ('batch', 'train' or 'register'; none for rows), upload ('' if none), file id ('' if none), most failed rows ('' if any), most of them as a fraction ('' if any).
-- Returns {'accepted', created, ring, position} | {'same', id, ring?} | {'reused'} | {'moved'} | {'full'} | {'queue_full', waiting, rate}
-- | {'upload_lost'} | {'file_gone'}.
local id, spec, rows, lane, queue = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
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
if redis.call('EXISTS', base .. 'full') == 1 then return { 'full' } end
local batch = ARGV[18]  -- a job in stages
if batch then
  -- What the janitor may have removed already is not taken any more.
  if ARGV[19] ~= '' and tonumber(redis.call('ZSCORE', base .. 'uploads', ARGV[19]) or 0) <= now then return { 'upload_lost' } end
  if ARGV[20] ~= '' and tonumber(redis.call('HGET', base .. 'file:' .. ARGV[20], 'expires') or 0) <= now then return { 'file_gone' } end
end
local waiting = batch and redis.call('SCARD', base .. 'batches') or redis.call('ZCARD', base .. 'lane:' .. lane)
if waiting >= tonumber(ARGV[11]) then
  return { 'queue_full', waiting, redis.call('HGET', base .. 'pace:' .. lane, 'rate') or '' }
end

-- The first write is one that Redis refuses when its memory is used up, and a refused script has written nothing.
redis.call('SET', base .. 'spec:' .. id, spec)
if not batch then redis.call('SET', base .. 'rows:' .. id, rows) end
local seq = redis.call('XADD', base .. 'jobs', '*', 'j', id, 'm', ARGV[15])
local order = integer(micros + ARGV[6])
redis.call('HSET', job, 'status', 'queued', 'revision', 1, 'lane', lane, 'queue', queue, 'order', order, 'attempt', 0,
  'ttl', ARGV[8], 'tombstone', ARGV[9], 'created', integer(now), 'seq', seq)
if ARGV[7] ~= '' then redis.call('HSET', job, 'total', ARGV[7]) end
if ARGV[10] ~= '' then
  local deadline = integer(now + ARGV[10])
  redis.call('HSET', job, 'deadline', deadline)
  redis.call('ZADD', base .. 'deadlines', deadline, id)
end
if idem then redis.call('SET', idem, id .. ' ' .. ARGV[13], 'PX', ARGV[14]) end
if batch then
  redis.call('HSET', job, 'kind', batch, 'size', 0)
  redis.call('HSET', base .. 'batch:' .. id, 'plan', 'waiting', 'stop', '', 'slices', 0, 'next', 0, 'rows', 0, 'flying', 0,
    'final', '', 'head', ARGV[6], 'most', ARGV[21], 'fraction', ARGV[22])
  redis.call('SADD', base .. 'batches', id)
  if ARGV[19] ~= '' then redis.call('ZREM', base .. 'uploads', ARGV[19]) end
  if ARGV[20] ~= '' then
    redis.call('HSET', base .. 'batch:' .. id, 'file', ARGV[20])
    redis.call('HINCRBY', base .. 'file:' .. ARGV[20], 'users', 1)
  end
  refresh_lane(id)
  return { 'accepted', integer(now), call_worker(queue), redis.call('ZRANK', base .. 'ready:' .. queue, id) + 1 }
end
enqueue(id, lane, queue, order)
local ring = is_busy(lane) and 0 or call_worker(queue)
return { 'accepted', integer(now), ring, redis.call('ZRANK', base .. 'lane:' .. lane, id) + 1 }
