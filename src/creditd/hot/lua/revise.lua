#!lua flags=allow-oom
-- Tells a bucket that a newer catalog revision is out: callers that do not know it are turned away until they do.
--
-- KEYS  1 catalog revision of the bucket
-- ARGV  1 revision
-- Reply 1 raised, 0 it knows this one or a newer one
local revision = redis.call('GET', KEYS[1])
if revision and tonumber(revision) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
