"""What only a process of its own shows: signals, pipes, terminals, completion, and what is imported."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from tests.cli.conftest import Cli, DevServer, environment, process
from tests.interop.certificates import make_certificates

from creditd.cli.output import ExitCode
from creditd.v1 import entitlements_pb2 as pb
from creditd.v1.entitlements_pb2_grpc import EntitlementsServicer, add_EntitlementsServicer_to_server

CREDITD = Path(sys.executable).with_name("creditd")


def test_ctrl_c_is_exit_code_130_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        waiting = subprocess.Popen(
            [sys.executable, "-m", "creditd", "check", "demo", "chat", "--address", address],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()  # it has asked, and waits
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate()
        connection.close()

    assert (waiting.returncode, out, err) == (ExitCode.INTERRUPTED, "", "")


@pytest.mark.parametrize(
    "command", [("balance", "demo"), ("ledger", "list", "demo", "--json"), ("catalog", "show"), ("--help",)]
)
def test_a_pipe_that_nobody_reads_any_more_is_no_traceback(
    dev_server: DevServer, command: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "creditd", *command],
        env=environment(CREDITD_ADDRESS=dev_server.address),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert ran.stderr == ""
    # Help is printed by the library, which ends with 1.
    assert ran.returncode == (1 if command == ("--help",) else ExitCode.CLOSED_PIPE)


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """What a command prints on a terminal of 100 columns."""
    main, side = pty.openpty()
    ran = subprocess.Popen(
        [sys.executable, "-m", "creditd", *arguments],
        env=environment(TERM="xterm-256color", COLUMNS="100", **variables),
        stdout=side,
        stderr=side,
    )
    os.close(side)
    output = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        output += part
    os.close(main)
    assert ran.wait() == 0, output
    return output.decode().replace("\r\n", "\n")


def test_a_terminal_has_colours_unless_they_are_not_wanted(dev_server: DevServer) -> None:
    command, server = ("check", "demo", "sso"), {"CREDITD_ADDRESS": dev_server.address}

    assert "\x1b[1;32mallowed" in on_a_terminal(*command, **server)
    assert on_a_terminal(*command, NO_COLOR="1", **server) == "allowed  ENTITLED\n"


def test_a_pipe_is_plain_and_never_cut_or_padded(cli: Cli, dev_server: DevServer) -> None:
    cli("account", "put", "wide", "--name", "n" * 500, "--label", f"l={'v' * 500}")

    ran = process("account", "list", "--prefix", "wide", CREDITD_ADDRESS=dev_server.address, COLUMNS="80")

    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    assert "n" * 500 in lines[1]
    assert "v" * 500 in lines[1]
    assert "\x1b" not in ran.stdout
    assert all(line == line.rstrip() for line in lines)


def test_a_name_that_the_encoding_lacks_is_spelled_out(cli: Cli, dev_server: DevServer) -> None:
    cli("account", "put", "encoded", "--name", "Müller 株式会社")

    ran = process("account", "get", "encoded", CREDITD_ADDRESS=dev_server.address, PYTHONIOENCODING="ascii")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "M\\xfcller \\u682a" in ran.stdout


def test_commands_that_talk_to_a_server_import_nothing_of_one() -> None:
    heavy = (
        "asyncpg",
        "redis",
        "hiredis",
        "h2corn",
        "uvloop",
        "pydantic",
        "pydantic_settings",
        "ruamel",
        "yaml",
    )
    own = ("app", "config", "engine", "hot", "ledger", "rpc", "workers", "embedded", "cli.serving")
    code = (
        "import sys, creditd.cli.main\n"
        f"heavy = {heavy!r} + tuple('creditd.' + part for part in {own!r})\n"
        "print(*sorted(m for m in sys.modules if any(m == h or m.startswith(h + '.') for h in heavy)))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == []


def test_a_ca_file_is_trusted_and_the_key_goes_over_tls(cli: Cli, tmp_path: Path) -> None:
    shown: list[str] = []

    class Servicer(EntitlementsServicer):
        def Check(self, request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
            shown.append(str(dict(context.invocation_metadata())["authorization"]))
            return pb.CheckResponse(allowed=True, reason=pb.REASON_ENTITLED)

    folder = make_certificates(tmp_path)
    pair = ((folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes())
    host = grpc.server(futures.ThreadPoolExecutor(1))
    add_EntitlementsServicer_to_server(Servicer(), host)
    port = host.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    host.start()
    address, none = f"https://localhost:{port}", {"CREDITD_ADDRESS": None}
    try:
        cli("context", "add", "tls", address, "--ca-file", folder / "ca.pem", "--api-key-env", "K", **none)
        trusted = cli("check", "demo", "sso", K="secret", **none)
        unknown = cli("check", "demo", "sso", "--address", address, **none)
    finally:
        host.stop(None).wait()

    assert (trusted.code, shown) == (0, ["Bearer secret"])
    assert unknown.code == ExitCode.UNAVAILABLE


# completion


def completed(shell: str, line: str, **variables: str) -> list[str]:
    """What the protocol of a shell's completion answers for a command line."""
    words = line.split(" ")
    ran = subprocess.run(
        [CREDITD],
        env=environment(
            _CREDITD_COMPLETE=f"complete_{shell}",
            COMP_WORDS="\n".join(words),
            COMP_CWORD=str(len(words) - 1),
            _TYPER_COMPLETE_ARGS=line,
            _TYPER_COMPLETE_FISH_ACTION="get-args",
            **variables,
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("creditd bal", ["balance"]),
        ("creditd check de", ["demo"]),
        ("creditd check demo ch", ["chat"]),
        ("creditd balance demo --credit cr", ["credits"]),
        ("creditd subscription put demo --plan p", ["pro"]),
        ("creditd subscription pause demo demo-", ["demo-pro"]),
        ("creditd grant void demo demo-w", ["demo-welcome"]),
        ("creditd ledger list demo --kind gr", ["grant"]),
        ("creditd check no-such-", []),
    ],
)
def test_bash_completes_names_of_the_server(dev_server: DevServer, line: str, found: list[str]) -> None:
    assert completed("bash", line, CREDITD_ADDRESS=dev_server.address) == found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_too(dev_server: DevServer, shell: str) -> None:
    assert any(
        "demo" in word for word in completed(shell, "creditd check de", CREDITD_ADDRESS=dev_server.address)
    )


def test_contexts_are_completed_and_the_one_on_the_line_is_asked(
    anywhere: Cli, contexts: Path, dev_server: DevServer
) -> None:
    anywhere("context", "add", "away", "127.0.0.1:1")
    anywhere("context", "add", "dev", dev_server.address)
    where = {"CREDITD_CONTEXT_FILE": str(contexts)}

    assert completed("bash", "creditd context use d", **where) == ["dev"]
    assert completed("bash", "creditd check --context ", **where) == ["away", "dev"]
    assert completed("bash", "creditd check --context dev de", **where) == ["demo"]


@pytest.mark.parametrize("trouble", ["no server", "a broken file", "a wrong address"])
def test_completion_is_silent_when_something_is_wrong(contexts: Path, trouble: str) -> None:
    contexts.parent.mkdir()
    contexts.write_text("{" if trouble == "a broken file" else "")
    address = {"no server": "127.0.0.1:1", "a wrong address": "nowhere", "a broken file": ""}[trouble]
    where = {"CREDITD_CONTEXT_FILE": str(contexts), "CREDITD_ADDRESS": address}

    assert completed("bash", "creditd check de", **where) == []
    if trouble == "a broken file":
        assert completed("bash", "creditd context use d", **where) == []


def test_a_bash_that_loads_the_script_completes(dev_server: DevServer) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = (
        "source <(_CREDITD_COMPLETE=source_bash creditd); "
        "COMP_WORDS=(creditd check demo im) COMP_CWORD=3; "
        '_creditd_completion creditd im demo; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{CREDITD.parent}{os.pathsep}{os.environ['PATH']}"

    ran = subprocess.run(
        [bash, "--norc", "-c", script],
        env=environment(CREDITD_ADDRESS=dev_server.address, PATH=path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.stdout, ran.stderr) == ("image\n", "")
