-- What waits and what runs, of an owner or of everybody. Writes nothing. Of what is very long only a part is looked at, and of
-- the lanes of all owners together, and of jobs in stages of all owners, no more than of one line.
-- KEYS: base. ARGV: owner ('' for everybody), most entries of a line that are looked at, then the queues.
-- Returns {{queue, waiting, running, when the job that has waited longest was accepted (ms; '' if none), time of one process that what
-- waits will take as far as the pace of it is known (ms), jobs whose pace is not, units that could run at once, lanes, jobs in the longest}, ...},
-- then of each unit that runs {queue, worker, when it was pulled (us), kind ('' for rows), lane, how many of its jobs are the owner's}.
local wanted, most = ARGV[1], tonumber(ARGV[2]) - 1
local queues, units, at, left = {}, {}, {}, most + 1
local function is_wanted(id) return wanted == '' or owner_of(id) == wanted end
-- What waits in a lane, or of a job in stages, takes a process so long (ms; nil if that is not known), and so many could be at it at once.
local function add_work(queue, millis, jobs, units, depth)
  if millis then queue[5] = queue[5] + millis else queue[6] = queue[6] + jobs end
  queue[7], queue[8], queue[9] = queue[7] + units, queue[8] + 1, math.max(queue[9], depth)
end
local function wait_since(queue, created)
  if created and (queue[4] == '' or tonumber(created) < tonumber(queue[4])) then queue[4] = created end
end

for i = 3, #ARGV do
  local queue = { ARGV[i], 0, 0, '', 0, 0, 0, 0, 0 }
  queues[#queues + 1], at[ARGV[i]] = queue, queue
  local webhooks = ARGV[i] == 'webhooks'
  local line_of_owners = webhooks and base .. 'outbox' or base .. 'ready:' .. ARGV[i]
  for _, owner in ipairs(wanted ~= '' and { wanted } or redis.call('ZRANGE', line_of_owners, 0, most)) do
    if webhooks then queue[2] = queue[2] + waiting_webhooks(owner) end
    -- Jobs in stages, whose ids stand in those of the other queues, are counted below.
    local lanes = {}
    if ARGV[i] == 'online' and left > 0 then
      lanes = redis.call('ZRANGE', base .. 'work:' .. ARGV[i] .. of(owner), 0, left - 1)
    end
    left = left - #lanes
    for _, lane in ipairs(lanes) do
      local line = base .. 'lane:' .. lane .. of(owner)
      local first = redis.call('ZRANGE', line, 0, 0)[1]
      if first then
        local depth, rate = redis.call('ZCARD', line), tonumber(redis.call('HGET', base .. 'pace:' .. lane, 'rate') or 0)
        queue[2] = queue[2] + depth
        add_work(queue, rate > 0 and 1000 * depth / rate, depth, depth, depth)
        wait_since(queue, redis.call('HGET', base .. 'job:' .. first, 'created'))
      end
    end
  end
end
-- Slices or fits that nobody has begun; of what is still to be planned, and of an end, nothing is known but that it is one unit.
local function add_staged(queue, id)
  local b = redis.call('HMGET', base .. 'batch:' .. id, 'slices', 'next', 'pace', 'plan', 'stop')
  local left, pace = (b[1] or 0) - (b[2] or 0) + redis.call('ZCARD', base .. 'again:' .. id), tonumber(b[3] or 0)
  if left > 0 and b[5] == '' then
    add_work(queue, pace > 0 and 1000 * left / pace, 1, left, 1)
  elseif b[4] == 'waiting' then
    add_work(queue, nil, 1, 1, 1)
  end
end
local function count_staged(id)
  local h = redis.call('HMGET', base .. 'job:' .. id, 'status', 'queue', 'created', 'owner')
  local queue = at[h[2] or '']
  if queue and (wanted == '' or (h[4] or 'default') == wanted) then
    if h[1] == 'queued' then
      queue[2] = queue[2] + 1
      wait_since(queue, h[3])
    elseif h[1] == 'running' then
      queue[3] = queue[3] + 1
    end
    if wanted == '' and legal[h[1]] then add_staged(queue, id) end
  end
end
local cursor, staged, seen = '0', {}, 0
repeat
  local page = redis.call('SSCAN', base .. 'batches', cursor, 'COUNT', most + 1)
  cursor = page[1]
  for _, id in ipairs(page[2]) do
    if seen > most then break end
    if not staged[id] then  -- a scan may find one twice
      staged[id], seen = true, seen + 1
      count_staged(id)
    end
  end
until cursor == '0' or seen > most
for _, fence in ipairs(redis.call('ZRANGE', base .. 'leases', 0, most)) do
  local u = redis.call('HMGET', base .. 'unit:' .. fence, 'queue', 'worker', 'pulled', 'kind', 'lane', 'jobs')
  if u[1] then
    local own = 0
    for id in string.gmatch(u[6], '%S+') do
      if is_wanted(id) then own = own + 1 end
    end
    if not u[4] and at[u[1]] then at[u[1]][3] = at[u[1]][3] + own end
    units[#units + 1] = { u[1], u[2], u[3], u[4] or '', u[5], own }
  end
end
for _, queue in ipairs(queues) do queue[5] = math.ceil(queue[5]) end
return { queues, units }
