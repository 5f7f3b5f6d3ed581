"""The TestClocks service: only where the server enables it."""

from __future__ import annotations

from creditd.domain.accounts import TestClock
from creditd.domain.errors import Unimplemented
from creditd.engine.engine import Engine
from creditd.rpc.calls import answered
from creditd.rpc.checks import Checks
from creditd.rpc.codec_values import timestamp_to_proto
from creditd.rpc.meters import CallMeters
from creditd.v1 import test_clocks_pb2 as pb
from creditd.v1 import test_clocks_pb2_grpc as pb_grpc


class TestClocksServicer(pb_grpc.TestClocksServicer):
    """Thin: validate, decode, ask the engine, encode."""

    __test__ = False  # not a test class, whatever its name

    def __init__(self, engine: Engine, *, enabled: bool, timeout_s: float, meters: CallMeters) -> None:
        self._engine = engine
        self._enabled = enabled
        self.timeout_s = timeout_s
        self.meters = meters

    @answered
    async def CreateTestClock(self, request: pb.CreateTestClockRequest) -> pb.TestClock:
        """Create a clock."""
        clock_id, now = self._read("test_clock.", request.test_clock, required=False)
        return _clock(await self._engine.create_test_clock(clock_id, now))

    @answered
    async def AdvanceTestClock(self, request: pb.AdvanceTestClockRequest) -> pb.TestClock:
        """Move a clock forwards."""
        clock_id, now = self._read("", request, required=True)
        return _clock(await self._engine.advance_test_clock(clock_id, now or 0))

    @answered
    async def DeleteTestClock(self, request: pb.DeleteTestClockRequest) -> pb.DeleteTestClockResponse:
        """Delete a clock that no account is on."""
        self._must_be_enabled()
        checks = Checks()
        checks.identifier("id", request.id)
        checks.done()
        await self._engine.delete_test_clock(request.id)
        return pb.DeleteTestClockResponse()

    def _read(
        self, path: str, message: pb.TestClock | pb.AdvanceTestClockRequest, *, required: bool
    ) -> tuple[str, int | None]:
        self._must_be_enabled()
        checks = Checks()
        checks.identifier(f"{path}id", message.id)
        now = checks.instant(f"{path}now", message, "now")
        if required and now is None and not checks.violations:
            checks.add(f"{path}now", "is not set; expected the instant that the clock shows")
        checks.done()
        return message.id, now

    def _must_be_enabled(self) -> None:
        if not self._enabled:
            raise Unimplemented(
                "test clocks are not enabled on this server: set CREDITD_TEST_CLOCKS=true, or use `creditd dev`"
            )


def _clock(clock: TestClock) -> pb.TestClock:
    return pb.TestClock(id=clock.id, now=timestamp_to_proto(clock.now))
