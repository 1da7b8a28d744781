-- Note what came of a time that a schedule was due, and go on to the next, unless somebody else did: then only what is news is noted.
-- KEYS: base. ARGV: model, time that it stood at (ms), next time (ms; the same = to be tried again; '' = there is none),
-- time of the run (ms), run (JSON), job ('' if none).
-- Returns 1 if the schedule stood at that time, else 0.
local name, key = ARGV[1], base .. 'schedule:' .. ARGV[1]
local h = redis.call('HMGET', key, 'schedule', 'ran')
if not h[1] then return 0 end
local stands = tonumber(redis.call('ZSCORE', base .. 'schedules', name) or 0) == tonumber(ARGV[2])
if stands or tonumber(h[2] or 0) < tonumber(ARGV[4]) then
  redis.call('HSET', key, 'last', ARGV[5], 'ran', ARGV[4])
  if ARGV[6] ~= '' then redis.call('HSET', key, 'job', ARGV[6]) end
end
if not stands then return 0 end
if ARGV[3] == '' then
  redis.call('ZREM', base .. 'schedules', name)
else
  redis.call('ZADD', base .. 'schedules', ARGV[3], name)
end
return 1
