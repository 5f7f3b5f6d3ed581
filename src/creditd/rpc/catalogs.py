"""The Catalogs service."""

from __future__ import annotations

from creditd.engine.control_types import CatalogVersion
from creditd.engine.engine import Engine
from creditd.rpc.calls import answered
from creditd.rpc.checks import Checks, page_token
from creditd.rpc.codec_catalog import catalog_from_proto
from creditd.rpc.codec_catalog_write import catalog_to_proto
from creditd.rpc.codec_values import timestamp_to_proto
from creditd.rpc.meters import CallMeters
from creditd.v1 import catalog_pb2 as pb
from creditd.v1 import catalog_pb2_grpc as pb_grpc


class CatalogsServicer(pb_grpc.CatalogsServicer):
    """Thin: validate, decode, ask the engine, encode."""

    def __init__(self, engine: Engine, *, timeout_s: float, meters: CallMeters) -> None:
        self._engine = engine
        self.timeout_s = timeout_s
        self.meters = meters

    @answered
    async def ApplyCatalog(self, request: pb.ApplyCatalogRequest) -> pb.ApplyCatalogResponse:
        """Make a catalog the next version."""
        checks = Checks()
        checks.text("note", request.note)
        checks.number("expected_version", request.expected_version)
        effective_at = checks.instant("effective_at", request, "effective_at")
        checks.done()
        applied = await self._engine.apply_catalog(
            catalog_from_proto(request.catalog, "catalog"),
            dry_run=request.dry_run,
            effective_at=effective_at,
            expected_version=request.expected_version or None,
            note=request.note,
        )
        return pb.ApplyCatalogResponse(
            version=applied.version,
            changes=[
                pb.Change(
                    kind=item.kind,
                    key=item.key,
                    action=item.action.value,
                    summary=item.summary,
                    accounts_affected=item.accounts,
                )
                for item in applied.changes
            ],
        )

    @answered
    async def GetCatalog(self, request: pb.GetCatalogRequest) -> pb.GetCatalogResponse:
        """A version, or the one in force."""
        checks = Checks()
        checks.number("version", request.version)
        checks.done()
        return _version(await self._engine.get_catalog(request.version))

    @answered
    async def ListCatalogVersions(
        self, request: pb.ListCatalogVersionsRequest
    ) -> pb.ListCatalogVersionsResponse:
        """Versions, newest first; without their contents, which GetCatalog gives."""
        checks = Checks()
        limit = checks.page_size(request.page_size)
        before = checks.page_number(request.page_token)
        checks.done()
        versions = await self._engine.list_catalogs(limit=limit, before=before)
        more = page_token(versions[-1].version) if len(versions) == limit else ""
        return pb.ListCatalogVersionsResponse(
            versions=[_version(item, contents=False) for item in versions], next_page_token=more
        )


def _version(item: CatalogVersion, *, contents: bool = True) -> pb.GetCatalogResponse:
    response = pb.GetCatalogResponse(version=item.version)
    if contents:
        response.catalog.CopyFrom(catalog_to_proto(item.catalog))
    if item.version:
        response.effective_at.CopyFrom(timestamp_to_proto(item.effective_at))
    return response
