-- Write what came of an attempt at a webhook; not if its lease was lost and another attempt was begun.
-- KEYS: base. ARGV: id, fence, outcome ('delivered', 'failed', or 'waiting' = it is tried again), pause until then (ms), log entry (JSON),
-- how long it is kept once it has ended (ms), most such deliveries of an owner. Returns 1 if it counts, else 0.
local id, outcome = ARGV[1], ARGV[3]
local log = base .. 'attempts:' .. id
local d = redis.call('HMGET', base .. 'delivery:' .. id, 'sent', 'status', 'owner', 'host')
if d[1] ~= ARGV[2] or d[2] ~= 'waiting' then return 0 end
local owner, host = d[3], d[4]
local undelivered = base .. 'undelivered:' .. owner .. ':' .. host
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('ZREM', base .. 'sending:' .. owner, host .. ' ' .. id)
if attempt_is_open(id) then
  redis.call('LSET', log, 0, ARGV[5])
else
  redis.call('LPUSH', log, ARGV[5])
  redis.call('LTRIM', log, 0, 19)
end
if outcome == 'waiting' then
  redis.call('ZADD', undelivered, integer(now + ARGV[4]), id)
  take_turn(owner, host)
  return 1
end
redis.call('ZREM', undelivered, id)
take_turn(owner, host)
settle(id, owner, outcome, ARGV[6], ARGV[7])
return 1
