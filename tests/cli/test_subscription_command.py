"""`creditd subscription`: put, pause, resume and cancel keep what was not given."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Cli

from creditd.cli.output import ExitCode


def listed(cli: Cli, account: str) -> dict[str, dict[str, object]]:
    return {item["id"]: item for item in cli("subscription", "list", account, "--json").lines}


def test_subscribing_tells_what_was_granted_and_what_there_is_after(cli: Cli) -> None:
    cli("account", "put", "new")
    ran = cli("subscription", "put", "new", "--plan", "pro", "--seats", 3)

    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    made_up = lines[0][0]
    assert made_up.startswith("sub-")
    assert lines[0][1:] == ["active", "created"]
    assert ["granted", f"{made_up}/plan/0/1", "5,000", "credits", "plan/pro"] in lines
    assert ["credits", "5,000", "5,000"] in lines
    again = cli("subscription", "put", "new", "--plan", "pro", "--seats", 3, "--id", made_up)
    assert "granted " not in again.out.replace("granted  next", "")
    assert list(listed(cli, "new")) == [made_up]


def test_a_preview_changes_nothing(cli: Cli, account: str) -> None:
    ran = cli("subscription", "put", account, "--plan", "free", "--preview")

    assert "would be created" in ran.out
    assert "100" in ran.out
    assert list(listed(cli, account)) == ["main"]


def test_put_keeps_the_end_and_all_else_that_is_not_given(cli: Cli, account: str) -> None:
    put = ("subscription", "put", account, "--id", "main")
    cli(*put, "--cancel-at", "2030-01-01", "--external-id", "e-1")
    cli(*put, "--seats", 7)

    kept = listed(cli, account)["main"]
    assert (kept["seats"], kept["external_id"], kept["plan"]) == ("7", "e-1", "pro")
    assert kept["cancel_at"] == "2030-01-01T00:00:00Z"
    cli(*put, "--cancel-at", "never")
    assert "cancel_at" not in listed(cli, account)["main"]


def test_pause_cancel_and_resume_take_the_only_subscription(cli: Cli, account: str) -> None:
    def status(*arguments: str) -> object:
        ran = cli("subscription", *arguments)
        assert ran.code == 0, ran.err
        return listed(cli, account)["main"]["status"]

    assert status("pause", account) == "STATUS_PAUSED"
    assert status("resume", account) == "STATUS_ACTIVE"
    assert status("cancel", account) == "STATUS_CANCELED"
    assert status("resume", account, "main") == "STATUS_ACTIVE"
    assert cli("check", account, "sso").code == 0


def test_cancel_at_the_end_of_the_period_ends_it_there(cli: Cli, account: str) -> None:
    answer = cli("subscription", "cancel", account, "--at", "period-end", "--json").json

    assert answer["subscription"]["cancel_at"] == answer["subscription"]["period_end"]
    assert answer["subscription"]["status"] == "STATUS_ACTIVE"
    assert cli("subscription", "pause", account, "--json").json["subscription"]["cancel_at"]
    assert "cancel_at" not in cli("subscription", "resume", account, "--json").json["subscription"]


def test_which_one_must_be_said_when_there_are_several(cli: Cli, account: str) -> None:
    cli("subscription", "put", account, "--plan", "free", "--id", "second")

    several = cli("subscription", "pause", account)
    wrong = cli("subscription", "pause", account, "third")
    cli("account", "put", "bare")
    none = cli("subscription", "pause", "bare")

    assert (several.code, wrong.code, none.code) == (2, 2, 2)
    assert "say which one: main, second" in several.err
    assert "no subscription 'third', but main, second" in wrong.err
    assert "`creditd subscription put` makes one" in none.err
    assert cli("subscription", "list", "bare").err == "account bare has no subscriptions\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), ExitCode.USAGE, "is needed for a new subscription"),
        (("--plan", "prp"), ExitCode.REFUSED, "did you mean pro?"),
        (("--plan", "pro", "--seats", "-1"), ExitCode.USAGE, "'--seats'"),
        (("--plan", "pro", "--cancel-at", "soon"), ExitCode.USAGE, "expected an instant"),
        (("--plan", "pro", "--seats", "2000000000"), ExitCode.REFUSED, "--seats: is 2000000000"),
        (("--plan", "pro", "--plan-version", "99"), ExitCode.REFUSED, "PLAN_NOT_FOUND"),
    ],
)
def test_what_is_wrong_is_told(
    cli: Cli, account: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ran = cli("subscription", "put", account, *arguments, COLUMNS="200")

    assert ran.code == code
    assert said in ran.err
