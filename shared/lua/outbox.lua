-- Webhooks on their way, for the scripts that put them there, send them, and end them. KEYS and ARGV are those of the script itself.

-- Owners take turns in the outbox, and so do the hosts of an owner, however many deliveries wait for one: each stands there with the time
-- at which its next is due, or at which it was served last if that is later.
local function due_now(owner, host, id)
  redis.call('ZADD', base .. 'undelivered:' .. owner .. ':' .. host, integer(now), id)
  redis.call('ZADD', base .. 'receivers:' .. owner, 'LT', integer(now), host)
  redis.call('ZADD', base .. 'outbox', 'LT', integer(now), owner)
end

-- After one of a host of an owner was taken, or ended.
local function take_turn(owner, host)
  local function place_by(line, member, below)
    local first = redis.call('ZRANGE', below, 0, 0, 'WITHSCORES')[2]
    if first then redis.call('ZADD', line, integer(math.max(first, now)), member) else redis.call('ZREM', line, member) end
  end
  place_by(base .. 'receivers:' .. owner, host, base .. 'undelivered:' .. owner .. ':' .. host)
  place_by(base .. 'outbox', owner, base .. 'receivers:' .. owner)
end

-- How many webhooks of an owner are not delivered yet.
local function waiting_webhooks(owner)
  return redis.call('ZCARD', base .. 'deliveries:' .. owner) - redis.call('ZCARD', base .. 'settled:' .. owner)
end

-- Forget webhooks of an owner with all that they have.
local function forget_deliveries(owner, ids)
  for _, id in ipairs(ids) do
    redis.call('DEL', base .. 'delivery:' .. id, base .. 'attempts:' .. id)
    redis.call('ZREM', base .. 'deliveries:' .. owner, id)
    redis.call('ZREM', base .. 'settled:' .. owner, id)
  end
end

-- Write that a webhook has ended. It is kept for `kept` ms, and so are no more than `most` of its owner.
local function settle(id, owner, outcome, kept, most)
  local all, settled = base .. 'deliveries:' .. owner, base .. 'settled:' .. owner
  redis.call('HSET', base .. 'delivery:' .. id, 'status', outcome, 'ended', integer(now))
  redis.call('PEXPIRE', base .. 'delivery:' .. id, kept)
  redis.call('PEXPIRE', base .. 'attempts:' .. id, kept)
  redis.call('ZADD', settled, integer(now), id)
  -- What has expired leaves the lists, some at a time, and what is too much goes with all it has.
  forget_deliveries(owner, redis.call('ZRANGE', settled, '-inf', integer(now - kept), 'BYSCORE', 'LIMIT', 0, 100))
  local excess = math.min(100, redis.call('ZCARD', settled) - most)
  if excess > 0 then forget_deliveries(owner, redis.call('ZRANGE', settled, 0, excess - 1)) end
  -- When all have ended, the lists may go with the last of them, together, since their difference is what waits.
  if redis.call('ZCARD', all) == redis.call('ZCARD', settled) then
    redis.call('PEXPIRE', all, kept)
    redis.call('PEXPIRE', settled, kept)
  end
end

-- Whether the newest entry in the log of a webhook is of an attempt of which nothing came yet.
local function attempt_is_open(id)
  local newest = redis.call('LINDEX', base .. 'attempts:' .. id, 0)
  return newest and not cjson.decode(newest).milliseconds
end

local function record_delivery(id, owner, url, type, ...)
  local host = string.lower(string.match(url, '^%a+://([^/?#]+)'))
  redis.call('HSET', base .. 'delivery:' .. id, 'owner', owner, 'url', url, 'host', host, 'type', type, 'status', 'waiting', 'attempts', 0,
    'sent', 0, 'created', integer(now), ...)
  redis.call('ZADD', base .. 'deliveries:' .. owner, integer(now), id)
  redis.call('PERSIST', base .. 'deliveries:' .. owner)
  redis.call('PERSIST', base .. 'settled:' .. owner)
  return host
end

-- Put a webhook into the outbox; what follows its type are more fields of it.
local function put_delivery(id, owner, url, type, ...)
  due_now(owner, record_delivery(id, owner, url, type, ...), id)
end

-- Put the webhook of a job's end into the outbox. `limits` are what submit.lua was given: most that wait, how long one is kept (ms), most
-- that are kept. Past the first it has failed at once, so that a receiver that is away for days fills no memory; it can be sent on request.
local function put_end(job, owner, url, type, limits, trace)
  local id, more = 'msg_' .. job, trace and { 'job', job, 'traceparent', trace } or { 'job', job }
  local most, kept, most_kept = string.match(limits, '^(%d+) (%d+) (%d+)$')
  -- Of a job that an older version accepted, no limits are known.
  if not most or waiting_webhooks(owner) < tonumber(most) then return put_delivery(id, owner, url, type, unpack(more)) end
  record_delivery(id, owner, url, type, unpack(more))
  redis.call('LPUSH', base .. 'attempts:' .. id,
    string.format('{"attempt":0,"at":%.0f,"milliseconds":0,"error":"It was not tried, since %s other webhooks waited."}', now, most))
  settle(id, owner, 'failed', kept, most_kept)
end

