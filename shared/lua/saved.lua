-- Note that a copy in storage is as new as what it was written of, unless this has changed since it was read. It stays marked while
-- somebody else writes it too, who may have read it earlier and write it later.
-- KEYS: base. ARGV: 'model' or 'schedule', model, token of the writer, changes of the model or revision of the schedule when it was read ('' = it could not be written).
-- Returns 1, or 0 if the copy must be written again.
local record, field, marked = base .. 'model:' .. ARGV[2], 'changes', base .. 'unsaved'
if ARGV[1] == 'schedule' then record, field, marked = base .. 'schedule:' .. ARGV[2], 'revision', base .. 'uncopied' end
local writers = base .. 'copying:' .. ARGV[1] .. ':' .. ARGV[2]
if ARGV[4] ~= '' and (redis.call('HGET', record, field) or '0') ~= ARGV[4] then return 0 end
redis.call('ZREM', writers, ARGV[3])
if ARGV[4] ~= '' and redis.call('ZCOUNT', writers, integer(now), '+inf') == 0 then redis.call('SREM', marked, ARGV[2]) end
return 1
