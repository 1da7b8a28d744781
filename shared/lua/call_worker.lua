-- Hand over: stop pulling, and get another worker to look if there is work.
-- KEYS: base. ARGV: queue, lane of the worker's last unit. Returns 1 if a doorbell must be published.
redis.call('DEL', base .. 'busy:' .. ARGV[2])
if redis.call('EXISTS', base .. 'ready:' .. ARGV[1]) == 0 then return 0 end
return call_worker(ARGV[1])
