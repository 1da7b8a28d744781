-- Whether a worker must be called for webhooks. KEYS: base. ARGV: none. Returns 1 if a doorbell must be published, else 0.
if #redis.call('ZRANGE', base .. 'outbox', '-inf', integer(now), 'BYSCORE', 'LIMIT', 0, 1) == 0 then return 0 end
return call_worker('webhooks')
