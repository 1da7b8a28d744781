-- Mark the copy of a model or of its schedule in storage, since it may be old, and note who writes it.
-- KEYS: base. ARGV: 'model' or 'schedule', model, token of the writer, how long it may take (ms). Returns 1.
local writers = base .. 'copying:' .. ARGV[1] .. ':' .. ARGV[2]
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREMRANGEBYSCORE', writers, '-inf', '(' .. integer(now))
redis.call('ZADD', writers, integer(now + ARGV[4]), ARGV[3])
redis.call('PEXPIRE', writers, ARGV[4])
redis.call('SADD', ARGV[1] == 'model' and base .. 'unsaved' or base .. 'uncopied', ARGV[2])
return 1
