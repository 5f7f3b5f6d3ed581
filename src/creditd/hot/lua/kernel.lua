-- The kernel that check.lua and decide.lua share: domain/decide.py, step by step. A property test holds the two
-- together; change both or neither.
--
-- State, one hash per account, field -> msgpack:
--   m          {format, run id, epoch number, epoch nonce (string), sequence, policy version, at, end, raised}
--   $<credit>  {burn order, available, held, granted, debt, next expiry, next refill, {remaining..}, grants, limited}
--              remaining: of each grant in burn order; grants: msgpack of {grant..}, looked into only to name those that pay;
--              limited: {place of a grant, {feature..}, ..}: what pays for some features only; false without any
--   #<group>   {counter, start, end, used, ..}: counters that are mostly used together, as keys.py groups them
--   !<hold>    {sequence, expires at, {grant, micros, lapsed 0/1, ..}, {counter, start, end, micros, carry debt 0/1, ..},
--              {counter, start, end, applied, micros 0/1, ..}, description}
--              of a reservation: what it took of grants, counted as overage, and counted in limits and budgets
-- Operation (msgpack): {run id, now, policy version, catalog revision, {draw..}}
--   draw    {feature, mode, credit, burn order, amount, floor, overage, charges, cap, capped by, {tier..} or false,
--          {join..} or {settle..} or false, units}
--   overage {counter, start, end, cap, carry debt 0/1} or false
--   charges {{counter..}, {start..}, {end..}, {cap..}, {flags..}, {group..}, {place of its group..}, also or false}: a column
--           each; cap of a soft one -1; flags 1 opens, 2 micros, or their sum; also {place, {counter, start, ..}, ..}
--   tier    {counter, start, end, delta, low, high}
--   join    {1, hold, sequence or 0 when new, expires at, description}: what is drawn is held
--   settle  {2, hold, sequence, held less, owed, {grant, micros, ..}: returns,
--           {counter, group, start, end, delta, ..}, {expires at, parts, overage, charges, description}: what stays held, or false}
--   mode 1 enforce, 2 partial, 3 record;  cap -1 = unlimited;  instants in ms, amounts in micros, all integers
-- Result of a draw: {denial or false, denied by, shortfall, from grants, from overage, debt, {grant, amount, ..},
--   {used..}, {applied..}, overage used, spendable, overage room, balances or false, {start, end, ..} or false,
--   of a settle {{grant, returned, ..}, {grant, debt paid, ..}, {moved..}}, else false}
--   balances {available, held, granted, debt, next expiry, next refill}
-- Cost: O(draws * (grants of the credit + counters of the draw)).

local FORMAT = 2
local MAX = 9000000000000000

-- Raised as an error value to leave a draw; nothing has been written yet when it is.
local LATE, RANGE, HOLD = 'LATE', 'RANGE', 'HOLD'
local JOIN, SETTLE = 1, 2
-- Flags of a charge.
local OPENS, MICROS = 1, 2

-- Where the counters of the tiers of a draw are whose price is for another place; raised as PRICE.
local PRICE, tiers_used = 'PRICE', {}

local function pack(value) return cmsgpack.pack(value) end

local function load(op)
  local names, seen = {'m'}, {}
  local function want(name)
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  for _, draw in ipairs(op[5]) do
    if draw[3] ~= '' then want('$' .. draw[3]) end
    if draw[7] then want('#' .. draw[7][1]) end
    for _, group in ipairs(draw[8][6]) do want('#' .. group) end
    if draw[11] then
      for _, tier in ipairs(draw[11]) do want('#' .. tier[1]) end
    end
    local step = draw[12]
    if step then
      want('!' .. step[2])
      if step[1] == SETTLE then
        for i = 2, #step[7], 5 do want('#' .. step[7][i]) end
      end
    end
  end
  local values = {}
  -- unpack() is bounded by Lua's stack.
  for first = 1, #names, 4000 do
    local found = redis.call('HMGET', KEYS[1], unpack(names, first, math.min(first + 3999, #names)))
    for i = 1, #found do values[first + i - 1] = found[i] end
  end
  if not values[1] then return nil end
  local meta = cmsgpack.unpack(values[1])
  if meta[1] ~= FORMAT or meta[2] ~= op[1] then return nil end
  local work = {meta = meta, credits = {}, holds = {}, groups = {}, group_of = {}, place_of = {},
    dirty_credits = {}, dirty_groups = {}, dirty_holds = {}}
  for i = 2, #names do
    if values[i] then
      local kind, key, value = names[i]:byte(1), names[i]:sub(2), cmsgpack.unpack(values[i])
      if kind == 35 then
        work.groups[key] = value
        for place = 1, #value, 4 do
          work.group_of[value[place]], work.place_of[value[place]] = key, place
        end
      elseif kind == 36 then
        work.credits[key] = value
      else
        work.holds[key] = value
      end
    end
  end
  return work
end

-- The start, end and use of a counter, or nil.
local function counter_of(work, key)
  local place = work.place_of[key]
  if not place then return nil end
  local group = work.groups[work.group_of[key]]
  return group[place + 1], group[place + 2], group[place + 3]
end

-- What the window [start, finish) has counted by `at`.
local function used_of(work, key, start, finish, at)
  local place = work.place_of[key]
  if not place then return 0 end
  local group = work.groups[work.group_of[key]]
  local from = group[place + 1]
  if from == start then return group[place + 3] end
  if from < start then return 0 end
  -- The present window, and another one is stored: windows lie elsewhere since then, and count anew.
  if finish > at then return 0 end
  error(LATE, 0)
end

-- Adds to what charges have used what the counters beside them have.
local function use_beside(work, also, used, at)
  for i = 1, #also, 2 do
    local place, counters = also[i], also[i + 1]
    for j = 1, #counters, 2 do
      used[place] = used[place] + used_of(work, counters[j], counters[j + 1], 0, at)
      if used[place] > MAX then error(RANGE, 0) end
    end
  end
end

local function check_tiers(work, draw, at)
  if not draw[11] then return end
  local used, stale = {}, false
  for i, tier in ipairs(draw[11]) do
    used[i] = used_of(work, tier[1], tier[2], tier[3], at)
    if used[i] < tier[5] or used[i] > tier[6] then stale = true end
  end
  if stale then
    tiers_used = used
    error(PRICE, 0)
  end
end

local function set_counter(work, key, name, start, finish, used)
  if used > MAX then error(RANGE, 0) end
  local group = work.groups[name]
  if not group then
    group = {}
    work.groups[name] = group
  end
  local place = work.place_of[key]
  if not place then
    place = #group + 1
    work.group_of[key], work.place_of[key], group[place] = name, place, key
  end
  group[place + 1], group[place + 2], group[place + 3] = start, finish, used
  work.dirty_groups[name] = true
end

-- The places of the grants that don't pay for a feature; nil when all do.
local function excluded_of(credit, feature)
  if not credit[10] then return nil end
  local excluded = {}
  for i = 1, #credit[10], 2 do
    excluded[credit[10][i]] = true
    for _, name in ipairs(credit[10][i + 1]) do
      if name == feature then excluded[credit[10][i]] = nil end
    end
  end
  return excluded
end

local function balances(credit)
  return {credit[2], credit[3], credit[4], credit[5], credit[6], credit[7]}
end

-- The units a partial draw without credits may take (false = as asked), the micros that counters leave (-1 = no
-- bound), and a denial {reason, counter, shortfall} or nil.
local function counter_room(draw, used)
  local units, micros_room = false, -1
  if draw[2] == 3 then return units, micros_room, nil end
  if draw[9] >= 0 and draw[5] > draw[9] then
    if draw[2] == 1 then return false, 0, {'BUDGET_EXCEEDED', draw[10], draw[5] - draw[9]} end
    micros_room = draw[9]
  end
  local charges = draw[8]
  local caps, flags = charges[4], charges[5]
  for i = 1, #caps do
    if caps[i] >= 0 then
      local room = math.max(0, caps[i] - used[i])
      if flags[i] >= MICROS then
        if draw[2] == 1 and draw[5] > room then
          return false, 0, {'BUDGET_EXCEEDED', charges[1][i], draw[5] - room}
        end
        micros_room = micros_room < 0 and room or math.min(micros_room, room)
      elseif draw[13] > room then
        if draw[2] == 1 or draw[3] ~= '' or room == 0 then
          return false, 0, {'LIMIT_EXCEEDED', charges[1][i], draw[13] - room}
        end
        units = units and math.min(units, room) or room
      end
    end
  end
  return units, micros_room, nil
end

-- What the grants hold for the draw's feature; fills in what of it may be spent, and the overage.
local function credit_room(draw, credit, excluded, result)
  local eligible, overage, remaining = 0, draw[7], credit[8]
  for i = 1, #remaining do
    if not (excluded and excluded[i]) then eligible = eligible + remaining[i] end
  end
  result[11] = eligible
  if draw[6] > 0 and draw[2] ~= 3 then result[11] = math.min(eligible, math.max(0, credit[2] - draw[6])) end
  if overage then result[12] = overage[4] < 0 and -1 or math.max(0, overage[4] - result[10]) end
  return eligible
end

local function joins(draw) return draw[12] and draw[12][1] == JOIN end

local function settles(draw) return draw[12] and draw[12][1] == SETTLE end

-- Takes a draw's micros out of a credit; fills `result`, or its denial.
local function burn(work, draw, credit, excluded, eligible, result, micros_room)
  local mode, amount, overage = draw[2], draw[5], draw[7]
  local spendable, overage_room = result[11], result[12]
  if mode == 2 and micros_room >= 0 then
    amount = math.min(amount, micros_room)
    if amount == 0 and draw[5] > 0 then
      result[1], result[3] = 'BUDGET_EXCEEDED', draw[5]
      return
    end
  end
  local from_grants = math.min(amount, spendable)
  local rest = amount - from_grants
  local from_overage = overage_room < 0 and rest or math.min(rest, overage_room)
  rest = rest - from_overage
  local debt = mode == 3 and rest or 0
  if rest > debt and (mode == 1 or rest == amount) then
    if overage then
      result[1] = 'OVERAGE_CAP_REACHED'
    elseif eligible > spendable then
      result[1] = 'FLOOR_REACHED'
    else
      result[1] = 'INSUFFICIENT_CREDITS'
    end
    result[3] = rest
    return
  end
  local owed = debt
  if overage and overage[5] == 1 and not joins(draw) then owed = owed + from_overage end
  if credit[2] - from_grants - owed < -MAX then error(RANGE, 0) end
  local left, allocations, remaining = from_grants, {}, credit[8]
  local grants = left > 0 and cmsgpack.unpack(credit[9])
  for i = 1, #remaining do
    if left == 0 then break end
    if remaining[i] > 0 and not (excluded and excluded[i]) then
      local take = math.min(left, remaining[i])
      left = left - take
      remaining[i] = remaining[i] - take
      allocations[#allocations + 1] = grants[i]
      allocations[#allocations + 1] = take
    end
  end
  credit[2] = credit[2] - from_grants - owed
  credit[5] = credit[5] + owed
  if joins(draw) then credit[3] = credit[3] + from_grants + from_overage end
  work.dirty_credits[draw[3]] = true
  if overage and from_overage > 0 then
    result[10] = result[10] + from_overage
    set_counter(work, overage[1], overage[1], overage[2], overage[3], result[10])
  end
  result[3] = draw[5] - from_grants - from_overage - debt
  result[4], result[5], result[6], result[7] = from_grants, from_overage, debt, allocations
  result[13] = balances(credit)
end

local function count(work, draw, result, units, starts, finishes, at)
  local charged, used, applied, charges = result[4] + result[5] + result[6], result[8], result[9], draw[8]
  local names, flags, also = charges[1], charges[5], charges[8]
  -- What a hold counts is done when it is settled; the charges only tell how the limits stand.
  for i = 1, settles(draw) and 0 or #names do
    local before = used[i]
    local delta = flags[i] >= MICROS and charged or draw[13]
    if units and flags[i] < MICROS then delta = math.min(delta, units) end
    delta = math.max(delta, -before)
    local own = also and used_of(work, names[i], starts[i], finishes[i], at) or before
    set_counter(work, names[i], charges[6][charges[7][i]], starts[i], finishes[i], own + delta)
    used[i], applied[i] = before + delta, delta
  end
  if draw[11] then
    for _, tier in ipairs(draw[11]) do
      local before = used_of(work, tier[1], tier[2], tier[3], at)
      set_counter(work, tier[1], tier[1], tier[2], tier[3], before + tier[4])
    end
  end
end

-- Adds `items`, flat in groups of `width`, to a list: to the group with the same values in the fields named by `same`,
-- or to the end; what is added up is the field `sum`.
local function merge(list, items, width, same, sum)
  for i = 1, #items, width do
    local place = #list + 1
    for j = 1, #list, width do
      local equal = true
      for _, field in ipairs(same) do
        if list[j + field] ~= items[i + field] then equal = false end
      end
      if equal then
        place = j
        break
      end
    end
    if place > #list then
      for field = 0, width - 1 do list[place + field] = items[i + field] end
    else
      list[place + sum] = list[place + sum] + items[i + sum]
    end
  end
end

-- The hold that a draw joins takes over what was drawn.
local function join(work, draw, result, starts, finishes, sequence)
  local step = draw[12]
  local hold = work.holds[step[2]] or {0, 0, {}, {}, {}, ''}
  local parts, overage, charges = {}, {}, {}
  for i = 1, #result[7], 2 do
    parts[#parts + 1], parts[#parts + 2], parts[#parts + 3] = result[7][i], result[7][i + 1], 0
  end
  if draw[7] and result[5] > 0 then overage = {draw[7][1], draw[7][2], draw[7][3], result[5], draw[7][5]} end
  for i, counter in ipairs(draw[8][1]) do
    local n = #charges
    charges[n + 1], charges[n + 2], charges[n + 3] = counter, starts[i], finishes[i]
    charges[n + 4], charges[n + 5] = result[9][i], draw[8][5][i] >= MICROS and 1 or 0
  end
  merge(hold[3], parts, 3, {0, 2}, 1)
  merge(hold[4], overage, 5, {0, 1, 4}, 3)
  merge(hold[5], charges, 5, {0, 1}, 3)
  hold[1], hold[2], hold[6] = sequence, step[4], step[5]
  work.holds[step[2]] = hold
  work.dirty_holds[step[2]] = true
  -- At its expiry the segment is over, and the hold is released with what else is due.
  work.meta[8] = math.min(work.meta[8], step[4])
end

-- How far a counter moves by a change in a window of the past: not at all when that is over; never below 0.
local function countable(work, key, start, finish, delta, at)
  if finish ~= 0 and finish <= at then return 0 end
  local from, _, used = counter_of(work, key)
  if from and from > start then return 0 end
  return math.max(delta, (not from or from < start) and 0 or -used)
end

-- What leaves a hold goes where it belongs: to its grants, to the debt, out of the counters.
local function settle(work, draw, at, sequence)
  local step, credit = draw[12], work.credits[draw[3]]
  local returned, repaid, moved = {}, {}, {}
  if credit and draw[3] ~= '' then
    local grants = #step[6] > 0 and cmsgpack.unpack(credit[9]) or {}
    for i = 1, #step[6], 2 do
      local id, micros = step[6][i], step[6][i + 1]
      for place, grant in ipairs(grants) do
        if grant == id then
          local paid = math.min(credit[5], micros)
          credit[5] = credit[5] - paid
          credit[2] = credit[2] + micros
          credit[8][place] = credit[8][place] + micros - paid
          if paid > 0 then
            repaid[#repaid + 1] = id
            repaid[#repaid + 1] = paid
          end
          if micros > paid then
            returned[#returned + 1] = id
            returned[#returned + 1] = micros - paid
          end
        end
      end
    end
    credit[2], credit[5] = credit[2] - step[5], credit[5] + step[5]
    if math.abs(credit[2]) > MAX then error(RANGE, 0) end
    credit[3] = credit[3] - step[4]
    work.dirty_credits[draw[3]] = true
  end
  for i = 1, #step[7], 5 do
    local key, group, start, finish = step[7][i], step[7][i + 1], step[7][i + 2], step[7][i + 3]
    local delta = countable(work, key, start, finish, step[7][i + 4], at)
    moved[#moved + 1] = delta
    if delta ~= 0 then
      set_counter(work, key, group, start, finish, used_of(work, key, start, finish, at) + delta)
    end
  end
  local after = step[8]
  work.holds[step[2]] = after and {sequence, after[1], after[2], after[3], after[4], after[5]} or nil
  work.dirty_holds[step[2]] = true
  return {returned, repaid, moved}
end

-- Whether what went ahead has made something available again.
local function raises(draw, result)
  for _, delta in ipairs(result[9]) do
    if delta < 0 then return true end
  end
  if not settles(draw) then return false end
  local step = draw[12]
  for i = 5, #step[7], 5 do
    if step[7][i] < 0 then return true end
  end
  return #step[6] > 0
end

local function take(work, draw, at, sequence)
  if draw[12] then
    local hold = work.holds[draw[12][2]]
    if (hold and hold[1] or 0) ~= draw[12][3] then error(HOLD, 0) end
  end
  check_tiers(work, draw, at)
  local settled = settles(draw) and settle(work, draw, at, sequence) or false
  local charges, used, applied = draw[8], {}, {}
  local names, starts, finishes, flags = charges[1], charges[2], charges[3], charges[5]
  local spans = false
  for i = 1, #names do
    if flags[i] % 2 == OPENS then
      spans = spans or {}
      local start, finish = counter_of(work, names[i])
      if finish and finish > at then starts[i], finishes[i] = start, finish end
    end
    used[i], applied[i] = used_of(work, names[i], starts[i], finishes[i], at), 0
  end
  if spans then
    for i = 1, #names do spans[2 * i - 1], spans[2 * i] = starts[i], finishes[i] end
  end
  if charges[8] then use_beside(work, charges[8], used, at) end
  local overage_used = draw[7] and used_of(work, draw[7][1], draw[7][2], draw[7][3], at) or 0
  local credit = draw[3] ~= '' and work.credits[draw[3]] or nil
  local result = {false, '', 0, 0, 0, 0, {}, used, applied, overage_used, 0, 0,
    credit and balances(credit) or false, spans, settled}
  local excluded = credit and excluded_of(credit, draw[1])
  local eligible = credit and credit_room(draw, credit, excluded, result)
  local units, micros_room, denial = counter_room(draw, used)
  if denial then
    result[1], result[2], result[3] = denial[1], denial[2], denial[3]
    return result
  end
  if credit then
    burn(work, draw, credit, excluded, eligible, result, micros_room)
    if result[1] then return result end
  end
  count(work, draw, result, units, starts, finishes, at)
  if joins(draw) then join(work, draw, result, starts, finishes, sequence) end
  return result
end

local function reordered(work, op)
  for _, draw in ipairs(op[5]) do
    if draw[3] ~= '' then
      local credit = work.credits[draw[3]]
      if not credit or credit[1] ~= draw[4] then return true end
    end
  end
  return false
end

-- Decides an operation. Returns a reply code, the instant, the results and the changed working copy:
-- ok, deny (with the working copy as it was changed by then); cold (no state of this run), policy, catalog (the caller
-- is behind), roll, late, range, price (with the counters of the tiers of the draw in the results' place), hold (not as
-- the caller takes it to be, or not there).
local function decide(op)
  local revision = redis.call('GET', KEYS[2])
  if revision and tonumber(revision) > op[4] then return 'catalog' end
  local work = load(op)
  if not work then return 'cold' end
  local meta = work.meta
  if meta[6] > op[3] then return 'policy' end
  if meta[6] < op[3] then return 'roll', op[2] end
  local at = math.max(op[2], meta[7])
  if at >= meta[8] or reordered(work, op) then return 'roll', at end
  local results = {}
  for i, draw in ipairs(op[5]) do
    local fine, result = pcall(take, work, draw, at, meta[5] + i)
    if not fine then
      if result == LATE then return 'late', at end
      if result == RANGE then return 'range', at end
      if result == HOLD then return 'hold', at end
      if result == PRICE then return 'price', at, tiers_used end
      error(result, 0)
    end
    results[i] = result
    if result[1] then return 'deny', at, results, work end
  end
  return 'ok', at, results, work
end
