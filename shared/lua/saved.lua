-- Note that the copy of a model in storage is as new as the model, unless this has changed since it was read.
-- KEYS: base. ARGV: model, its changes when it was read. Returns 1, or 0 if the copy must be written again.
if (redis.call('HGET', base .. 'model:' .. ARGV[1], 'changes') or '0') ~= ARGV[2] then return 0 end
redis.call('SREM', base .. 'unsaved', ARGV[1])
return 1
