"""What the server does in one step each, in its own Lua. The keys of each script share a slot of a cluster.

A budget has three keys: the units spent (a number), the leases, and the holders that confirmed theirs (sorted sets:
holder → when the lease ends). See `stores.online.budgets`.

An impression changes its user's history and its budgets, which stand in two slots: two scripts, of which the second may
never run because something dies between them. So the first notes in the user's keys that the event is still owed to its
budgets; the second, that it is counted, in theirs; then the first note goes. Whoever reports the event again finds it
owed, and counts it unless it is counted. The note that it is counted outlives the one that it is owed, so no event
counts twice; it goes minutes after that one is known to be gone.

`now` is empty outside of tests: then it is the server's own clock, one for all who share it.
"""

_CLOCK = """
local function clock(now)
  if now ~= '' then return tonumber(now) end
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
"""

# A damaged key answers nothing, and is not touched: it must not keep back what stands in sound ones.
_SPARING = """
local function sparing(...)
  local found = redis.pcall(...)
  if type(found) ~= 'table' or not found.err then return found end
  if not string.find(found.err, 'WRONGTYPE', 1, true) then error(found) end
end
"""

_BUDGETS = (
    _CLOCK
    + """
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
)

# Applies one event to its user's history, once. KEYS: history, trimmed ids, ids still to be counted (all of one user).
# ARGV: id, packed event, time, limit, seconds, now, seconds for which it is owed to budgets ('' where there are none).
# Returns 1 where the event was new, plus 2 where it is still to be counted towards its budgets.
# A history that outgrows its limit loses its oldest event, by (time, id) so that the order of arrival never matters.
# Half of it is kept for what users did about offers: only where there is more of that does it lose its oldest of those,
# and else the oldest that was merely shown or clicked.
# What is lost stays in `trimmed` for as long as a repetition could still come; what comes even later is not applied.
_APPLY = """
local function apply()
  local history, trimmed, owed = KEYS[1], KEYS[2], KEYS[3]
  local id, packed, at = ARGV[1], ARGV[2], tonumber(ARGV[3])
  local limit, seconds = tonumber(ARGV[4]), tonumber(ARGV[5])
  local passing = {impression = true, decision = true, click = true}

  local function read(value)
    local ok, event = pcall(cmsgpack.unpack, value)
    if not ok or type(event) ~= 'table' then return -math.huge, true end
    return tonumber(event[1]) or -math.huge, passing[event[2]] or false
  end

  local function older(t, id, than)
    return not than or t < than.at or (t == than.at and id < than.id)
  end

  local since = ARGV[7] ~= '' and sparing('ZSCORE', owed, id)
  if redis.call('HEXISTS', history, id) == 1 or sparing('ZSCORE', trimmed, id) then
    return since and clock(ARGV[6]) - since < tonumber(ARGV[7]) and 2 or 0
  end
  redis.call('HSET', history, id, packed)
  if redis.call('HLEN', history) > limit then
    local all, newest, lasting, oldest = redis.call('HGETALL', history), nil, 0, {}
    for i = 1, #all, 2 do
      local t, passes = read(all[i + 1])
      if older(t, all[i], oldest[passes]) then oldest[passes] = {id = all[i], at = t} end
      if not newest or t > newest then newest = t end
      if not passes then lasting = lasting + 1 end
    end
    local lost = oldest[lasting <= math.floor(limit / 2)] or oldest[true] or oldest[false]
    redis.call('HDEL', history, lost.id)
    if lost.id == id and lost.at < newest - seconds then return 0 end
    if sparing('ZADD', trimmed, string.format('%.17g', lost.at), lost.id) then
      redis.call('ZREMRANGEBYSCORE', trimmed, '-inf', string.format('(%.17g', newest - seconds))
      redis.call('EXPIRE', trimmed, seconds)
    end
  end
  redis.call('EXPIRE', history, seconds)
  if ARGV[7] == '' then return 1 end
  if sparing('ZADD', owed, string.format('%.17g', clock(ARGV[6])), id) then redis.call('EXPIRE', owed, ARGV[7]) end
  return 3
end
"""
APPLY = _CLOCK + _SPARING + _APPLY + "return apply()"

# Counts one event towards its budgets, once. KEYS: counted events, then three for each budget.
# ARGV: the event, holder, now, seconds for which it is remembered as counted, seconds for which those are remembered
# whose users' keys say so too, then those.
# A damaged budget keeps the others from nothing. Where what was counted can't be told, the event counts: a budget may
# end too soon then, and is never handed out twice.
_COUNT = (
    _BUDGETS
    + _SPARING
    + """
local function count_one(who, now, spent, leases, confirmed)
  if holds(confirmed, who, now) then return end
  local ends = holds(leases, who, now)
  redis.call('INCR', spent)
  if ends then
    redis.call('ZREM', leases, who)
    hold(confirmed, who, ends, now)
  end
end

local function count(who, now, first)
  for i = first, #KEYS, 3 do pcall(count_one, who, now, KEYS[i], KEYS[i + 1], KEYS[i + 2]) end
end
"""
)
COUNT = (
    _COUNT
    + """
local counted, event, now = KEYS[1], ARGV[1], clock(ARGV[3])
local settled = string.format('%.17g', now + tonumber(ARGV[5]))
if sparing('ZSCORE', counted, event) ~= nil then
  for i = 6, #ARGV do redis.call('ZADD', counted, 'XX', 'LT', settled, ARGV[i]) end
  if holds(counted, event, now) then return 0 end
  hold(counted, event, string.format('%.17g', now + tonumber(ARGV[4])), now)
end
count(ARGV[2], now, 2)
return 1
"""
)

# Both in one, for where all keys are on one server: nothing can die in between, so nothing is noted. KEYS and ARGV are
# those of APPLY, with three keys for each budget and the holder behind. Returns what APPLY does.
APPLY_AND_COUNT = (
    _COUNT
    + _APPLY
    + """
local found = apply()
if found == 1 then count(ARGV[8], clock(ARGV[6]), 4) end
return found
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
    local units = tonumber(redis.call('GET', spent) or 0)
    if not units then return redis.error_reply('WRONGTYPE the units spent are no number') end
    local out = units + redis.call('ZCARD', leases)
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

# Takes values into a user's record of fresh ones, each unless a later one is there. KEYS: the record.
# ARGV: seconds until the record is forgotten, then name, time and packed value of each. Returns how many were taken.
# What can't be read there makes way.
REFRESH = """
local taken = 0
for i = 2, #ARGV, 3 do
  local found = redis.call('HGET', KEYS[1], ARGV[i])
  local ok, before = pcall(cmsgpack.unpack, found or '')
  local at = found and ok and type(before) == 'table' and tonumber(before[1])
  if not at or at < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    taken = taken + 1
  end
end
if taken > 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return taken
"""
