"""A handful of seeds, and what makes a seed worth printing: it can be had again, and it finds what is broken.

`make test-sim` lives many more. What they have found has tests in tests/engine (test_doubt, test_catalog_races).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.simulator import postgres, statements
from tests.simulator.run import run
from tests.simulator.valkey import EmbeddedStores, RealValkey

from creditd.engine.commit import Committer
from creditd.engine.decisions import Decisions, _denial
from creditd.hot import scripts
from creditd.hot.store import HotStore

OPS = 200


@pytest.fixture
def stores():
    with EmbeddedStores() as made:
        yield made


@pytest.mark.parametrize("seed", range(5))
def test_no_seed_breaks_an_invariant(stores, seed):
    result = run(seed, OPS, stores)
    assert not result.violations, "\n".join([*result.violations, *result.tail[-60:]])


def test_the_same_seed_is_the_same_run_in_any_process(stores):
    digest = run(3, OPS, stores).digest
    assert run(3, OPS, stores).digest == digest
    program = (
        "from tests.simulator.run import run; from tests.simulator.valkey import EmbeddedStores\n"
        f"print(run(3, {OPS}, EmbeddedStores()).digest)"
    )
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        told = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
        )
        assert told.stdout.strip() == digest


@pytest.mark.parametrize("seed", [1, 6, 22])
def test_the_embedded_lua_does_as_a_real_valkey(stores, seed):
    with RealValkey() as real:
        assert run(seed, OPS, real).digest == run(seed, OPS, stores).digest


# Each of these breaks one thing that an invariant rests on.


def no_fence(monkeypatch):
    """The append of the ledger lands what was decided in any epoch."""
    monkeypatch.setattr(
        statements,
        "fenced",
        lambda rows, heads: [row for row in rows if row[0] in heads],
    )


def _change(monkeypatch, name, before, after):
    script = getattr(scripts, name)
    assert before in script.text
    text = script.text.replace(before, after)
    digest = scripts.sha1(text.encode(), usedforsecurity=False).hexdigest()
    changed = scripts.Script(script.name, text, digest)
    monkeypatch.setattr(scripts, name, changed)
    monkeypatch.setattr(scripts, "ALL", tuple(changed if each is script else each for each in scripts.ALL))


def told_before_landed(monkeypatch):
    """Who waits for a unit is answered when it is handed over."""
    submit = Committer.submit

    def early(self, unit):
        from creditd.ledger.append import Landed

        done = submit(self, unit)
        if not done.done():
            done.set_result(Landed())
        return done

    monkeypatch.setattr(Committer, "submit", early)


def no_lookup_on_denial(monkeypatch):
    """A denial is told without asking the ledger whether its key is known."""

    async def denied(_self, _attempt, prepared, drawn):
        return [_denial(prepared, drawn)]

    monkeypatch.setattr(Decisions, "_denied", denied)


def given_back_twice(monkeypatch):
    """What a late replay took returns to the hot state two times."""
    _change(monkeypatch, "GIVE_BACK", "if redis.call('HDEL', KEYS[2], ARGV[4]) == 0 then return 0 end", "")
    give_back = HotStore.give_back

    async def twice(self, *args):
        await give_back(self, *args)
        await give_back(self, *args)

    monkeypatch.setattr(HotStore, "give_back", twice)


def no_key_index(monkeypatch):
    """The ledger takes two entries with one idempotency key."""
    insert = statements._insert

    def without_key(record, row):
        insert(record, row)
        record.keys.pop(row[statements._KEY], None)

    monkeypatch.setattr(statements, "_insert", without_key)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "break_it",
    [no_fence, told_before_landed, no_lookup_on_denial, given_back_twice, no_key_index],
)
def test_what_is_broken_is_found_within_some_seeds(stores, monkeypatch, break_it):
    break_it(monkeypatch)
    for seed in range(15):
        if run(seed, OPS, stores).violations:
            return
    pytest.fail("15 seeds have not found it")


def test_a_query_that_the_simulator_does_not_know_is_named(stores):
    assert set(postgres.WRITES) <= {f"{file}.{name}" for file, name in statements.HANDLERS}
