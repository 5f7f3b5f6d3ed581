"""`creditd account`: changes keep what was not given, whoever else changes the account."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.cli.conftest import Cli, DevServer, process

from creditd.cli.output import ExitCode


def test_put_changes_what_is_given_and_nothing_else(cli: Cli) -> None:
    put = ("account", "put", "kept")
    created = cli(*put, "--name", "Kept Ltd", "--label", "tier=gold,region=eu", "--external-id", "x-1")
    changed = cli(*put, "--label", "tier=silver", "--remove-label", "region", "--name", "")
    unchanged = cli(*put)

    assert [ran.out.splitlines()[0] for ran in (created, changed, unchanged)] == [
        "kept  active  created",
        "kept  active  changed",
        "kept  active  unchanged",
    ]
    found = cli("account", "get", "kept", "--json").json
    assert (found["name"], found["labels"], found["external_id"]) == ("", {"tier": "silver"}, "x-1")


def test_suspend_and_resume_keep_the_rest(cli: Cli, account: str) -> None:
    cli("account", "put", account, "--name", "Named")
    suspended = cli("account", "suspend", account)
    denied = cli("check", account, "sso")
    resumed = cli("account", "resume", account, "--json").json

    assert suspended.out.startswith(f"{account}  suspended  changed")
    assert (denied.code, "ACCOUNT_SUSPENDED" in denied.out) == (ExitCode.DENIED, True)
    assert (resumed["name"], resumed["suspended"]) == ("Named", False)
    assert [item["plan"] for item in resumed["subscriptions"]] == ["pro"]


def test_changes_at_the_same_time_are_all_kept(cli: Cli, account: str, dev_server: DevServer) -> None:
    def put(number: int) -> int:
        return process(
            "account", "put", account, "--label", f"l{number}=x", CREDITD_ADDRESS=dev_server.address
        ).returncode

    with ThreadPoolExecutor(4) as threads:
        codes = list(threads.map(put, range(4)))

    assert codes == [0, 0, 0, 0]
    assert set(cli("account", "get", account, "--json").json["labels"]) == {"l0", "l1", "l2", "l3"}


def test_suspending_what_is_not_there_creates_nothing(cli: Cli) -> None:
    ran = cli("account", "suspend", "not-there")

    assert ran.code == ExitCode.REFUSED
    assert "ACCOUNT_NOT_FOUND" in ran.err
    assert cli("account", "get", "not-there").code == ExitCode.REFUSED


def test_lists_page_by_themselves_and_say_when_there_are_more(cli: Cli) -> None:
    for number in range(5):
        cli("account", "put", f"paged-{number}")

    some = cli("account", "list", "--prefix", "paged-", "--limit", 3)
    all_of_them = cli("account", "list", "--prefix", "paged-", "--limit", 0, "--json")
    exactly = cli("account", "list", "--prefix", "paged-", "--limit", 5)
    none = cli("account", "list", "--prefix", "no-such-")

    assert [line.split()[0] for line in some.out.splitlines()] == ["account", "paged-0", "paged-1", "paged-2"]
    assert "more than these 3" in some.err
    assert [item["id"] for item in all_of_them.lines] == [f"paged-{number}" for number in range(5)]
    assert (exactly.err, all_of_them.err) == ("", "")
    assert (none.code, none.out, none.err) == (0, "", "no account begins with no-such-\n")


def test_text_of_others_never_controls_the_terminal(cli: Cli) -> None:
    cli("account", "put", "evil", "--name", "\x1b[2J\nroot", "--label", "a=\x1b]0;x\x07")

    for ran in (cli("account", "get", "evil"), cli("account", "list", "--prefix", "evil")):
        assert "\x1b" not in ran.out
        assert "\x07" not in ran.out
        assert "\\x1b[2J\\nroot" in ran.out


def test_markup_in_a_name_is_text(cli: Cli) -> None:
    cli("account", "put", "marked", "--name", "[bold]x[/] [/oops]")

    assert "[bold]x[/] [/oops]" in cli("account", "get", "marked").out


def test_a_wrong_value_is_told_at_its_option(cli: Cli) -> None:
    ran = cli("account", "put", "x" * 256)

    assert ran.code == ExitCode.REFUSED
    assert "ACCOUNT: is 256 bytes long" in ran.err
    ran = cli("account", "put", "fine", "--name", "n" * 2000, "--label", f"a={'v' * 2000}")
    assert "--name: is longer than 1024 bytes" in ran.err
    assert "--label a: is longer than 1024 bytes" in ran.err


def test_a_clock_that_is_not_there_is_not_found(cli: Cli) -> None:
    ran = cli("account", "put", "timed", "--test-clock", "no-clock")

    assert ran.code == ExitCode.REFUSED
    assert "TEST_CLOCK_NOT_FOUND" in ran.err
