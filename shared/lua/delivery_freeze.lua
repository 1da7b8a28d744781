-- Keep what a webhook says, once, so that every attempt sends the same bytes.
-- KEYS: base. ARGV: id, fence, payload. Returns the payload that counts, or nil if the lease was lost.
local delivery = base .. 'delivery:' .. ARGV[1]
if redis.call('HGET', delivery, 'sent') ~= ARGV[2] then return nil end
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('HDEL', delivery, '')
redis.call('HSETNX', delivery, 'payload', ARGV[3])
return redis.call('HGET', delivery, 'payload')
