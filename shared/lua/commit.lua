-- End a unit: write the results of its jobs, once. A job that another attempt owns by now is left alone (the fence), and a
-- repeated commit changes nothing.
-- KEYS: base. ARGV: fence, CPU time of the unit (ms), then of each job: id, status, succeeded, failed, result ('' if none), outcome ('' if none),
-- bytes in storage ('' if none).
-- Returns the number of jobs that were written, then the ids whose result was kept.
local fence = ARGV[1]
local u = redis.call('HMGET', base .. 'unit:' .. fence, 'lane', 'pulled', 'worker')
if not u[1] then return { 0 } end
-- Deletes first: they are allowed when memory is used up and let the rest of the script through.
redis.call('ZREM', base .. 'leases', fence)
redis.call('DEL', base .. 'unit:' .. fence)
local written, kept, ends, ends_bytes = {}, {}, {}, 0
measured = true
for i = 3, #ARGV, 7 do
  local id = ARGV[i]
  local h = facts(id, 'fence', 'cancel', 'attempt', 'started')
  if h[1] == 'running' and h[12] == fence then
    if h[13] == '1' then
      finish(id, h, 'cancelled', 0, 0, '')
      ends[#ends + 1] = { id, h, 'cancelled', 0, 0, '', '', '' }
    else
      if ARGV[i + 4] ~= '' then redis.call('SET', base .. 'result:' .. id, ARGV[i + 4], 'PX', h[4]) end
      if ARGV[i + 6] ~= '' then
        redis.call('HSET', base .. 'job:' .. id, 'size', ARGV[i + 6])
        hold(h[8] or 'default', id, ARGV[i + 6])
      end
      finish(id, h, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 5])
      kept[#kept + 1] = id
      ends[#ends + 1] = { id, h, unpack(ARGV, i + 1, i + 6) }
      ends_bytes = ends_bytes + #ARGV[i + 4] + #ARGV[i + 5]
    end
    ends_bytes = ends_bytes + 200  -- id, length and fields
    written[#written + 1] = id
  end
end
-- The lane's pace: jobs a second of one worker while it works; how long a unit usually takes, on the clock and in CPU
-- time; and the least CPU time of late (it creeps up by 2 % a unit).
local pace = base .. 'pace:' .. u[1]
local p = redis.call('HMGET', pace, 'rate', 'unit', 'cpu', 'floor')
local unit, cpu = math.max(micros - u[2], 1) / 1000, tonumber(ARGV[2])
local rate = #written * 1000 / unit
local function usual(before, value) return string.format('%.3f', before and 0.8 * before + 0.2 * value or value) end
redis.call('HSET', pace, 'rate', usual(p[1], rate), 'unit', usual(p[2], unit), 'cpu', usual(p[3], cpu),
  'floor', string.format('%.3f', p[4] and math.min(cpu, 1.02 * p[4]) or cpu))
redis.call('PEXPIRE', pace, 3600000)
sign_busy(u[1], u[3])
-- How they ended, so that who submitted them need not ask, unless that is much: the form and the length of each end, then the ends, as
-- shared/announcement.py takes them: fields of the record, a line end, outcome and result. The first blank keeps the line end apart from the
-- last id, for releases that know the ids only.
announce('d', written, ends_bytes <= 16384 and function()
  local lengths = {}
  for i, e in ipairs(ends) do
    local h, after, succeeded, failed, result, outcome, size = unpack(e, 2, 8)
    ends[i] = table.concat({ e[1], after, h[2] + 1, '-', h[14] or 0, h[3], succeeded, failed, h[3] - succeeded - failed, h[10],
      h[15] or '-', integer(now), integer(now + h[4]), h[13] or '-', size ~= '' and size or '-', #outcome }, ' ') .. '\n' .. outcome .. result
    lengths[i] = #ends[i]
  end
  return ' \n1 ' .. table.concat(lengths, ' ') .. '\n' .. table.concat(ends)
end)
return { #written, unpack(kept) }
