-- Count bytes that an owner sends as files on one day (UTC), before they come.
-- KEYS: base. ARGV: owner, bytes for which there must be room on this day, bytes to be counted (fewer if there is no room for more;
-- negative: so many did not come), most on one day ('' if any), day on which those were counted that did not come ('' if none), bytes that will be
-- stored, most bytes in storage ('' if any).
-- Returns {'counted' | 'day' (there is no room), bytes that were counted, bytes of this day, day, ms until it ends} | {'bytes', bytes in storage}.
local owner = ARGV[1]
local sent = base .. 'sent' .. of(owner)
local day = math.floor(micros / 86400000000)
local left = integer((day + 1) * 86400000 - now)
if ARGV[7] ~= '' and tonumber(ARGV[6]) > 0 then
  local stored = tonumber(redis.call('HGET', base .. 'usage' .. of(owner), 'bytes') or 0)
  if stored + ARGV[6] > tonumber(ARGV[7]) then return { 'bytes', stored } end
end
if ARGV[4] == '' then return { 'counted', 0, 0, day, left } end
local h = redis.call('HMGET', sent, 'day', 'bytes')
local had = h[1] == integer(day) and tonumber(h[2]) or 0
local room = ARGV[4] - had
local more = tonumber(ARGV[3])
if more > 0 then
  if tonumber(ARGV[2]) > room then return { 'day', 0, had, day, left } end
  more = math.min(more, room)
elseif ARGV[5] ~= integer(day) then
  more = 0  -- what did not come was counted on a day that is over
end
if more ~= 0 then
  had = math.max(0, had + more)
  redis.call('HSET', sent, 'day', integer(day), 'bytes', integer(had))
  redis.call('PEXPIRE', sent, 172800000)
end
return { 'counted', more, had, day, left }
