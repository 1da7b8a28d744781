-- Hand over: get another worker to look if there is work.
-- KEYS: base. ARGV: queue. Returns 1 if a doorbell must be published.
if redis.call('EXISTS', base .. 'ready:' .. ARGV[1]) == 0 then return 0 end
return call_worker(ARGV[1])
