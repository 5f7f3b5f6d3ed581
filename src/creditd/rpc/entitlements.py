"""The Entitlements service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

from creditd.domain.errors import CreditdError, InvalidArgument
from creditd.engine.engine import Engine
from creditd.engine.requests import Ruling, Use
from creditd.rpc import codec, codec_holds
from creditd.rpc.calls import PACKAGE, answered, not_served, streamed
from creditd.rpc.checks import Checks
from creditd.rpc.meters import CallMeters
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1 import entitlements_pb2_grpc as pb_grpc

SERVICE: Final = f"{PACKAGE}.Entitlements"


class EntitlementsServicer(pb_grpc.EntitlementsServicer):
    """Thin: validate, decode, ask the engine, encode."""

    def __init__(self, engine: Engine, *, timeout_s: float, meters: CallMeters) -> None:
        self._engine = engine
        self.timeout_s = timeout_s
        self.meters = meters

    @answered
    async def Check(self, request: pb.CheckRequest) -> pb.CheckResponse:
        """May this be used now?"""
        checks = Checks()
        use = codec.read_check(request, checks)
        checks.done()
        return codec.check_response(await self._engine.check(use))

    @answered
    async def Consume(self, request: pb.ConsumeRequest) -> pb.ConsumeResponse:
        """Decide and burn."""
        checks = Checks()
        use = codec.read_consume(request, checks)
        checks.done()
        return codec.consume_response(await self._engine.consume(use))

    @answered
    async def BatchCheck(self, request: pb.BatchCheckRequest) -> pb.BatchCheckResponse:
        """Each item is answered on its own."""
        checks = Checks()
        checks.batch(len(request.items))
        checks.done()
        read: list[Use | CreditdError] = []
        for place, item in enumerate(request.items):
            item_checks = Checks()
            use = codec.read_check(item, item_checks, f"items[{place}].")
            read.append(InvalidArgument(violations=item_checks.violations) if item_checks.violations else use)
        outcomes = await self._engine.batch_check([item for item in read if isinstance(item, Use)])
        results = [codec.check_result(item) for item in _merge(read, outcomes)]
        self._count_failures("BatchCheck", results)
        return pb.BatchCheckResponse(results=results)

    @answered
    async def BatchConsume(self, request: pb.BatchConsumeRequest) -> pb.BatchConsumeResponse:
        """Each item on its own or, when atomic, all or none; then a wrong item fails the call."""
        checks = Checks()
        checks.batch(len(request.items))
        checks.done()
        read: list[Use | CreditdError] = []
        for place, item in enumerate(request.items):
            item_checks = checks if request.atomic else Checks()
            use = codec.read_consume(item, item_checks, f"items[{place}].")
            faulty = not request.atomic and item_checks.violations
            read.append(InvalidArgument(violations=item_checks.violations) if faulty else use)
        checks.done()
        uses = [item for item in read if isinstance(item, Use)]
        outcomes = await self._engine.batch_consume(uses, atomic=request.atomic) if uses else []
        results = [codec.consume_result(item) for item in _merge(read, outcomes)]
        self._count_failures("BatchConsume", results)
        return pb.BatchConsumeResponse(results=results)

    @answered
    async def GetBalance(self, request: pb.GetBalanceRequest) -> pb.GetBalanceResponse:
        """What an account has."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("credit", request.credit, required=False)
        at = checks.instant("at", request, "at")
        checks.done()
        return codec.balance_response(
            await self._engine.get_balance(request.account, request.credit, at=at), request.account
        )

    def _count_failures(self, rpc: str, results: Iterable[pb.CheckResult | pb.ConsumeResult]) -> None:
        for result in results:
            if result.HasField("error"):
                self.meters.item_failed(f"{SERVICE}/{rpc}", result.error.code)

    @streamed
    async def WatchBalance(
        self, request: pb.WatchBalanceRequest
    ) -> AsyncGenerator[pb.GetBalanceResponse, None]:
        """What an account has, now and after each change."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("credit", request.credit, required=False)
        checks.done()
        async with aclosing(self._engine.watch_balance(request.account, request.credit)) as views:
            async for view in views:
                yield codec.balance_response(view, request.account)

    @answered
    async def Reserve(self, request: pb.ReserveRequest) -> pb.ReserveResponse:
        """Hold what may be used."""
        checks = Checks()
        use = codec_holds.read_reserve(request, checks)
        checks.done()
        return codec_holds.reserve_response(await self._engine.reserve(use))

    @answered
    async def Extend(self, request: pb.ExtendRequest) -> pb.ReserveResponse:
        """Hold more, or for longer."""
        checks = Checks()
        use = codec_holds.read_extend(request, checks)
        checks.done()
        return codec_holds.reserve_response(await self._engine.on_reservation(use))

    @answered
    async def Commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        """Burn what was used of a hold."""
        checks = Checks()
        use = codec_holds.read_commit(request, checks)
        checks.done()
        return codec_holds.commit_response(await self._engine.on_reservation(use))

    @answered
    async def Release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        """Give a hold back."""
        checks = Checks()
        use = codec_holds.read_release(request, checks)
        checks.done()
        return codec_holds.release_response(await self._engine.on_reservation(use))

    @answered
    async def Refund(self, request: pb.RefundRequest) -> pb.RefundResponse:
        """Undo what an entry burned."""
        checks = Checks()
        refund = codec_holds.read_refund(request, checks)
        checks.done()
        return codec_holds.refund_response(await self._engine.refund(refund))

    Session = not_served("Entitlements.Session")
    AcquireLease = not_served("Entitlements.AcquireLease")
    SettleLease = not_served("Entitlements.SettleLease")


def _merge(
    read: list[Use | CreditdError], outcomes: list[Ruling | CreditdError]
) -> list[Ruling | CreditdError]:
    """The engine's answers in the places of the items that were asked."""
    answers = iter(outcomes)
    return [item if isinstance(item, CreditdError) else next(answers) for item in read]
