-- Put before every script, then come outbox.lua and prelude.lua. KEYS[1] is always the base of all keys, "{prefix}:"; keys derived
-- from it share its hash tag, so they lie on the same server.

local base = KEYS[1]

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local micros = clock()
local now = math.floor(micros / 1000)

-- %.0f: a number of this size would otherwise be written with an exponent.
local function integer(number) return string.format('%.0f', number) end

-- Add to a counter of shared/metrics.py, a field of one hash: name and labels with blanks between them. Returns what it is now.
local function count(field, by) return redis.call('HINCRBY', base .. 'metrics', field, by or 1) end

-- The same where one of the labels is a model. The models that come first have counters of their own, as many as the setting metrics_models
-- says; the others are counted together, under `other`. Only a field that is new is looked at.
local function count_model(before, model, after, by)
  local field = before .. model .. after
  if count(field, by) > by or redis.call('SISMEMBER', base .. 'metered', model) == 1 then return end
  local most = tonumber(redis.call('HGET', base .. 'metrics', 'most') or 100)
  if redis.call('SISMEMBER', base .. 'models', model) == 1 and redis.call('SCARD', base .. 'metered') < most then
    redis.call('SADD', base .. 'metered', model)
  else
    redis.call('HDEL', base .. 'metrics', field)
    count(before .. 'other' .. after, by)
  end
end

-- Add a time to a histogram: bucket 0 goes up to 1 ms, each to twice as much as the one before it; the sum is in us. As in shared/metrics.py.
local function observe(field, millis)
  local bucket, top = 0, 1
  while top < millis and bucket < 26 do bucket, top = bucket + 1, 2 * top end
  count(field .. ' ' .. bucket)
  count(field .. ' sum', integer(1000 * millis))
end
