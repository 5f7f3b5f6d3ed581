#!lua
-- Puts a loaded state, unless a newer one is there already.
--
-- KEYS  1 state of the account, 2 catalog revision of the bucket; one slot
-- ARGV  1 run id, 2 epoch number, 3 catalog revision, 4 ms until an idle state expires (0 = never),
--       then field, value, field, value .. of the hash (see kernel.lua)
-- Reply 1 put, 0 a state of this run with a higher epoch is there
local revision = redis.call('GET', KEYS[2])
if not revision or tonumber(revision) < tonumber(ARGV[3]) then redis.call('SET', KEYS[2], ARGV[3]) end
local packed = redis.call('HGET', KEYS[1], 'm')
if packed then
  local meta = cmsgpack.unpack(packed)
  if meta[2] == ARGV[1] and meta[3] >= tonumber(ARGV[2]) then return 0 end
  redis.call('UNLINK', KEYS[1])
end
for i = 5, #ARGV, 4000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
