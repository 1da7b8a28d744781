-- Put a webhook that belongs to no job into the outbox.
-- KEYS: base. ARGV: id, owner, url, type, payload, most that may wait. Returns 1 if a doorbell must be published, 0 if not, or 'full'.
local owner = ARGV[2]
if waiting_webhooks(owner) >= tonumber(ARGV[6]) then return 'full' end
put_delivery(ARGV[1], owner, ARGV[3], ARGV[4], 'payload', ARGV[5])
return call_worker('webhooks')
