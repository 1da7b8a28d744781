-- Webhooks of an owner, newest first. Writes nothing. Looks at no more than `scan` of them, so a rare status takes several pages.
-- KEYS: base. ARGV: owner, cursor ('' or "<created>:<id>" of the last one seen), limit, status or '', scan.
-- Returns {next cursor or '', {id, fields, due (ms or nil)}, ...}.
local owner, limit, left = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[5])
local all = base .. 'deliveries:' .. owner
local created, seen = string.match(ARGV[2], '^(%d+):(%S+)$')
-- Those of the same moment stand in the order of their ids.
local at = created and redis.call('ZCOUNT', all, '(' .. created, '+inf') or 0
local found, last = {}, ''
while left > 0 do
  local page = redis.call('ZRANGE', all, at, at + math.min(left, 100) - 1, 'REV', 'WITHSCORES')
  if #page == 0 then return { '', unpack(found) } end
  for i = 1, #page, 2 do
    local id, score = page[i], page[i + 1]
    at, left = at + 1, left - 1
    if not (score == created and id >= seen) then
      last = score .. ':' .. id
      local d = redis.call('HMGET', base .. 'delivery:' .. id, 'type', 'job', 'url', 'status', 'attempts', 'created', 'ended', 'host')
      if d[1] and (ARGV[4] == '' or d[4] == ARGV[4]) then
        found[#found + 1] = { id, d, redis.call('ZSCORE', base .. 'undelivered:' .. owner .. ':' .. d[8], id) }
        if #found == limit then
          return { redis.call('ZCARD', all) > at and last or '', unpack(found) }
        end
      end
    end
  end
end
return { last, unpack(found) }
