-- Cancel a job: at once while it waits, as a request while it runs.
-- KEYS: base. ARGV: id, owner. Returns 'unknown' | 'gone' | 'finished' (or a version of it is registered) | 'cancelled' (it is already) | 'done' | 'requested'.
local id = ARGV[1]
local job = base .. 'job:' .. id
local h = facts(id, 'expires', 'queue', 'cancel', 'phase')
if not h[1] or (h[8] or 'default') ~= ARGV[2] then return 'unknown' end
if h[1] == 'deleted' or (h[12] and tonumber(h[12]) <= now) then return 'gone' end
if h[1] == 'cancelled' then return 'cancelled' end
if h[1] == 'queued' then
  leave_lane(h[11], h[13], ARGV[2], id)
  redis.call('HSET', job, 'cancel', 1)
  finish(id, h, 'cancelled', 0, 0, '')
  announce('d', { id })
  return 'done'
end
-- A version that is registered is there to stay: what follows is to say so.
if h[1] ~= 'running' or h[15] == 'registering' and h[14] ~= '1' then return 'finished' end
if h[14] ~= '1' then
  redis.call('HSET', job, 'cancel', 1)
  if h[7] then stop_batch(id, 'cancelled', '') end
  redis.call('HINCRBY', job, 'revision', 1)
  announce('r', { id })
end
return 'requested'
