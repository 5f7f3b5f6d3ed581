#!lua flags=allow-oom
-- Undoes a unit whose idempotency key the ledger knows from an earlier one: a late replay. Its place in the ledger is
-- taken by a tombstone; what it took from the state returns. Done once: only while the unit is in the outbox.
--
-- KEYS  1 state of the account, 2 outbox of the bucket, 3.. idempotency records of the unit; one slot
-- ARGV  1 run id, 2 epoch number, 3 epoch nonce, 4 unit id,
--       5 msgpack {{{credit, available, debt, {grant, amount, ..}, held}..}, {{counter, group, start, delta}..},
--         {{hold, sequence}..}}: what the unit took, and the holds that it opened
-- Reply 1 given back, 0 the state is another one, or it was done before, or dropped: a hold has changed since
for i = 3, #KEYS do
  local record = redis.call('GET', KEYS[i])
  if record and record:sub(33, 64) == ARGV[4] then redis.call('DEL', KEYS[i]) end
end
if redis.call('HDEL', KEYS[2], ARGV[4]) == 0 then return 0 end
local packed = redis.call('HGET', KEYS[1], 'm')
if not packed then return 0 end
local meta = cmsgpack.unpack(packed)
if meta[2] ~= ARGV[1] or meta[3] ~= tonumber(ARGV[2]) or meta[4] ~= ARGV[3] then return 0 end
local taken = cmsgpack.unpack(ARGV[5])
for _, opened in ipairs(taken[3]) do
  local hold = redis.call('HGET', KEYS[1], '!' .. opened[1])
  if not hold or cmsgpack.unpack(hold)[1] ~= opened[2] then
    redis.call('UNLINK', KEYS[1])
    return 0
  end
  redis.call('HDEL', KEYS[1], '!' .. opened[1])
end
for _, change in ipairs(taken[1]) do
  local field = '$' .. change[1]
  local credit = cmsgpack.unpack(redis.call('HGET', KEYS[1], field))
  credit[2], credit[3], credit[5] = credit[2] + change[2], credit[3] - change[5], credit[5] - change[3]
  local grants = cmsgpack.unpack(credit[9])
  for i = 1, #change[4], 2 do
    for place, grant in ipairs(grants) do
      if grant == change[4][i] then credit[8][place] = credit[8][place] + change[4][i + 1] end
    end
  end
  redis.call('HSET', KEYS[1], field, cmsgpack.pack(credit))
end
for _, change in ipairs(taken[2]) do
  local field = '#' .. change[2]
  local packed_group = redis.call('HGET', KEYS[1], field)
  if packed_group then
    local group = cmsgpack.unpack(packed_group)
    for i = 1, #group, 4 do
      if group[i] == change[1] and group[i + 1] == change[3] then
        group[i + 3] = math.max(0, group[i + 3] - change[4])
        redis.call('HSET', KEYS[1], field, cmsgpack.pack(group))
      end
    end
  end
end
return 1
