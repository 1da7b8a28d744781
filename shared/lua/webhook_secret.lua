-- Keep a new secret of an owner; the one before signs too for a while, and the one before that ends.
-- KEYS: base. ARGV: owner, secret, overlap (ms). Returns {created, until when the one before signs too (or nil)}.
local key = base .. 'webhook_secret:' .. ARGV[1]
local before = redis.call('HGET', key, 'secret')
redis.call('HSET', key, 'secret', ARGV[2], 'created', integer(now))
if not before then return { integer(now) } end
redis.call('HSET', key, 'previous', before, 'until', integer(now + ARGV[3]))
return { integer(now), integer(now + ARGV[3]) }
