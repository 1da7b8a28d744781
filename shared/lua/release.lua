-- Give up the lease of one unit before its time.
-- KEYS: base. ARGV: fence, max attempts, outcome of a job with no attempt left, '1' if it shall not count as tried.
-- Returns {ring, queue}.
local again, done, queue = release(ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1')
announce('r', again)
announce('d', done)
return { #again > 0 and call_worker(queue) or 0, queue or '' }
