"""check, explain, consume and balance against a real server: what is told, the exit codes, and bad input."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Cli

from creditd.cli.output import ExitCode

USE = ("--attributes", "model=gpt-4o", "--usage", "input_tokens=1000,output_tokens=500")


def test_check_tells_cost_and_balance_and_changes_nothing(cli: Cli, account: str) -> None:
    ran = cli("check", account, "chat", *USE)

    assert ran.code == ExitCode.OK
    assert ran.out.splitlines() == [
        "allowed  COVERED",
        "  costs       0.75 credits",
        "  available   5,000 credits  of 5,000 granted",
        "  affordable  5,000,000 units",
    ]
    assert cli("balance", account, "--json").json["sequence"] == "1"


def test_json_is_the_message_with_the_apis_names(cli: Cli, account: str) -> None:
    answer = cli("check", account, "chat", *USE, "--json").json

    assert (answer["allowed"], answer["reason"], answer["cost_micros"]) == (True, "REASON_COVERED", "750000")
    assert answer["explanation"] == []


def test_a_config_value_reads_as_it_was_written(cli: Cli, account: str) -> None:
    assert cli("check", account, "context_window").out.splitlines()[1].split() == ["value", "128000"]


def test_a_denial_is_exit_code_1(cli: Cli, account: str) -> None:
    ran = cli("check", account, "chat", "--attributes", "model=gpt-4o", "--quantity", 6_000_000)

    assert ran.code == ExitCode.DENIED
    assert ran.out.startswith("denied  INSUFFICIENT_CREDITS\n  needs 6000 credits")


def test_consume_burns_once_per_key(cli: Cli, account: str) -> None:
    command = ("consume", account, "chat", *USE, "--key", "r1")
    first, again = cli(*command), cli(*command)
    other = cli(*command, "--subject", "someone")

    assert (first.code, again.code) == (0, 0)
    assert "burned     0.75 credits" in first.out
    assert "replayed" not in first.out
    assert "replayed: burned before" in again.out
    assert cli("balance", account, "--json").json["balances"][0]["available_micros"] == "4999250000"
    assert other.code == ExitCode.REFUSED
    assert "IDEMPOTENCY_KEY_REUSED" in other.err
    assert "--idempotency-key: was used for a different request" in other.err


def test_consume_makes_up_a_key_and_tells_it(cli: Cli, account: str) -> None:
    key = cli("consume", account, "chat", *USE).out.splitlines()[-1].split()[-1]

    assert "replayed" in cli("consume", account, "chat", *USE, "--key", key).out


def test_consume_without_an_answer_tells_the_key_to_try_again_with(anywhere: Cli) -> None:
    ran = anywhere("consume", "demo", "chat", CREDITD_ADDRESS="127.0.0.1:1")

    assert ran.code == ExitCode.UNAVAILABLE
    assert "is a server running at 127.0.0.1:1? `creditd dev` starts one" in ran.err
    assert "add --idempotency-key " in ran.err


def test_partial_and_record_are_modes(cli: Cli, account: str) -> None:
    partial = cli(
        "consume",
        account,
        "chat",
        "--attributes",
        "model=gpt-4o",
        "--quantity",
        6_000_000,
        "--mode",
        "partial",
    )
    record = cli(
        "consume", account, "chat", "--attributes", "model=gpt-4o", "--quantity", 1000, "--mode", "record"
    )

    assert (partial.code, record.code) == (0, 0)
    assert "PARTIALLY_COVERED" in partial.out
    assert "short of   1,000 credits" in partial.out
    assert "debt       1 credits" in record.out
    assert cli("balance", account).out.splitlines()[:2] == [
        "credit   available  granted  debt  next expiry",
        "credits         -1    5,000     1",
    ]


def test_what_a_limit_denied_is_told_in_units(cli: Cli, account: str) -> None:
    ran = cli("consume", account, "api_calls", "--quantity", 1001)

    assert ran.code == ExitCode.DENIED
    assert "short of  1 units" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--quantity", "x"), "expected a whole number"),
        (("--quantity", "9223372036854775808"), "too large"),
        (("--quantity", "1", "--usage", "a=1"), "is not given together with --usage"),
        (("--usage", "a"), "is not of the form name=value"),
        (("--usage", "a=1.5"), "expected a whole number"),
        (("--attributes", "=a"), "is not of the form name=value"),
        (("--mode", "sometimes"), "is not one of"),
        (("--cost", "0.0000001"), "finer than a micro-credit"),
        (("--address", "nowhere"), "expected host:port"),
    ],
)
def test_a_wrong_option_is_exit_code_2_and_sends_nothing(
    anywhere: Cli, arguments: tuple[str, ...], said: str
) -> None:
    ran = anywhere("consume", "demo", "chat", *arguments, COLUMNS="200")

    assert ran.code == ExitCode.USAGE
    assert said in ran.err


def test_every_violation_is_told_at_its_option(cli: Cli) -> None:
    ran = cli("consume", "demo", "chat", "--usage", "a=-1,b=-2", "--subject", "x" * 256, "--key", "\x07")

    assert ran.code == ExitCode.REFUSED
    assert {line.strip() for line in ran.err.splitlines()[1:]} == {
        "--usage a: is -1; expected 0 to 9000000000000000",
        "--usage b: is -2; expected 0 to 9000000000000000",
        "--subject: is 256 bytes long; at most 255 are allowed",
        "--idempotency-key: has characters that can't be printed",
    }


def test_errors_are_json_on_stderr_for_scripts(cli: Cli) -> None:
    ran = cli("check", "nobody", "chat", "--json")

    assert (ran.code, ran.out) == (ExitCode.REFUSED, "")
    assert '"reason": "ACCOUNT_NOT_FOUND"' in ran.err
    assert '"code": "NOT_FOUND"' in ran.err


def test_what_does_not_exist_brings_near_names_and_the_fix(cli: Cli, account: str) -> None:
    near = cli("check", account[:-1] + "-x", "chat").err
    feature = cli("check", account, "chta").err
    credit = cli("balance", account, "--credit", "credit").err

    assert "`creditd account put" in near
    assert "did you mean account-" in near
    assert "did you mean chat?" in feature
    assert "did you mean credits?" in credit


def test_no_rate_names_what_was_missing(cli: Cli, account: str) -> None:
    ran = cli("check", account, "chat", "--attributes", "model=nope")

    assert ran.code == ExitCode.REFUSED
    assert "FAILED_PRECONDITION (NO_RATE)" in ran.err


def test_another_kind_of_server_is_noticed(cli: Cli, anywhere: Cli) -> None:
    from concurrent import futures

    import grpc

    host = grpc.server(futures.ThreadPoolExecutor(1))
    address = f"127.0.0.1:{host.add_insecure_port('127.0.0.1:0')}"
    host.start()
    try:
        ran = anywhere("check", "demo", "chat", "--address", address)
    finally:
        host.stop(None).wait()

    assert ran.code == ExitCode.REFUSED
    assert f"is {address} a creditd server" in ran.err


# explain


def test_explain_names_who_pays_and_every_step(cli: Cli, account: str) -> None:
    cli(
        "grant",
        "create",
        account,
        "--credit",
        "credits",
        "--amount",
        "0.5",
        "--category",
        "promotion",
        "--id",
        "first",
    )
    ran = cli("explain", account, "chat", *USE)

    assert ran.code == ExitCode.OK
    assert ran.out.splitlines()[:2] == [
        "allowed  COVERED",
        "  would take 0.5 from first, 0.25 from main/plan/0/1",
    ]
    steps = [line.split() for line in ran.out.splitlines() if line[:1].isdigit()]
    assert [step[1] for step in steps] == ["entitlement", "rate", "grant", "grant"]
    assert "main          pro, version 1  active" in ran.out


def test_explain_says_which_grants_may_not_pay(cli: Cli, account: str) -> None:
    cli(
        "grant",
        "create",
        account,
        "--credit",
        "credits",
        "--amount",
        9000,
        "--features",
        "image",
        "--id",
        "pictures",
    )
    ran = cli("explain", account, "chat", "--attributes", "model=gpt-4o", "--quantity", 6_000_000)

    assert ran.code == ExitCode.DENIED
    (line,) = [line for line in ran.out.splitlines() if line.startswith("pictures")]
    assert line.endswith("no: only for image")
    assert ran.out.rstrip().endswith(f"creditd grant create {account} --credit credits --amount 1000")


def test_what_explain_suggests_helps(cli: Cli, account: str) -> None:
    def suggested(*arguments: object) -> tuple[str, ...]:
        ran = cli("explain", account, *arguments)
        assert ran.code == ExitCode.DENIED, ran.out
        return tuple(ran.out.rstrip().splitlines()[-1].split()[1:])

    chat = ("chat", "--attributes", "model=gpt-4o", "--quantity", 6_000_000)
    assert cli(*suggested(*chat)).code == 0
    assert cli("explain", account, *chat).code == 0

    cli("account", "suspend", account)
    assert suggested("sso") == ("account", "resume", account)
    assert cli(*suggested("sso")).code == 0

    cli("subscription", "pause", account)
    assert suggested("sso") == ("subscription", "resume", account, "main")
    assert cli(*suggested("sso")).code == 0
    assert cli("explain", account, "sso").code == 0


def test_explain_of_an_account_without_a_plan_names_the_plans(cli: Cli) -> None:
    cli("account", "put", "planless")
    ran = cli("explain", "planless", "image")

    assert ran.code == ExitCode.DENIED
    assert ran.out.splitlines()[0] == "denied  NOT_ENTITLED"
    assert "a plan with it: pro" in ran.out


def test_explain_of_a_limit_says_when_it_ends_in_units(cli: Cli, account: str) -> None:
    ran = cli("explain", account, "api_calls", "--quantity", 1007)

    assert ran.code == ExitCode.DENIED
    assert "7 units" in ran.out
    assert "wait until the window ends" in ran.out


def test_explain_for_scripts_is_the_answer_of_check(cli: Cli, account: str) -> None:
    explained = cli("explain", account, "chat", *USE, "--json")

    assert explained.json == cli("check", account, "chat", *USE, "--explain", "--json").json
    assert [step["kind"] for step in explained.json["explanation"]] == ["entitlement", "rate", "grant"]
