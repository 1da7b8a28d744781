-- Note what came of drifted windows, and which is the newest that was acted on, unless somebody else did.
-- KEYS: base. ARGV: model, window that was acted on before ('' if none), window that is now (the same = to be tried again),
-- time of the run (ms), run (JSON), job ('' if none).
-- Returns 1 if it is noted, else 0.
local key = base .. 'schedule:' .. ARGV[1]
local h = redis.call('HMGET', key, 'schedule', 'window')
if not h[1] or (h[2] or '') ~= ARGV[2] then return 0 end
redis.call('HSET', key, 'last', ARGV[5], 'ran', ARGV[4])
if ARGV[3] ~= '' then redis.call('HSET', key, 'window', ARGV[3]) end
if ARGV[6] ~= '' then redis.call('HSET', key, 'job', ARGV[6]) end
return 1
