-- Prolong a lease, and learn which of the unit's jobs nobody wants any more.
-- KEYS: base. ARGV: fence, lease (ms). Returns nil if the lease is lost, else {id to stop, ...}.
local u = redis.call('HMGET', base .. 'unit:' .. ARGV[1], 'jobs', 'kind')
if not u[1] then return nil end
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREM', base .. 'leases', '')
redis.call('ZADD', base .. 'leases', 'XX', integer(now + ARGV[2]), ARGV[1])
local stop = {}
for id in string.gmatch(u[1], '%S+') do
  local h = redis.call('HMGET', base .. 'job:' .. id, 'fence', 'cancel', 'kind')
  if u[2] then
    -- The output of what a file's job has done is made in any case.
    if (u[2] ~= 'final' or h[3] ~= 'batch') and redis.call('HGET', base .. 'batch:' .. id, 'stop') ~= '' then stop[1] = id end
  elseif h[1] ~= ARGV[1] or h[2] == '1' then
    stop[#stop + 1] = id
  end
end
return stop
