-- Hand over: stop pulling, and get another worker to look if there is work.
-- KEYS: base. ARGV: queue, worker, lane of its last unit. Returns 1 if a doorbell must be published.
-- A delete first: it is allowed when memory is used up and lets the rest of the script through.
redis.call('ZREM', base .. 'linger:' .. ARGV[1], ARGV[2])
stop_pulling(ARGV[3], ARGV[2])
if redis.call('EXISTS', base .. 'ready:' .. ARGV[1]) == 0 then return 0 end
return call_worker(ARGV[1])
