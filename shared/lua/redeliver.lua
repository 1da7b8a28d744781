-- Have a webhook sent once more, with the same id and payload; its attempts begin anew.
-- KEYS: base. ARGV: owner, id, most that may wait. Returns 1 if a doorbell must be published, 0 if not, or 'unknown' | 'full'.
local owner, id = ARGV[1], ARGV[2]
local delivery = base .. 'delivery:' .. id
local d = redis.call('HMGET', delivery, 'owner', 'status', 'host')
if d[1] ~= owner then return 'unknown' end
if d[2] ~= 'waiting' then
  if waiting_webhooks(owner) >= tonumber(ARGV[3]) then return 'full' end
  redis.call('ZREM', base .. 'settled:' .. owner, id)
  for _, key in ipairs({ delivery, base .. 'attempts:' .. id, base .. 'deliveries:' .. owner, base .. 'settled:' .. owner }) do
    redis.call('PERSIST', key)
  end
  redis.call('HDEL', delivery, 'ended')
end
redis.call('HSET', delivery, 'status', 'waiting', 'attempts', 0)
-- One that is being sent stays with whoever sends it.
if tonumber(redis.call('ZSCORE', base .. 'sending:' .. owner, d[3] .. ' ' .. id) or 0) > now then return 0 end
due_now(owner, d[3], id)
return call_worker('webhooks')
