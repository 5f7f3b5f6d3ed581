#!lua flags=allow-oom
-- Forgets a unit that the ledger has turned away, and the state it was decided on: both are of a past that did not
-- happen.
--
-- KEYS  1 state of the account, 2 outbox of the bucket, 3.. idempotency records of the unit; one slot
-- ARGV  1 epoch number of the unit, 2 unit id
-- Reply 1 the state was dropped, 0 it is newer, or gone
redis.call('HDEL', KEYS[2], ARGV[2])
for i = 3, #KEYS do
  local record = redis.call('GET', KEYS[i])
  if record and record:sub(33, 64) == ARGV[2] then redis.call('DEL', KEYS[i]) end
end
local packed = redis.call('HGET', KEYS[1], 'm')
if packed and cmsgpack.unpack(packed)[3] <= tonumber(ARGV[1]) then
  redis.call('UNLINK', KEYS[1])
  return 1
end
return 0
