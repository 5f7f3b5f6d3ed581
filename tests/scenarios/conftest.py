"""One server for all scenarios, and one of its own for those that would disturb others."""

from __future__ import annotations

import pytest
from tests.scenarios.test_scenarios import serving


@pytest.fixture(scope="session")
async def shared_server(session_dsn, valkey_server):
    async with serving(session_dsn, f"{valkey_server.url.rsplit('/', 1)[0]}/7") as server:
        yield server


@pytest.fixture
async def own_server(dsn, valkey):
    async with serving(dsn, valkey) as server:
        yield server
