-- A worker that lingers, or would pull again, ends: it is not to be woken any more, and another one looks if there is work.
-- KEYS: base. ARGV: queue, worker, lane of its last unit ('' if none). Returns 1 if a doorbell must be published.
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('ZREM', base .. 'linger:' .. ARGV[1], ARGV[2])
redis.call('DEL', base .. 'wake:' .. ARGV[2])
stop_pulling(ARGV[3], ARGV[2])
if redis.call('EXISTS', base .. 'ready:' .. ARGV[1]) == 0 then return 0 end
-- The bell that it answers, or was given just now, has called nobody.
redis.call('DEL', base .. 'bell:' .. ARGV[1])
return call_worker(ARGV[1])
