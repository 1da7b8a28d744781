-- End a job in stages whose output is written.
-- KEYS: base. ARGV: fence, status, outcome, rows that succeeded ('' if as counted), model, window of drift (JSON; '' if none), bytes of the output.
-- Returns 1 if it counts, 0 if the lease was lost or the job is done, 2 if the job was cancelled meanwhile: the unit goes on,
-- to write that down.
local fence = ARGV[1]
local id = redis.call('HGET', base .. 'unit:' .. fence, 'lane')
if not id then return 0 end
local h = facts(id, 'cancel', 'succeeded', 'failed')
-- A cancel that was promised holds, even if it came too late to save any work.
if h[1] == 'running' and h[12] == '1' and ARGV[2] ~= 'cancelled' then return 2 end
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('ZREM', base .. 'leases', fence)
redis.call('DEL', base .. 'unit:' .. fence)
if h[1] ~= 'running' then return 0 end
hold(owner_of(id), id, ARGV[7])
finish(id, h, ARGV[2], ARGV[4] ~= '' and ARGV[4] or h[13] or 0, h[14] or 0, ARGV[3])
if ARGV[6] ~= '' then
  -- Together with the end, so that no job is counted twice, or not at all.
  redis.call('LPUSH', base .. 'drift:' .. ARGV[5], integer(now) .. ' ' .. ARGV[6])
  redis.call('LTRIM', base .. 'drift:' .. ARGV[5], 0, 99)
end
announce('d', { id })
return 1
