-- One consistent snapshot of each of some jobs. Writes nothing.
-- KEYS: base. ARGV: 'full' (with result) or 'head', owner ('' = whoever), then id and known revision ('' if none) of each.
-- Returns an entry a job: 0 if unknown or another owner's, 1 if gone, {revision} if that is the known one,
-- else {id, record, spec, outcome, result, position, rate}.
local with_result = ARGV[1] == 'full'
local fields = { 'status', 'revision', 'lane', 'attempt', 'total', 'succeeded', 'failed', 'skipped', 'created', 'started',
  'finished', 'expires', 'cancel', 'size', 'kind', 'phase', 'queue', 'owner' }
local reply = {}
for i = 3, #ARGV, 2 do
  local id, known = ARGV[i], ARGV[i + 1]
  local h = redis.call('HMGET', base .. 'job:' .. id, unpack(fields))
  local entry
  local owner = h[18] or 'default'
  if not h[1] or ARGV[2] ~= '' and owner ~= ARGV[2] then
    entry = 0
  elseif h[1] == 'deleted' or (h[12] and tonumber(h[12]) <= now) then
    entry = 1
  elseif h[2] == known then
    entry = { known }
  else
    local spec, outcome, result, position, rate = false, false, false, false, false
    if h[11] then
      local payload = { base .. 'spec:' .. id, base .. 'outcome:' .. id, with_result and base .. 'result:' .. id or nil }
      local found = redis.call('MGET', unpack(payload))
      spec, outcome, result = found[1], found[2], found[3] or false
    else
      spec = redis.call('GET', base .. 'spec:' .. id)
      if h[15] then
        if h[1] == 'queued' then position = place(base .. 'work:' .. h[17], base .. 'ready:' .. h[17], owner, id) end
        -- Rows a second since the first chunk was begun.
        local b = redis.call('HMGET', base .. 'batch:' .. id, 'scored', 'began', 'ended')
        if h[15] == 'train' then
          -- Fits that are done, and all of them so far.
          rate = redis.call('HLEN', base .. 'parts:' .. id) .. ' ' .. (redis.call('HGET', base .. 'batch:' .. id, 'slices') or 0)
        elseif b[3] then
          rate = string.format('%.3f', b[1] * 1000 / math.max(b[3] - b[2], 1))
        end
      else
        if h[1] == 'queued' then position = place(base .. 'lane:' .. h[3], base .. 'sharers:' .. h[3], owner, id) end
        rate = redis.call('HGET', base .. 'pace:' .. h[3], 'rate')
      end
    end
    -- Between the two clocks of Redis's own expiry and of this script the payload may be gone first.
    entry = spec and { id, h, spec, outcome, result, position, rate } or 1
  end
  reply[#reply + 1] = entry
end
return reply
