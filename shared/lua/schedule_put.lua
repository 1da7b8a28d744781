-- Keep a model's schedule, and when it is due next. A run that is due by now stays due, unless the times are others than before.
-- KEYS: base. ARGV: model, schedule (JSON), times ('' = it is never due), next time (ms or ''), watches ('1' = also started by drift),
-- expected ('' = whatever there is, '*' = any schedule, 'new' = never one before, or revisions between blanks), least revision.
-- Returns {'kept', revision} | {'changed', revision} | {'unknown'} (the model).
local name, key = ARGV[1], base .. 'schedule:' .. ARGV[1]
if redis.call('SISMEMBER', base .. 'models', name) == 0 then return { 'unknown' } end
local h = redis.call('HMGET', key, 'schedule', 'revision', 'times')
local revision, expected = tonumber(h[2] or 0), ARGV[6]
local as_expected = expected == '' or expected == 'new' and not h[2]
  or h[1] and (expected == '*' or string.find(expected, ' ' .. integer(revision) .. ' ', 1, true))
if not as_expected then return { 'changed', revision } end

revision = math.max(revision + 1, tonumber(ARGV[7]))
redis.call('SADD', base .. 'uncopied', name)
redis.call('HSET', key, 'schedule', ARGV[2], 'revision', integer(revision), 'times', ARGV[3])
if ARGV[4] == '' then
  redis.call('ZREM', base .. 'schedules', name)
elseif h[3] == ARGV[3] then
  redis.call('ZADD', base .. 'schedules', 'NX', ARGV[4], name)
else
  redis.call('ZADD', base .. 'schedules', ARGV[4], name)
end
redis.call(ARGV[5] == '1' and 'SADD' or 'SREM', base .. 'watching', name)
return { 'kept', revision }
