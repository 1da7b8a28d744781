-- What there is of an owner's webhooks. Writes nothing.
-- KEYS: base. ARGV: owner. Returns {when its secret was made (nil = it has none), until when the one before signs too (or nil), how many wait, how many have ended}.
local s = redis.call('HMGET', base .. 'webhook_secret:' .. ARGV[1], 'created', 'until')
local waiting = waiting_webhooks(ARGV[1])
return { s[1], s[2] and tonumber(s[2]) > now and s[2], waiting, redis.call('ZCARD', base .. 'settled:' .. ARGV[1]) }
