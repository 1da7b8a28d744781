-- End a unit of a job in stages because the job cannot go on: its output is made of what is done, or it ends at once if nothing is.
-- A job whose version is registered does not end as failed, whatever went wrong since: the lease stays, and when it has run out the unit
-- is tried again, which makes the pause too.
-- KEYS: base. ARGV: fence, outcome. Returns 1 if a doorbell must be published, else 0.
local unit = base .. 'unit:' .. ARGV[1]
local u = redis.call('HMGET', unit, 'lane', 'kind', 'queue')
if not u[1] or redis.call('HGET', base .. 'job:' .. u[1], 'phase') == 'registering' then return 0 end
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('ZREM', base .. 'leases', ARGV[1])
redis.call('DEL', unit)
local id = u[1]
local batch, h = base .. 'batch:' .. id, facts(id)
if h[1] ~= 'running' then return 0 end
if u[2] == 'final' or redis.call('HGET', batch, 'slices') == '0' then
  end_batch(id, h, ARGV[2])
  announce('d', { id })
  return 0
end
if u[2] == 'plan' then redis.call('HSET', batch, 'plan', 'waiting') else redis.call('HINCRBY', batch, 'flying', -1) end
redis.call('HINCRBY', base .. 'job:' .. id, 'revision', 1)
stop_batch(id, 'failed', ARGV[2])
refresh_lane(id)
return call_worker(u[3])
