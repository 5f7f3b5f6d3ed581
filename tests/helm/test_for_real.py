"""What the chart's pods would run, run here, with their own arguments and variables: migration, server, probes, test.

The probes are sent by grpc-health-probe, which calls as the kubelet does: grpc-go, no TLS, a connection for each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.support.go import go_program

from creditd.embedded import EmbeddedPostgres

from .conftest import Helm, Manifests
from .test_behaviour import environment


@pytest.fixture(scope="session")
def health_probe() -> Path:
    return go_program("github.com/grpc-ecosystem/grpc-health-probe", "v0.4.61")


@pytest.fixture
async def empty_database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    connection = await asyncpg.connect(postgres_server.dsn)
    await connection.execute("CREATE DATABASE chart")
    yield postgres_server.dsn_of("chart")
    await connection.execute("DROP DATABASE chart WITH (FORCE)")
    await connection.close()


async def run(*command: str | Path, variables: dict[str, str] | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@asynccontextmanager
async def serving(*command: str, variables: dict[str, str]) -> AsyncIterator[None]:
    """A server process that is up, and ends with exit code 0 when it is told to."""
    server = await asyncio.create_subprocess_exec(*command, env=variables, stderr=asyncio.subprocess.PIPE)
    assert server.stderr is not None
    try:
        while not (line := (await server.stderr.readline()).decode()).startswith("serving gRPC on "):
            assert line, "the server did not start"
        yield
        server.send_signal(signal.SIGTERM)
        await server.stderr.read()
        assert await server.wait() == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


def variables_of(container: dict[str, Any], config: dict[str, str], dsn: str, url: str) -> dict[str, str]:
    """A container's environment, with the addresses of the stores that run here in place of the Secrets."""
    stores = {"CREDITD_POSTGRES_DSN": dsn, "CREDITD_REDIS_URL": url}
    found = environment(container, config)
    return found | {name: value for name, value in stores.items() if name in found} | {"PATH": os.defpath}


@pytest.mark.parametrize("transport", ["asgi", "grpcio"])
async def test_the_pods_commands_work(
    helm: Helm, health_probe: Path, empty_database: str, valkey: str, transport: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Manifests(helm.template(values=f"{{port: {port}, config: {{CREDITD_TRANSPORT: {transport}}}}}"))
    creditd = (sys.executable, "-m", "creditd")
    config = made.one("ConfigMap")["data"]
    (migration,) = made.one("Job")["spec"]["template"]["spec"]["containers"]
    (test,) = made.one("Pod")["spec"]["containers"]

    settings = variables_of(made.server, config, empty_database, valkey)
    code, said = await run(*creditd, *made.server["args"], variables=settings)
    assert code != 0
    assert "creditd migrate" in said

    settings_of_job = variables_of(migration, {}, empty_database, valkey)
    code, said = await run(*creditd, *migration["args"], variables=settings_of_job)
    assert code == 0, said

    async with serving(*creditd, *made.server["args"], variables=settings):
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = made.server[name]["grpc"]
            asked = (f"-addr=127.0.0.1:{probe['port']}", f"-service={probe['service']}")
            code, said = await run(health_probe, *asked)
            assert code == 0, said
        code, said = await run(health_probe, f"-addr=127.0.0.1:{port}", "-service=livenes")
        assert code != 0
        # The Service's name is Kubernetes' to resolve.
        arguments = [each.replace("x-creditd:50051", f"127.0.0.1:{port}") for each in test["args"]]
        assert arguments != test["args"]
        assert await run(*creditd, *arguments, variables={"PATH": os.defpath}) == (0, "SERVING\n")


async def test_a_wrong_setting_stops_the_migration_before_anything_is_changed(
    helm: Helm, empty_database: str, valkey: str
) -> None:
    made = Manifests(helm.template(values="config: {CREDITD_PG_POOL_MIN: 9}"))
    (migration,) = made.one("Job")["spec"]["template"]["spec"]["containers"]
    variables = variables_of(migration, {}, empty_database, valkey)
    code, said = await run(sys.executable, "-m", "creditd", *migration["args"], variables=variables)
    assert code == 2
    assert "CREDITD_PG_POOL_MIN: 9 is more than CREDITD_PG_POOL_MAX" in said
    connection = await asyncpg.connect(empty_database)
    assert not await connection.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
