-- Jobs, newest first. Writes nothing. Looks at no more than `scan` entries, so a rare filter takes several pages.
-- KEYS: base. ARGV: cursor ('' or the last stream entry seen), limit, status or '', model or '', created after (ms or ''), scan, kind or '', owner.
-- Returns {next cursor or '', id, id, ...}.
local cursor = ARGV[1] == '' and '+' or '(' .. ARGV[1]
local oldest = ARGV[5] == '' and '-' or ARGV[5]
local jobs = base .. 'jobs' .. of(ARGV[8])
local limit, left = tonumber(ARGV[2]), tonumber(ARGV[6])
-- Without a filter nearly all that are looked at are wanted.
local filtered = ARGV[3] ~= '' or ARGV[4] ~= '' or ARGV[7] ~= ''
local some = filtered and 100 or math.max(limit, 20)
local ids, last = {}, ''
while left > 0 do
  local page = redis.call('XREVRANGE', jobs, cursor, oldest, 'COUNT', math.min(left, some))
  if #page == 0 then return { '', unpack(ids) } end
  for _, entry in ipairs(page) do
    left = left - 1
    last = entry[1]
    local id, model = entry[2][2], entry[2][4]
    if ARGV[4] == '' or model == ARGV[4] then
      local h = redis.call('HMGET', base .. 'job:' .. id, 'status', 'expires', 'kind')
      local there = h[1] and h[1] ~= 'deleted' and not (h[2] and tonumber(h[2]) <= now)
      if there and (ARGV[3] == '' or h[1] == ARGV[3]) and (ARGV[7] == '' or (h[3] or 'predict') == ARGV[7]) then
        ids[#ids + 1] = id
        if #ids == limit then
          local more = redis.call('XREVRANGE', jobs, '(' .. last, oldest, 'COUNT', 1)
          return { #more > 0 and last or '', unpack(ids) }
        end
      end
    end
  end
  cursor = '(' .. last
end
return { last, unpack(ids) }
