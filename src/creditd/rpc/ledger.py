"""The Ledger service."""

from __future__ import annotations

from creditd.engine.engine import Engine
from creditd.rpc.calls import answered, not_served
from creditd.rpc.checks import Checks, page_token
from creditd.rpc.codec_ledger import entry_to_proto, read_query
from creditd.rpc.meters import CallMeters
from creditd.v1 import ledger_pb2 as pb
from creditd.v1 import ledger_pb2_grpc as pb_grpc


class LedgerServicer(pb_grpc.LedgerServicer):
    """Thin: validate, decode, ask the engine, encode."""

    def __init__(self, engine: Engine, *, timeout_s: float, meters: CallMeters) -> None:
        self._engine = engine
        self.timeout_s = timeout_s
        self.meters = meters

    @answered
    async def ListEntries(self, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        """Entries of an account, newest first."""
        query = read_query(request, Checks())
        entries = await self._engine.list_entries(query)
        return pb.ListEntriesResponse(
            entries=[entry_to_proto(entry) for entry in entries],
            next_page_token=page_token(entries[-1].sequence) if len(entries) == query.limit else "",
        )

    @answered
    async def VerifyAccount(self, request: pb.VerifyAccountRequest) -> pb.VerifyAccountResponse:
        """Compare an account's hot state with its ledger."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.done()
        found = await self._engine.verify_account(request.account, repair=request.repair)
        return pb.VerifyAccountResponse(
            consistent=found.consistent,
            ledger_sequence=found.ledger_sequence,
            hot_sequence=found.hot_sequence,
            differences=found.differences,
        )

    ExportEntries = not_served("Ledger.ExportEntries")
    GetUsage = not_served("Ledger.GetUsage")
    GetBalanceHistory = not_served("Ledger.GetBalanceHistory")
    GetBurnRate = not_served("Ledger.GetBurnRate")
