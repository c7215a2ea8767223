"""What the server does in one step each, in its own Lua.

A budget has three keys: the units spent (a number), the leases, and the holders that confirmed theirs (sorted sets:
holder → when the lease ends). See `stores.budgets`. `now` is empty outside of tests: then it is the server's own clock,
one for all who share it.
"""

_BUDGETS = """
local function clock(now)
  if now ~= '' then return tonumber(now) end
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end

local function holds(key, who, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  return redis.call('ZSCORE', key, who)
end

local function hold(key, who, ends, now)
  redis.call('ZADD', key, ends, who)
  local left = math.ceil(ends - now) + 1
  if redis.call('TTL', key) < left then redis.call('EXPIRE', key, left) end
end
"""

# Applies one event, once. KEYS: history, trimmed ids, then three for each budget.
# ARGV: id, packed event, time, limit, seconds, now, holder.
# A history that outgrows its limit loses its oldest event, by (time, id) so that the order of arrival never matters;
# its id stays in `trimmed` for as long as a repetition could still come; one that comes even later is not applied.
APPLY = (
    _BUDGETS
    + """
local history, trimmed = KEYS[1], KEYS[2]
local id, packed, at = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, seconds = tonumber(ARGV[4]), tonumber(ARGV[5])

local function time_of(value)
  local ok, event = pcall(cmsgpack.unpack, value)
  return ok and type(event) == 'table' and tonumber(event[1]) or -math.huge
end

if redis.call('HEXISTS', history, id) == 1 or redis.call('ZSCORE', trimmed, id) then return 0 end
redis.call('HSET', history, id, packed)
if redis.call('HLEN', history) > limit then
  local all = redis.call('HGETALL', history)
  local oldest, when, newest
  for i = 1, #all, 2 do
    local t = time_of(all[i + 1])
    if not when or t < when or (t == when and all[i] < oldest) then oldest, when = all[i], t end
    if not newest or t > newest then newest = t end
  end
  redis.call('HDEL', history, oldest)
  if oldest == id and when < newest - seconds then return 0 end
  redis.call('ZADD', trimmed, string.format('%.17g', when), oldest)
  redis.call('ZREMRANGEBYSCORE', trimmed, '-inf', string.format('(%.17g', newest - seconds))
  redis.call('EXPIRE', trimmed, seconds)
end
redis.call('EXPIRE', history, seconds)

if #KEYS == 2 then return 1 end
local now, who = clock(ARGV[6]), ARGV[7]
for i = 3, #KEYS, 3 do
  local spent, leases, confirmed = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  if not holds(confirmed, who, now) then
    redis.call('INCR', spent)
    local ends = holds(leases, who, now)
    if ends then
      redis.call('ZREM', leases, who)
      hold(confirmed, who, ends, now)
    end
  end
end
return 1
"""
)

# Takes units of budgets on lease: all, or none. KEYS: three for each unit. ARGV: now, seconds, then holder and how many
# units may be out, for each unit. Returns what was short: the unit's place from 0, and the units out, in turns.
RESERVE = (
    _BUDGETS
    + """
local now = clock(ARGV[1])
local ends = string.format('%.17g', now + tonumber(ARGV[2]))
local new, short, take = {}, {}, {}
for i = 1, #KEYS, 3 do
  local spent, leases, confirmed = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local place = (i - 1) / 3
  local who, allowed = ARGV[2 * place + 3], tonumber(ARGV[2 * place + 4])
  if not holds(leases, who, now) and not holds(confirmed, who, now) then
    local out = tonumber(redis.call('GET', spent) or 0) + redis.call('ZCARD', leases)
    if out + (new[leases] or 0) < allowed then
      new[leases] = (new[leases] or 0) + 1
      take[#take + 1] = {leases, who}
    else
      short[#short + 1] = place
      short[#short + 1] = out
    end
  end
end
if #short == 0 then
  for _, unit in ipairs(take) do hold(unit[1], unit[2], ends, now) end
end
return short
"""
)

# Keeps an answer, unless another than the expected one is kept there: then that one is returned.
# KEYS: the answer. ARGV: the one expected ('' for none), the new one, milliseconds.
REMEMBER = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""
