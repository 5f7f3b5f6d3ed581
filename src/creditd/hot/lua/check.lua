#!lua flags=no-writes
-- May this operation go ahead now? Changes nothing.
--
-- KEYS  1 state of the account, 2 catalog revision of the bucket; one slot
-- ARGV  1 operation (see kernel.lua)
-- Reply {code} or {code, at} or, for ok and deny, {code, at, results (msgpack), epoch number, epoch nonce};
--       for price, {code, at, {used..} (msgpack)}
-- @include kernel.lua

local code, at, results, work = decide(cmsgpack.unpack(ARGV[1]))
if work then return {code, at, pack(results), work.meta[3], work.meta[4]} end
if results then return {code, at, pack(results)} end
return {code, at or 0}
