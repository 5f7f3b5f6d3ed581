"""`creditd context`, which server a command talks to, and the API key that it shows there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from tests.cli.conftest import Cli, DevServer

from creditd.cli.client import aio_channel, channel, server_of
from creditd.cli.output import ExitCode
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.entitlements_pb2_grpc import (
    EntitlementsServicer,
    EntitlementsStub,
    add_EntitlementsServicer_to_server,
)


def test_the_first_context_is_the_current_one_and_others_are_on_demand(anywhere: Cli, contexts: Path) -> None:
    assert "now the current one" in anywhere("context", "add", "local", "127.0.0.1:50051").out
    assert "current" not in anywhere("context", "add", "prod", "https://creditd.example.com").out
    assert stat.S_IMODE(contexts.stat().st_mode) == 0o600

    listed = anywhere("context", "list").out.splitlines()
    assert listed[1].split()[:2] == ["*", "local"]

    assert anywhere("context", "use", "prod").code == 0
    assert [(item["name"], item["current"]) for item in anywhere("context", "list", "--json").lines] == [
        ("local", False),
        ("prod", True),
    ]
    assert anywhere("context", "add", "next", "next:1", "--use").code == 0
    assert anywhere("context", "show").out.split()[0] == "next"

    removed = anywhere("context", "remove", "next")
    assert "commands talk to 127.0.0.1:50051" in removed.out
    assert anywhere("context", "show").code == ExitCode.USAGE


def test_a_name_is_taken_once_unless_it_is_to_be_replaced(anywhere: Cli) -> None:
    anywhere("context", "add", "prod", "a:1")

    again = anywhere("context", "add", "prod", "b:2")
    assert (again.code, "--replace replaces it" in again.err) == (ExitCode.USAGE, True)
    assert anywhere("context", "show", "prod", "--json").json["address"] == "a:1"
    assert anywhere("context", "add", "prod", "b:2", "--replace").code == 0
    assert anywhere("context", "show", "prod", "--json").json["address"] == "b:2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("use", "prdo"), "there is no context 'prdo'; did you mean 'prod'?"),
        (("remove", "x"), "there is no context 'x'; known: prod"),
        (("show", "x"), "there is no context 'x'"),
        (("add", "a b", "a:1"), "is no name for a context"),
        (("add", "a", "a"), "expected host:port"),
        (("add", "a", "a:1", "--ca-file", "x"), "--ca-file is for TLS"),
        (("add", "a", "a:1", "--api-key-env", "A", "--api-key-stdin"), "exclude each other"),
        (("add", "a", "a:1", "--api-key-stdin"), "there is no API key on stdin"),
    ],
)
def test_what_is_wrong_is_told(anywhere: Cli, arguments: tuple[str, ...], said: str) -> None:
    anywhere("context", "add", "prod", "a:1")

    ran = anywhere("context", *arguments, stdin="")

    assert ran.code == ExitCode.USAGE
    assert said in ran.err


def test_a_broken_file_stops_commands_with_its_place(anywhere: Cli, contexts: Path) -> None:
    contexts.parent.mkdir()
    contexts.write_text("{")

    for command in (("context", "list"), ("check", "demo", "chat"), ("context", "add", "a", "a:1")):
        ran = anywhere(*command)
        assert ran.code == ExitCode.USAGE
        assert f"{contexts}:1:2 is no JSON" in ran.err


def test_a_key_from_stdin_is_kept_and_never_shown(anywhere: Cli, contexts: Path) -> None:
    added = anywhere("context", "add", "prod", "https://a", "--api-key-stdin", stdin="tooth-paste\n")
    listed, shown = anywhere("context", "list"), anywhere("context", "show")
    as_json = anywhere("context", "show", "--json"), anywhere("context", "list", "--json")

    assert "tooth-paste" in contexts.read_text()
    for ran in (added, listed, shown, *as_json):
        assert ran.code == 0
        assert "tooth" not in ran.out + ran.err
    assert "********" in shown.out


def test_a_key_in_plain_text_and_a_file_that_others_read_are_warned_of(anywhere: Cli, contexts: Path) -> None:
    plain = anywhere("context", "add", "prod", "creditd:50051", "--api-key-stdin", stdin="k\n")
    local = anywhere("context", "add", "local", "127.0.0.1:50051", "--api-key-env", "K")
    contexts.chmod(0o640)

    assert "in plain text" in plain.err
    assert local.err == ""
    assert f"chmod 600 {contexts}" in anywhere("context", "list").err


def test_the_server_is_the_address_then_the_variable_then_the_context(
    anywhere: Cli, dev_server: DevServer
) -> None:
    nowhere, check = "127.0.0.1:1", ("check", "demo", "sso")
    anywhere("context", "add", "dev", dev_server.address)
    anywhere("context", "add", "away", nowhere)

    assert anywhere(*check).code == 0
    assert anywhere(*check, CREDITD_ADDRESS=nowhere).code == ExitCode.UNAVAILABLE
    assert anywhere(*check, "--address", dev_server.address, CREDITD_ADDRESS=nowhere).code == 0
    assert anywhere(*check, "--context", "away").code == ExitCode.UNAVAILABLE
    anywhere("context", "use", "away")
    assert anywhere(*check, "--context", "dev").code == 0
    unavailable = anywhere(*check)
    assert unavailable.code == ExitCode.UNAVAILABLE
    assert f"{nowhere} (context away)" in unavailable.err


@pytest.mark.parametrize("way", ["option", "variable"])
def test_an_address_beside_a_context_is_refused_not_guessed(anywhere: Cli, way: str) -> None:
    anywhere("context", "add", "prod", "a:1")
    more = ("--address", "b:2") if way == "option" else ()

    ran = anywhere("check", "demo", "sso", "--context", "prod", *more, CREDITD_ADDRESS="" if more else "b:2")

    assert ran.code == ExitCode.USAGE
    assert "leave one of them out" in ran.err


def test_a_variable_that_wins_over_the_context_is_mentioned(anywhere: Cli) -> None:
    anywhere("context", "add", "prod", "a:1")

    assert (
        "commands talk to b:2, whatever the context" in anywhere("context", "show", CREDITD_ADDRESS="b:2").err
    )


class Listener(EntitlementsServicer):
    """Answers Check, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.address = ""

    def Check(self, request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
        metadata = dict(context.invocation_metadata())
        self.shown.append(str(metadata.get("authorization", "")))
        return pb.CheckResponse(allowed=True, reason=pb.REASON_ENTITLED)


@pytest.fixture
def listener() -> Iterator[Listener]:
    servicer = Listener()
    host = grpc.server(futures.ThreadPoolExecutor(1))
    add_EntitlementsServicer_to_server(servicer, host)
    servicer.address = f"127.0.0.1:{host.add_insecure_port('127.0.0.1:0')}"
    host.start()
    yield servicer
    host.stop(None).wait()


def test_the_key_of_a_context_is_sent_and_that_of_the_environment_otherwise(
    anywhere: Cli, listener: Listener
) -> None:
    check = ("check", "demo", "sso")
    anywhere("context", "add", "keyed", listener.address, "--api-key-stdin", stdin="own\n")
    anywhere("context", "add", "bare", listener.address)

    anywhere(*check, CREDITD_API_KEY="general")
    anywhere(*check, "--context", "bare", CREDITD_API_KEY="general")
    anywhere(*check, "--context", "bare")
    anywhere(*check, "--address", listener.address)
    anywhere(*check, "--address", listener.address, CREDITD_API_KEY="general")

    assert listener.shown == ["Bearer own", "Bearer general", "", "", "Bearer general"]


def test_a_key_that_cannot_be_had_stops_the_command(anywhere: Cli, listener: Listener) -> None:
    anywhere("context", "add", "keyed", listener.address, "--api-key-env", "NOT_SET_ANYWHERE")

    ran = anywhere("check", "demo", "sso")

    assert ran.code == ExitCode.USAGE
    assert "context 'keyed'" in ran.err
    assert "NOT_SET_ANYWHERE, which is not set" in ran.err
    assert listener.shown == []


async def test_asynchronous_calls_show_the_key_too(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITD_API_KEY", "general")
    server = server_of(listener.address, None)

    async with aio_channel(server) as opened:
        await EntitlementsStub(opened).Check(pb.CheckRequest())

    assert listener.shown == ["Bearer general"]
    assert "general" not in repr(server)


def test_a_server_without_keys_ignores_one(cli: Cli) -> None:
    assert cli("check", "demo", "sso", CREDITD_API_KEY="k").code == 0


def test_files_are_found_from_every_folder(
    anywhere: Cli, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("from-file\n")
    monkeypatch.chdir(tmp_path)
    anywhere("context", "add", "keyed", listener.address, "--api-key-file", "key")
    monkeypatch.chdir("/")

    assert anywhere("check", "demo", "sso").code == 0
    assert listener.shown == ["Bearer from-file"]


def test_a_ca_file_that_is_not_there_is_named(anywhere: Cli) -> None:
    anywhere("context", "add", "tls", "https://127.0.0.1:1", "--ca-file", "/missing.pem")

    ran = anywhere("check", "demo", "sso")

    assert ran.code == ExitCode.USAGE
    assert "cannot read the CA certificates /missing.pem" in ran.err


def test_a_plain_address_is_a_server_for_other_code(listener: Listener) -> None:
    with channel(listener.address) as opened:
        assert EntitlementsStub(opened).Check(pb.CheckRequest()).allowed
    assert os.environ.get("CREDITD_API_KEY") is None
