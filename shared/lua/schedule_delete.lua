-- Remove a model's schedule. Its revision stays, so that a later one has another; so do its last job and the last window
-- that it acted on, which the later one does not act on once more.
-- KEYS: base. ARGV: model, expected ('' = whatever there is, '*' = any schedule, or revisions between blanks).
-- Returns {'deleted', revision} | {'changed', revision} | {'unknown'}.
local name, key = ARGV[1], base .. 'schedule:' .. ARGV[1]
local h = redis.call('HMGET', key, 'schedule', 'revision')
if not h[1] then return { 'unknown' } end
local revision, expected = tonumber(h[2]), ARGV[2]
if expected ~= '' and expected ~= '*' and not string.find(expected, ' ' .. integer(revision) .. ' ', 1, true) then
  return { 'changed', revision }
end
redis.call('HDEL', key, 'schedule', 'times', 'last', 'ran')
redis.call('SADD', base .. 'uncopied', name)
revision = redis.call('HINCRBY', key, 'revision', 1)
redis.call('ZREM', base .. 'schedules', name)
redis.call('SREM', base .. 'watching', name)
return { 'deleted', revision }
