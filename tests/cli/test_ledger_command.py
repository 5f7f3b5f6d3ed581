"""`creditd ledger`: lists that page by themselves, exports that are complete or not there, and verification."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import msgpack
import pytest
import redis
from tests.cli.conftest import Cli, DevServer, invoke

from creditd.cli import listing
from creditd.cli.output import ExitCode
from creditd.hot.keys import state_key
from creditd.v1 import ledger_pb2 as pb
from creditd.v1.ledger_pb2_grpc import LedgerServicer, add_LedgerServicer_to_server

USE = ("--attributes", "model=gpt-4o", "--usage", "output_tokens=500")


@pytest.fixture(scope="module")
def eight_entries(dev_server: DevServer) -> str:
    """An account with 8 entries."""

    def run(*arguments: object) -> None:
        assert invoke(*arguments, CREDITD_ADDRESS=dev_server.address).code == 0

    run("account", "put", "busy")
    run("subscription", "put", "busy", "--plan", "pro", "--id", "main")
    for number in range(5):
        run("consume", "busy", "chat", *USE, "--subject", f"user-{number}", "--metadata", f"n={number}")
    run("consume", "busy", "api_calls")
    run("grant", "create", "busy", "--credit", "credits", "--amount", 10, "--id", "extra")
    return "busy"


@pytest.fixture
def busy(eight_entries: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """That account, listed in pages of 3."""
    monkeypatch.setattr(listing, "PAGE_MAX", 3)
    return eight_entries


def sequences(lines: list[dict[str, str]]) -> list[int]:
    return [int(line["sequence"]) for line in lines]


def test_entries_are_listed_newest_first_with_signed_amounts_and_the_balance_after(
    cli: Cli, busy: str
) -> None:
    rows = [line.split() for line in cli("ledger", "list", busy).out.splitlines()]

    assert rows[0] == ["number", "at", "kind", "amount", "balance", "credit", "for", "subject"]
    assert [row[0] for row in rows[1:]] == ["8", "7", "6", "5", "4", "3", "2", "1"]
    assert rows[1][2:] == ["grant", "+10", "5,007.5", "credits", "extra"]
    assert rows[2][2:] == ["consume", "api_calls"]
    assert rows[3][2:] == ["consume", "-0.5", "4,997.5", "credits", "chat", "user-4"]
    assert rows[8][2:] == ["grant", "+5,000", "5,000", "credits", "main/plan/0/1"]


def test_columns_line_up_over_pages(cli: Cli, busy: str) -> None:
    lines = cli("ledger", "list", busy).out.splitlines()

    at = lines[0].index("credit")
    assert {line[at : at + 7] for line in lines[1:] if "credits" in line} == {"credits"}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (("--kind", "grant"), [8, 1]),
        (("--kind", "grant", "--kind", "consume", "--feature", "api_calls"), [7]),
        (("--subject", "user-2"), [4]),
        (("--credit", "credits", "--limit", 2), [8, 6]),
        (("--since", "1h", "--limit", 1), [8]),
        (("--until", "1h"), []),
        (("--since", "2030-01-01"), []),
    ],
)
def test_filters(cli: Cli, busy: str, filters: tuple[object, ...], found: list[int]) -> None:
    ran = cli("ledger", "list", busy, "--json", *filters)

    assert ran.code == 0, ran.err
    assert sequences(ran.lines) == found


def test_since_and_until_of_a_printed_instant_meet(cli: Cli, busy: str) -> None:
    at = cli("ledger", "list", busy, "--json").lines[3]["at"]

    since = cli("ledger", "list", busy, "--json", "--since", at).lines
    until = cli("ledger", "list", busy, "--json", "--until", at).lines

    assert sequences([*since, *until]) == [8, 7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "expected an instant"),
        (("--since", "1h", "--until", "2h"), "is not before --until"),
        (("--kind", "burn"), "is not one of"),
        (("--limit", "-1"), "--limit"),
    ],
)
def test_wrong_filters_are_exit_code_2(anywhere: Cli, arguments: tuple[str, ...], said: str) -> None:
    ran = anywhere("ledger", "list", "demo", *arguments, COLUMNS="200")

    assert ran.code == ExitCode.USAGE
    assert said in ran.err


def test_nothing_that_matches_is_said_on_stderr(cli: Cli, account: str) -> None:
    ran = cli("ledger", "list", account, "--feature", "no-such-feature")

    assert (ran.code, ran.out, ran.err) == (0, "", "no entries match\n")


# export


def test_json_lines_are_the_messages(cli: Cli, busy: str, tmp_path: Path) -> None:
    output = tmp_path / "entries.jsonl"
    ran = cli("ledger", "export", busy, "--output", output)

    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert (ran.code, ran.out, ran.err) == (0, "", f"8 entries in {output}\n")
    assert lines == cli("ledger", "list", busy, "--json").lines
    assert [path.name for path in tmp_path.iterdir() if path.name != "config"] == ["entries.jsonl"]


def test_csv_has_amounts_in_credits_that_add_up(cli: Cli, busy: str, tmp_path: Path) -> None:
    output = tmp_path / "entries.csv"
    cli("ledger", "export", busy, "-o", output, "--kind", "consume", "--feature", "chat")

    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [row["sequence"] for row in rows] == ["6", "5", "4", "3", "2"]
    assert {row["amount"] for row in rows} == {"-0.5"}
    assert rows[0]["balance_after"] == "4997.5"
    assert json.loads(rows[0]["usage"]) == {"output_tokens": 500}
    assert json.loads(rows[0]["metadata"]) == {"n": "4"}
    assert json.loads(rows[0]["paid_by"]) == {"main/plan/0/1": "0.5"}
    assert rows[0]["cost"] == "0.005 USD"


def test_an_export_to_stdout_is_nothing_but_the_entries(cli: Cli, busy: str) -> None:
    ran = cli("ledger", "export", busy, "--output", "-", "--format", "csv")

    assert ran.err == ""
    assert len(list(csv.DictReader(io.StringIO(ran.out)))) == 8


def test_an_export_keeps_the_mode_of_the_file_that_it_replaces(cli: Cli, busy: str, tmp_path: Path) -> None:
    output = tmp_path / "entries.jsonl"
    output.write_text("old")
    output.chmod(0o640)

    cli("ledger", "export", busy, "--output", output)

    assert stat.S_IMODE(output.stat().st_mode) == 0o640
    assert output.read_text() != "old"


def test_what_cannot_be_written_is_told(cli: Cli, account: str, tmp_path: Path) -> None:
    nowhere = cli("ledger", "export", account, "--output", tmp_path / "missing" / "e.csv")
    unknown = cli("ledger", "export", account, "--output", tmp_path / "entries.xlsx", COLUMNS="200")

    assert (nowhere.code, unknown.code) == (ExitCode.USAGE, ExitCode.USAGE)
    assert "No such file or directory" in nowhere.err
    assert "--format csv" in unknown.err


class Breaking(LedgerServicer):
    """Gives one page, and then fails."""

    def ListEntries(
        self, request: pb.ListEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListEntriesResponse:
        if request.page_token:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return pb.ListEntriesResponse(entries=[pb.Entry(sequence=9)], next_page_token="more")


@pytest.fixture
def breaking() -> Iterator[str]:
    host = grpc.server(futures.ThreadPoolExecutor(1))
    add_LedgerServicer_to_server(Breaking(), host)
    address = f"127.0.0.1:{host.add_insecure_port('127.0.0.1:0')}"
    host.start()
    yield address
    host.stop(None).wait()


def test_an_export_that_breaks_leaves_the_old_file_and_nothing_else(
    anywhere: Cli, breaking: str, tmp_path: Path
) -> None:
    output = tmp_path / "entries.jsonl"
    output.write_text("old")

    ran = anywhere("ledger", "export", "demo", "--output", output, "--address", breaking)

    assert ran.code == ExitCode.REFUSED
    assert "INTERNAL: broken" in ran.err
    assert output.read_text() == "old"
    assert list(tmp_path.glob(".*")) == []


# verify


def test_an_account_that_agrees_is_exit_code_0(cli: Cli, busy: str) -> None:
    ran = cli("ledger", "verify", busy)

    assert ran.code == 0
    assert ran.out.splitlines()[:2] == ["consistent", "  ledger     8 entries"]


def test_an_account_that_differs_is_exit_code_1_and_is_repaired(
    cli: Cli, busy: str, dev_server: DevServer
) -> None:
    cli("check", busy, "chat", *USE)  # makes it hot
    with redis.Redis.from_url(dev_server.valkey) as hot:
        key = state_key(busy)
        field = b"$credits"
        balances = msgpack.unpackb(hot.hget(key, field), raw=True)
        balances[1] += 1_000_000
        hot.hset(key, field, msgpack.packb(balances, use_bin_type=False))

    found = cli("ledger", "verify", busy)
    repaired = cli("ledger", "verify", busy, "--repair")
    after = cli("ledger", "verify", busy, "--json")

    assert (found.code, repaired.code, after.code) == (ExitCode.DENIED, ExitCode.DENIED, 0)
    assert found.out.startswith("inconsistent\n")
    assert "differs    credit credits: available is" in found.out
    assert "loaded anew from the ledger" in repaired.out
    assert after.json["consistent"] is True
