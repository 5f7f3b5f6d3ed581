-- The kernel that check.lua and decide.lua share: domain/decide.py, step by step. A property test holds the two
-- together; change both or neither.
--
-- State, one hash per account, field -> msgpack:
--   m          {format, run id, epoch number, epoch nonce (string), sequence, policy version, at, end, raised}
--   $<credit>  {burn order, available, held, granted, debt, next expiry, next refill, {{grant, remaining, features}..}}
--              features: array of names, or false when the grant pays for every feature
--   #<counter> {start, end, used}
-- Operation (msgpack): {run id, now, policy version, catalog revision, {draw..}}
--   draw    {feature, mode, credit, burn order, amount, floor, overage, {charge..}, cap, capped by, {tier..} or false}
--   overage {counter, start, end, cap, carry debt 0/1} or false
--   charge  {counter, start, end, cap, delta, soft 0/1, micros 0/1, opens 0/1, {counter, start, ..} or false}
--   tier    {counter, start, end, delta, low, high}
--   mode 1 enforce, 2 partial, 3 record;  cap -1 = unlimited;  instants in ms, amounts in micros, all integers
-- Result of a draw: {denial or false, denied by, shortfall, from grants, from overage, debt, {grant, amount, ..},
--   {used..}, {applied..}, overage used, spendable, overage room, balances or false, {start, end, ..} or false}
--   balances {available, held, granted, debt, next expiry, next refill}
-- Cost: O(draws * (grants of the credit + counters of the draw)).

local FORMAT = 1
local MAX = 9000000000000000

-- Raised as an error value to leave a draw; nothing has been written yet when it is.
local LATE, RANGE = 'LATE', 'RANGE'

-- Where the counters of the tiers of a draw are whose price is for another place; raised as PRICE.
local PRICE, tiers_used = 'PRICE', {}

local function pack(value) return cmsgpack.pack(value) end

local function load(op)
  local names, seen, credits, counters = {'m'}, {}, {}, {}
  local function want(name)
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  for _, draw in ipairs(op[5]) do
    if draw[3] ~= '' then want('$' .. draw[3]) end
    if draw[7] then want('#' .. draw[7][1]) end
    for _, charge in ipairs(draw[8]) do
      want('#' .. charge[1])
      if charge[9] then
        for i = 1, #charge[9], 2 do want('#' .. charge[9][i]) end
      end
    end
    if draw[11] then
      for _, tier in ipairs(draw[11]) do want('#' .. tier[1]) end
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
  for i = 2, #names do
    if values[i] then
      local kind, key = names[i]:sub(1, 1), names[i]:sub(2)
      if kind == '$' then credits[key] = cmsgpack.unpack(values[i]) else counters[key] = cmsgpack.unpack(values[i]) end
    end
  end
  return {meta = meta, credits = credits, counters = counters, dirty_credits = {}, dirty_counters = {}}
end

-- What the window [start, finish) has counted by `at`.
local function used_of(work, key, start, finish, at)
  local counter = work.counters[key]
  if not counter or counter[1] < start then return 0 end
  if counter[1] > start then
    -- The present window, and another one is stored: windows lie elsewhere since then, and count anew.
    if finish > at then return 0 end
    error(LATE, 0)
  end
  return counter[3]
end

-- What a charge counts as used in the window [start, finish) by `at`: its own counter and those beside it.
local function used_by(work, charge, start, finish, at)
  local used = used_of(work, charge[1], start, finish, at)
  if charge[9] then
    for i = 1, #charge[9], 2 do
      used = used + used_of(work, charge[9][i], charge[9][i + 1], 0, at)
      if used > MAX then error(RANGE, 0) end
    end
  end
  return used
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

local function set_counter(work, key, start, finish, used)
  if used > MAX then error(RANGE, 0) end
  work.counters[key] = {start, finish, used}
  work.dirty_counters[key] = true
end

local function pays(grant, feature)
  if not grant[3] then return true end
  for _, name in ipairs(grant[3]) do
    if name == feature then return true end
  end
  return false
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
  for i, charge in ipairs(draw[8]) do
    if charge[4] >= 0 and charge[6] == 0 then
      local room = math.max(0, charge[4] - used[i])
      if charge[7] == 1 then
        if draw[2] == 1 and draw[5] > room then
          return false, 0, {'BUDGET_EXCEEDED', charge[1], draw[5] - room}
        end
        micros_room = micros_room < 0 and room or math.min(micros_room, room)
      elseif charge[5] > room then
        if draw[2] == 1 or draw[3] ~= '' or room == 0 then
          return false, 0, {'LIMIT_EXCEEDED', charge[1], charge[5] - room}
        end
        units = units and math.min(units, room) or room
      end
    end
  end
  return units, micros_room, nil
end

-- What the grants hold for the draw's feature; fills in what of it may be spent, and the overage.
local function credit_room(draw, credit, result)
  local eligible, overage = 0, draw[7]
  for _, grant in ipairs(credit[8]) do
    if pays(grant, draw[1]) then eligible = eligible + grant[2] end
  end
  result[11] = eligible
  if draw[6] > 0 and draw[2] ~= 3 then result[11] = math.min(eligible, math.max(0, credit[2] - draw[6])) end
  if overage then result[12] = overage[4] < 0 and -1 or math.max(0, overage[4] - result[10]) end
  return eligible
end

-- Takes a draw's micros out of a credit; fills `result`, or its denial.
local function burn(work, draw, credit, eligible, result, micros_room)
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
  if overage and overage[5] == 1 then owed = owed + from_overage end
  if credit[2] - from_grants - owed < -MAX then error(RANGE, 0) end
  local left, allocations = from_grants, {}
  for _, grant in ipairs(credit[8]) do
    if left == 0 then break end
    if grant[2] > 0 and pays(grant, draw[1]) then
      local take = math.min(left, grant[2])
      left = left - take
      grant[2] = grant[2] - take
      allocations[#allocations + 1] = grant[1]
      allocations[#allocations + 1] = take
    end
  end
  credit[2] = credit[2] - from_grants - owed
  credit[5] = credit[5] + owed
  work.dirty_credits[draw[3]] = true
  if overage and from_overage > 0 then
    result[10] = result[10] + from_overage
    set_counter(work, overage[1], overage[2], overage[3], result[10])
  end
  result[3] = draw[5] - from_grants - from_overage - debt
  result[4], result[5], result[6], result[7] = from_grants, from_overage, debt, allocations
  result[13] = balances(credit)
end

local function count(work, draw, result, units, spans, at)
  local charged = result[4] + result[5] + result[6]
  for i, charge in ipairs(draw[8]) do
    local before = result[8][i]
    local delta = charge[7] == 1 and charged or charge[5]
    if units and charge[7] == 0 then delta = math.min(delta, units) end
    delta = math.max(delta, -before)
    local start, finish = spans[2 * i - 1], spans[2 * i]
    set_counter(work, charge[1], start, finish, used_of(work, charge[1], start, finish, at) + delta)
    result[8][i], result[9][i] = before + delta, delta
  end
  if draw[11] then
    for _, tier in ipairs(draw[11]) do
      set_counter(work, tier[1], tier[2], tier[3], used_of(work, tier[1], tier[2], tier[3], at) + tier[4])
    end
  end
end

local function take(work, draw, at)
  check_tiers(work, draw, at)
  local used, applied, spans, opened = {}, {}, {}, false
  for i, charge in ipairs(draw[8]) do
    local start, finish = charge[2], charge[3]
    if charge[8] == 1 then
      opened = true
      local counter = work.counters[charge[1]]
      if counter and counter[2] > at then start, finish = counter[1], counter[2] end
    end
    spans[2 * i - 1], spans[2 * i] = start, finish
    used[i], applied[i] = used_by(work, charge, start, finish, at), 0
  end
  local overage_used = draw[7] and used_of(work, draw[7][1], draw[7][2], draw[7][3], at) or 0
  local credit = draw[3] ~= '' and work.credits[draw[3]] or nil
  local result = {false, '', 0, 0, 0, 0, {}, used, applied, overage_used, 0, 0,
    credit and balances(credit) or false, opened and spans or false}
  local eligible = credit and credit_room(draw, credit, result)
  local units, micros_room, denial = counter_room(draw, used)
  if denial then
    result[1], result[2], result[3] = denial[1], denial[2], denial[3]
    return result
  end
  if credit then
    burn(work, draw, credit, eligible, result, micros_room)
    if result[1] then return result end
  end
  count(work, draw, result, units, spans, at)
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
-- ok, deny; cold (no state of this run), policy, catalog (the caller is behind), roll, late, range, price (with the
-- counters of the tiers of the draw in the results' place).
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
    local fine, result = pcall(take, work, draw, at)
    if not fine then
      if result == LATE then return 'late', at end
      if result == RANGE then return 'range', at end
      if result == PRICE then return 'price', at, tiers_used end
      error(result, 0)
    end
    results[i] = result
    if result[1] then return 'deny', at, results end
  end
  return 'ok', at, results, work
end
