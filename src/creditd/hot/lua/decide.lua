#!lua
-- Decides an operation and, when it goes ahead, takes what it takes and appends the unit to the outbox: one atomic
-- step. Without the flag allow-oom a full server refuses it before it starts.
--
-- KEYS  1 state of the account, 2 catalog revision of the bucket, 3 outbox of the bucket,
--       4.. idempotency records of the draws that have a key, in order; one slot
-- ARGV  1 operation (see kernel.lua), 2 wall clock in ms, 3 unit id (32 characters), 4 ms to keep idempotency records,
--       5 '1' when the same unit may have been decided by an earlier call whose reply was lost,
--       then for each draw: its fingerprint (32 characters, '' without a key) and its head (opaque)
-- Reply {'ok', at, first sequence, epoch number, epoch nonce, depends, results (msgpack)}
--       {'deny', at, results, epoch number, epoch nonce}; {'replay', unit's outbox value or '', record..};
--       {'reused', index of the draw, from 0}
--       {'again', outbox value}: decided by the earlier call; {'price', at, {used..} (msgpack)};
--       other codes of kernel.lua: {code, at}
-- Outbox field: unit id; value: wall clock in ms (13 digits), then msgpack
--       {epoch number, epoch nonce, depends, at, first sequence, {head..}, results (msgpack)}
-- Idempotency record: fingerprint, unit id, then msgpack {at, sequence, head, result}
-- @include kernel.lua

local op = cmsgpack.unpack(ARGV[1])
local unit = ARGV[3]

if ARGV[5] == '1' then
  local value = redis.call('HGET', KEYS[3], unit)
  if value then return {'again', value} end
end

local records, found, next_key = {}, 0, 4
for i = 1, #op[5] do
  local fingerprint = ARGV[4 + 2 * i]
  if fingerprint ~= '' then
    local record = redis.call('GET', KEYS[next_key])
    next_key = next_key + 1
    if record then
      if record:sub(1, 32) ~= fingerprint then return {'reused', i - 1} end
      found = found + 1
      records[i] = record
    end
  end
end
-- A group is applied and remembered as one: a part of it found is a record that is about to expire.
if found == #op[5] and found > 0 then
  local value = redis.call('HGET', KEYS[3], records[1]:sub(33, 64))
  return {'replay', value or '', unpack(records)}
end

local code, at, results, work = decide(op)
if code == 'deny' then return {code, at, pack(results), work.meta[3], work.meta[4]} end
if code == 'price' then return {code, at, pack(results)} end
if code ~= 'ok' then return {code, at or 0} end

local meta = work.meta
local first, depends, heads = meta[5] + 1, meta[9], {}
for i, result in ipairs(results) do
  heads[i] = ARGV[5 + 2 * i]
  if raises(op[5][i], result) then meta[9] = meta[5] + i end
end
meta[5] = meta[5] + #results
meta[7] = at

local fields = {'m', pack(meta)}
for name in pairs(work.dirty_credits) do
  fields[#fields + 1] = '$' .. name
  fields[#fields + 1] = pack(work.credits[name])
end
for name in pairs(work.dirty_groups) do
  fields[#fields + 1] = '#' .. name
  fields[#fields + 1] = pack(work.groups[name])
end
for name in pairs(work.dirty_holds) do
  if work.holds[name] then
    fields[#fields + 1] = '!' .. name
    fields[#fields + 1] = pack(work.holds[name])
  else
    redis.call('HDEL', KEYS[1], '!' .. name)
  end
end
-- unpack() is bounded by Lua's stack; a batch of 1,000 draws may touch more fields than that.
for i = 1, #fields, 4000 do
  redis.call('HSET', KEYS[1], unpack(fields, i, math.min(i + 3999, #fields)))
end

local packed = pack(results)
local body = pack({meta[3], meta[4], depends, at, first, heads, packed})
redis.call('HSET', KEYS[3], unit, ARGV[2] .. body)
next_key = 4
for i, result in ipairs(results) do
  local fingerprint = ARGV[4 + 2 * i]
  if fingerprint ~= '' then
    local record = fingerprint .. unit .. pack({at, first + i - 1, heads[i], result})
    redis.call('SET', KEYS[next_key], record, 'PX', ARGV[4])
    next_key = next_key + 1
  end
end
return {'ok', at, first, meta[3], meta[4], depends, packed}
