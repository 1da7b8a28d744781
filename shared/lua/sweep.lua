-- Take expired jobs out of the list of jobs, a page at a time, round and round.
-- KEYS: base. ARGV: page size, owner. Returns {entry, id} of those with files in storage:
-- they stay in the list until their files are gone.
local owner = ARGV[2]
local jobs = base .. 'jobs' .. of(owner)
local cursor = redis.call('HGET', base .. 'sweeps', owner) or '-'
redis.call('HDEL', base .. 'sweeps', owner)  -- first, as it is allowed when memory is used up
local page = redis.call('XRANGE', jobs, cursor, '+', 'COUNT', ARGV[1])
local stored = {}
for _, entry in ipairs(page) do
  local job = base .. 'job:' .. entry[2][2]
  local h = redis.call('HMGET', job, 'status', 'expires', 'size')
  if not h[1] or h[1] == 'deleted' or (h[2] and tonumber(h[2]) <= now) then
    -- A record that is gone altogether cannot say whether it had files.
    if h[3] or not h[1] then stored[#stored + 1] = { entry[1], entry[2][2] } else redis.call('XDEL', jobs, entry[1]) end
  end
end
redis.call('HSET', base .. 'sweeps', owner, #page == tonumber(ARGV[1]) and '(' .. page[#page][1] or '-')
return stored
