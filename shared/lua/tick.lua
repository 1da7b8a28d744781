-- A round of the janitor; any number may run at once. Bounded: what is left over waits for the next round.
-- KEYS: base. ARGV: max attempts, outcome of a lost job, outcome of a late job, then the queues.
-- Returns {jobs given back, jobs ended, queue to ring, ...}.
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
for i = 4, #ARGV do
  redis.call('ZREMRANGEBYSCORE', base .. 'linger:' .. ARGV[i], '-inf', '(' .. integer(now))
end
local again, done = {}, {}
for _, fence in ipairs(redis.call('ZRANGE', base .. 'leases', '-inf', '(' .. integer(now), 'BYSCORE', 'LIMIT', 0, 100)) do
  local a, d, queue = release(fence, ARGV[1], ARGV[2])
  if queue then count('leases_expired_total ' .. queue) end
  for _, id in ipairs(a) do again[#again + 1] = id end
  for _, id in ipairs(d) do done[#done + 1] = id end
end
for _, id in ipairs(redis.call('ZRANGE', base .. 'deadlines', '-inf', '(' .. integer(now), 'BYSCORE', 'LIMIT', 0, 1000)) do
  local h = facts(id, 'queue', 'phase')
  if h[1] == 'running' and h[13] == 'registering' then
    -- Its version is there to stay: what follows is to say so.
    redis.call('ZREM', base .. 'deadlines', id)
  elseif h[7] and h[1] == 'running' then
    -- What is done is kept; it ends when that is written.
    redis.call('ZREM', base .. 'deadlines', id)
    stop_batch(id, 'failed', ARGV[3])
    again[#again + 1] = id
  else
    -- A running job ends too: its worker's commit finds the status final and is refused.
    if h[1] == 'queued' then leave_lane(h[11], h[12], h[8] or 'default', id) end
    finish(id, h, 'failed', 0, 0, ARGV[3])
    done[#done + 1] = id
  end
end
announce('r', again)
announce('d', done)
local reply = { #again, #done }
for i = 4, #ARGV do
  if redis.call('EXISTS', base .. 'ready:' .. ARGV[i]) == 1 and call_worker(ARGV[i]) == 1 then
    reply[#reply + 1] = ARGV[i]
  elseif wait_aside(ARGV[i]) then
    -- For what waits aside a bell is rung each time, since one that lingers may be too old for it again.
    count('doorbells_total ' .. ARGV[i])
    reply[#reply + 1] = ARGV[i]
  end
end
return reply
