-- Take a webhook that is due and lease it, its attempt counted before it is sent. It is due again when the lease is over, which is all that
-- has to be done about a worker that died.
-- KEYS: base. ARGV: lease (ms), most at a time to one host, most at a time of one owner, most attempts, answered ('1' = a doorbell is being answered).
-- Returns nil if there is nothing to do, else {id, fence, attempt (0 = none is left, by the settings of now), lost (1 = that was the last, and its
-- worker died), now (ms), ring, delivery, secrets}.
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREM', base .. 'outbox', '')
if ARGV[5] == '1' then redis.call('DEL', base .. 'bell:' .. 'webhooks') end

local function due(key, limit) return redis.call('ZRANGE', key, '-inf', integer(now), 'BYSCORE', 'LIMIT', 0, limit) end

-- The first that is due to a host, and what is known of it. One whose record was lost can be sent by nobody, and must keep nobody from
-- theirs: it is forgotten; so many at a time that nothing waits for this script.
local patience = 1000
local function first_due(owner, host)
  local undelivered = base .. 'undelivered:' .. owner .. ':' .. host
  while patience > 0 do
    local id = due(undelivered, 1)[1]
    if not id then break end
    local d = redis.call('HMGET', base .. 'delivery:' .. id, 'attempts', 'type', 'job', 'url', 'payload', 'created',
      'traceparent')
    if d[1] and d[2] and d[4] and d[6] then return id, d end
    patience = patience - 1
    redis.call('ZREM', undelivered, id)
    forget_deliveries(owner, { id })
  end
  take_turn(owner, host)
end

-- The host and delivery of an owner whose turn it is; none while as much is being sent as may be.
local function pick(owner)
  local sending = base .. 'sending:' .. owner
  redis.call('ZREMRANGEBYSCORE', sending, '-inf', integer(now))
  local out, busy = redis.call('ZRANGE', sending, 0, -1), {}
  if #out >= tonumber(ARGV[3]) then return nil end
  for _, one in ipairs(out) do
    local host = string.match(one, '^%S+')
    busy[host] = (busy[host] or 0) + 1
  end
  local before = patience
  for _, host in ipairs(due(base .. 'receivers:' .. owner, #out + 1)) do
    if (busy[host] or 0) < tonumber(ARGV[2]) then
      local id, d = first_due(owner, host)
      if id then return host, id, d end
      patience = patience - 1
    end
  end
  -- Those hosts had nothing, and stand there no more: the next ones.
  if patience < before and patience > 0 then return pick(owner) end
end

local owner, host, id, d
for _, candidate in ipairs(due(base .. 'outbox', 1000)) do
  host, id, d = pick(candidate)
  if id then
    owner = candidate
    break
  end
end
if not id then
  if ARGV[5] == '1' then count('doorbells_empty_total webhooks') end
  return nil
end

local delivery = base .. 'delivery:' .. id
local fence, attempt, lost = new_fence(), tonumber(d[1]), 0
redis.call('HSET', delivery, 'sent', fence)
if attempt < tonumber(ARGV[4]) then
  attempt = attempt + 1
  redis.call('HSET', delivery, 'attempts', attempt)
  redis.call('LPUSH', base .. 'attempts:' .. id, string.format('{"attempt":%d,"at":%.0f}', attempt, now))
  redis.call('LTRIM', base .. 'attempts:' .. id, 0, 19)
elseif attempt_is_open(id) then
  lost = 1
else
  attempt = 0
end
local over = integer(now + ARGV[1])
redis.call('ZADD', base .. 'undelivered:' .. owner .. ':' .. host, over, id)
redis.call('ZADD', base .. 'sending:' .. owner, over, host .. ' ' .. id)
redis.call('PEXPIRE', base .. 'sending:' .. owner, ARGV[1])
take_turn(owner, host)

local s = redis.call('HMGET', base .. 'webhook_secret:' .. owner, 'secret', 'previous', 'until')
local secrets = { s[1] or nil, s[2] and tonumber(s[3]) > now and s[2] or nil }
local ring = #due(base .. 'outbox', 1) > 0 and call_worker('webhooks') or 0
return { id, fence, attempt, lost, now, ring, { owner, host, d[2], d[3], d[4], d[5], d[6], d[7] }, secrets }
