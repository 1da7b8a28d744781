-- Prolong a lease, and learn which of the unit's jobs nobody wants any more.
-- KEYS: base. ARGV: fence, lease (ms). Returns nil if the lease is lost, else {id to stop, ...}.
local u = redis.call('HGET', base .. 'unit:' .. ARGV[1], 'jobs')
if not u then return nil end
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREM', base .. 'leases', '')
redis.call('ZADD', base .. 'leases', 'XX', integer(now + ARGV[2]), ARGV[1])
local stop = {}
for id in string.gmatch(u, '%S+') do
  local h = redis.call('HMGET', base .. 'job:' .. id, 'fence', 'cancel')
  if h[1] ~= ARGV[1] or h[2] == '1' then stop[#stop + 1] = id end
end
return stop
