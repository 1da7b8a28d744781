-- The rows of a job, for a retry. Writes nothing.
-- KEYS: base. ARGV: id. Returns the JSON array, or nil if it is gone.
return redis.call('GET', base .. 'rows:' .. ARGV[1])
