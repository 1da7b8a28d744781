-- One webhook of an owner, with what it says and what came of its attempts. Writes nothing.
-- KEYS: base. ARGV: owner, id. Returns nil if it is unknown or another owner's, else {id, fields, due (ms or nil), payload or nil, log, 1 if it is being sent}.
local owner, id = ARGV[1], ARGV[2]
local d = redis.call('HMGET', base .. 'delivery:' .. id, 'type', 'job', 'url', 'status', 'attempts', 'created', 'ended', 'host', 'owner', 'payload')
if d[9] ~= owner then return nil end
local out = tonumber(redis.call('ZSCORE', base .. 'sending:' .. owner, d[8] .. ' ' .. id) or 0) > now
return { id, d, redis.call('ZSCORE', base .. 'undelivered:' .. owner .. ':' .. d[8], id), d[10],
  redis.call('LRANGE', base .. 'attempts:' .. id, 0, -1), out and 1 or 0 }
