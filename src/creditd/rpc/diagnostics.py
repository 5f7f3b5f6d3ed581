"""The Diagnostics service."""

from __future__ import annotations

from typing import Final

from creditd.engine.engine import Engine
from creditd.rpc.calls import answered
from creditd.rpc.checks import Checks
from creditd.rpc.codec_diagnostics import server_stats
from creditd.rpc.meters import CallMeters
from creditd.v1 import diagnostics_pb2 as pb
from creditd.v1 import diagnostics_pb2_grpc as pb_grpc

HOTTEST_MAX: Final = 100
HOTTEST_DEFAULT: Final = 10


class DiagnosticsServicer(pb_grpc.DiagnosticsServicer):
    """Thin: reads the engine's counters and the server's own."""

    def __init__(self, engine: Engine, *, transport: str, timeout_s: float, meters: CallMeters) -> None:
        self._engine = engine
        self._transport = transport
        self.timeout_s = timeout_s
        self.meters = meters

    @answered
    async def GetServerStats(self, request: pb.GetServerStatsRequest) -> pb.ServerStats:
        """What this process has done since its start."""
        checks = Checks()
        checks.number("hottest_max", request.hottest_max, high=HOTTEST_MAX)
        checks.done()
        snapshot = await self._engine.stats(hottest_max=request.hottest_max or HOTTEST_DEFAULT)
        return server_stats(snapshot, self.meters, self._transport)
