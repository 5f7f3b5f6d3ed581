"""The specification of creditd: amounts, periods, grants, rates, policy, `decide` and `fold`.

Plain data and functions over the standard library: no I/O, no clock, no randomness, no protobuf, no asyncio.
Instants are int milliseconds since the Unix epoch (UTC), amounts are int micro-credits, quantities int units.
"""
