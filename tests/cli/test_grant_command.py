"""`creditd grant`: exact amounts, once per id or key, and what becomes of a grant."""

from __future__ import annotations

import re

import pytest
from tests.cli.conftest import Cli

from creditd.cli.output import ExitCode

CREATE = ("--credit", "credits", "--amount")


def available(cli: Cli, account: str) -> int:
    return int(cli("balance", account, "--json").json["balances"][0]["available_micros"])


def test_amounts_are_given_in_credits_and_kept_exactly(cli: Cli, account: str) -> None:
    ran = cli("grant", "create", account, *CREATE, "0.000001", "--json")

    assert ran.json["amount_micros"] == "1"
    assert available(cli, account) == 5_000_000_001


def test_the_same_command_with_the_printed_id_grants_once(cli: Cli, account: str) -> None:
    ran = cli("grant", "create", account, *CREATE, "12.5", "--expires", "30d")
    made_up = re.search(r"grant +(grant-\w+)", ran.out)
    expires = re.search(r"expires +(\S+)", ran.out)
    assert made_up is not None
    assert expires is not None

    again = cli("grant", "create", account, *CREATE, "12.5", "--expires", expires[1], "--id", made_up[1])
    other = cli("grant", "create", account, *CREATE, "13", "--id", made_up[1])

    assert again.code == 0
    assert available(cli, account) == 5_012_500_000
    assert (other.code, "ALREADY_EXISTS" in other.err) == (ExitCode.REFUSED, True)


def test_a_key_grants_once_and_another_request_under_it_is_explained(cli: Cli, account: str) -> None:
    command = ("grant", "create", account, "--key", "k1", *CREATE)

    assert cli(*command, "10").code == cli(*command, "10").code == 0
    assert available(cli, account) == 5_010_000_000
    reused = cli(*command, "11")
    assert reused.code == ExitCode.REFUSED
    assert "--key: was used for a different request" in reused.err
    assert "repeat the instant of the first try" in reused.err


def test_without_an_answer_the_way_to_try_again_is_told(anywhere: Cli) -> None:
    ran = anywhere("grant", "create", "demo", *CREATE, "1", "--expires", "30d", CREDITD_ADDRESS="127.0.0.1:1")

    assert ran.code == ExitCode.UNAVAILABLE
    assert re.search(r"add --id grant-\w+ --expires \S+Z to the command", ran.err)


def test_everything_about_a_grant_can_be_said(cli: Cli, account: str) -> None:
    made = cli(
        "grant", "create", account, *CREATE, "500", "--expires", "2030-01-01", "--effective", "2029-01-01",
        "--priority", 5, "--features", "chat,image", "--category", "purchase", "--price", "49.90 EUR",
        "--source", "ticket/1", "--metadata", r"why=a\,b", "--id", "all", "--json",
    ).json  # fmt: skip

    assert made["price"] == {"currency_code": "EUR", "units": "49", "nanos": 900000000}
    assert (made["priority"], made["features"], made["category"]) == (
        5,
        ["chat", "image"],
        "CATEGORY_PURCHASE",
    )
    assert (made["effective_at"], made["expires_at"]) == ("2029-01-01T00:00:00Z", "2030-01-01T00:00:00Z")
    assert (made["metadata"], made["source"]) == ({"why": "a,b"}, "ticket/1")


def test_voiding_takes_what_is_left_once(cli: Cli, account: str) -> None:
    cli("grant", "create", account, *CREATE, "100", "--id", "gone")
    first = cli("grant", "void", account, "gone", "--reason", "mistake")
    again = cli("grant", "void", account, "gone")

    assert (first.code, again.code) == (0, 0)
    assert first.out.startswith("voided\n")
    assert available(cli, account) == 5_000_000_000


def test_the_list_shows_active_grants_or_all_with_what_became_of_them(cli: Cli, account: str) -> None:
    for name, *more in (("now",), ("future", "--effective", "2d"), ("voided",)):
        cli("grant", "create", account, *CREATE, "1", "--id", name, *more)
    cli("grant", "void", account, "voided")

    active = [line.split()[0] for line in cli("grant", "list", account).out.splitlines()[1:]]
    states = {
        line.split()[0]: line.split("never")[1].split()[0]
        for line in cli("grant", "list", account, "--all").out.splitlines()[1:]
    }

    assert active == ["main/plan/0/1", "now"]
    assert states == {"main/plan/0/1": "active", "now": "active", "future": "from", "voided": "voided"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((*CREATE, "0.0000001"), ExitCode.USAGE, "finer than a micro-credit"),
        ((*CREATE, "lots"), ExitCode.USAGE, "expected a number"),
        ((*CREATE, "0"), ExitCode.REFUSED, "--amount: is 0; expected 1 to 9000000000000000"),
        ((*CREATE, "-5"), ExitCode.REFUSED, "--amount: is -5000000"),
        ((*CREATE, "9000000000"), ExitCode.REFUSED, "OUT_OF_RANGE"),
        ((*CREATE, "1", "--expires", "2020-01-01"), ExitCode.REFUSED, "--expires: must be later than now"),
        ((*CREATE, "1", "--expires", "soon"), ExitCode.USAGE, "expected an instant"),
        ((*CREATE, "1", "--price", "49"), ExitCode.USAGE, "expected an amount and a currency"),
        ((*CREATE, "1", "--price", "1 XXXX"), ExitCode.USAGE, "expected an amount and a currency"),
        ((*CREATE, "1", "--category", "gift"), ExitCode.USAGE, "is not one of"),
        ((*CREATE, "1", "--features", "chta"), ExitCode.REFUSED, "did you mean chat?"),
        ((*CREATE, "1", "--features", "sso"), ExitCode.REFUSED, "--features: burns no credit"),
        (("--credit", "credit", "--amount", "1"), ExitCode.REFUSED, "did you mean credits?"),
        (("--amount", "1"), ExitCode.USAGE, "Missing option '--credit'"),
    ],
)
def test_what_is_wrong_is_told(
    cli: Cli, account: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ran = cli("grant", "create", account, *arguments, COLUMNS="200")

    assert ran.code == code
    assert said in ran.err
    assert available(cli, account) == 5_000_000_000


def test_a_grant_that_is_not_there_is_not_found(cli: Cli, account: str) -> None:
    ran = cli("grant", "void", account, "nothing")

    assert ran.code == ExitCode.REFUSED
    assert "GRANT_NOT_FOUND" in ran.err
    assert "creditd grant list" in ran.err
