"""Registers everything that a creditd server serves on a host."""

from __future__ import annotations

from typing import Any, Final

from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from creditd.engine.engine import Engine
from creditd.rpc.accounts import AccountsServicer
from creditd.rpc.catalogs import CatalogsServicer
from creditd.rpc.diagnostics import DiagnosticsServicer
from creditd.rpc.entitlements import EntitlementsServicer
from creditd.rpc.health import Health
from creditd.rpc.hosts import Host
from creditd.rpc.ledger import LedgerServicer
from creditd.rpc.meters import CallMeters
from creditd.rpc.test_clocks import TestClocksServicer
from creditd.v1 import (
    accounts_pb2_grpc,
    catalog_pb2_grpc,
    diagnostics_pb2_grpc,
    entitlements_pb2_grpc,
    ledger_pb2_grpc,
    test_clocks_pb2_grpc,
)

SERVICES: Final = (
    "creditd.v1.Entitlements",
    "creditd.v1.Catalogs",
    "creditd.v1.Accounts",
    "creditd.v1.Ledger",
    "creditd.v1.TestClocks",
    "creditd.v1.Diagnostics",
)


def register(
    host: Host, engine: Engine, *, transport: str, test_clocks: bool, request_timeout_s: float
) -> Health:
    """Put all services, reflection and health on a host that is not started yet."""
    registrar = host.registrar
    common: dict[str, Any] = {"timeout_s": request_timeout_s, "meters": CallMeters()}
    entitlements_pb2_grpc.add_EntitlementsServicer_to_server(
        EntitlementsServicer(engine, **common), registrar
    )
    catalog_pb2_grpc.add_CatalogsServicer_to_server(CatalogsServicer(engine, **common), registrar)
    accounts_pb2_grpc.add_AccountsServicer_to_server(AccountsServicer(engine, **common), registrar)
    ledger_pb2_grpc.add_LedgerServicer_to_server(LedgerServicer(engine, **common), registrar)
    test_clocks_pb2_grpc.add_TestClocksServicer_to_server(
        TestClocksServicer(engine, enabled=test_clocks, **common), registrar
    )
    diagnostics_pb2_grpc.add_DiagnosticsServicer_to_server(
        DiagnosticsServicer(engine, transport=transport, **common), registrar
    )
    state = Health(SERVICES)
    health_pb2_grpc.add_HealthServicer_to_server(state, registrar)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), registrar)
    return state
