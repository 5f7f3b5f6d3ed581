"""The JSON of entries' details, of grants, and of checkpoints. Hand-written: appends go through here.

What is stored here is read by every later release, so a key is never given another meaning. Keys are
short because each entry carries them, and what has its default is left out:

    detail   u usage, a attributes, m metadata, l allocations [[grant, micros]], c cost [currency, nanos],
             w answer (the fields of `Answer` in order; new ones go to the end),
             e effects: g grants [[grant, micros]], c counters [[key, start, end, delta]], d debt,
                        p put (a grant), a activated, x ended, f filled at, h hold, s closed, v held,
                        l lapsed [[grant, micros]], r repaid [[grant, micros]],
                        k counted [[key, start, end, micros]]
    grant    i id, c credit, a amount, k category, p priority, f effective, t created, x expires, v voided,
             r recurrence [unit, count, anchor, max_micros, max_percent, max_periods]; the last three only
             with a rollover, w how long each period's credits last [unit, count], n price [currency, nanos],
             m metadata, s source, l features (limited to), o parent, y ends at, u subscription, q slot,
             z until, h shrinks to, b prorated
    hold     i id, q sequence, x expires, c credit, f feature, b subject, p parts [[grant, micros, lapsed]],
             o overage [[key, start, end, micros, carry debt]], n charges [[key, start, end, applied, micros]],
             u usage, a attributes, m metadata
    state    v format, q sequence, t at, g grants [[grant, remaining, active, filled at]], d debts,
             c counters [[key, start, end, used]], h holds
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import starmap
from operator import attrgetter
from typing import Any, Final

import orjson

from creditd.domain.catalog import Money, Period, Rollover, Unit
from creditd.domain.entries import Answer, CounterChange, Effects, Entry, GrantChange
from creditd.domain.grants import Category, Grant, Recurrence
from creditd.domain.state import (
    AccountState,
    Counter,
    GrantState,
    Hold,
    HoldCharge,
    HoldOverage,
    HoldPart,
)

STATE_FORMAT: Final = 3
"""Raised when the JSON of a state changes its meaning; another format is not read but folded anew."""

_EMPTY: Final = "{}"
_NO_EFFECTS: Final = Effects()
_hold_effects: Final = attrgetter("hold", "closed", "held", "lapsed", "repaid", "counted")
_answer_values: Final = attrgetter(*(answer_field.name for answer_field in fields(Answer)))


@dataclass(frozen=True, slots=True)
class Detail:
    """The part of an entry that is stored as JSON."""

    usage: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    allocations: tuple[tuple[str, int], ...] = ()
    cost: Money | None = None
    effects: Effects = _NO_EFFECTS
    answer: Answer | None = None


def encode_detail(entry: Entry) -> str:
    """The JSON of the parts of an entry that have no column."""
    detail: dict[str, Any] = {}
    if entry.usage:
        detail["u"] = entry.usage
    if entry.attributes:
        detail["a"] = entry.attributes
    if entry.metadata:
        detail["m"] = entry.metadata
    if entry.allocations:
        detail["l"] = entry.allocations
    if entry.cost is not None:
        detail["c"] = (entry.cost.currency, entry.cost.nanos)
    if entry.answer is not None:
        detail["w"] = _answer_values(entry.answer)
    effects = _encode_effects(entry.effects)
    if effects:
        detail["e"] = effects
    return orjson.dumps(detail).decode() if detail else _EMPTY


def decode_detail(text: str) -> Detail:
    """The reverse of `encode_detail`."""
    if text == _EMPTY:
        return Detail()
    detail = orjson.loads(text)
    cost = detail.get("c")
    answer = detail.get("w")
    effects = detail.get("e")
    return Detail(
        usage=detail.get("u") or {},
        attributes=detail.get("a") or {},
        metadata=detail.get("m") or {},
        allocations=tuple([(grant, micros) for grant, micros in detail.get("l", ())]),
        cost=None if cost is None else Money(*cost),
        effects=_NO_EFFECTS if effects is None else _decode_effects(effects),
        answer=None if answer is None else Answer(*answer),
    )


def decode_effects(text: str | None) -> Effects:
    """The effects alone, as their JSON has them; None when an entry has none."""
    return _NO_EFFECTS if text is None else _decode_effects(orjson.loads(text))


def _encode_effects(effects: Effects) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if effects.grants:
        document["g"] = [(change.grant_id, change.remaining) for change in effects.grants]
    if effects.counters:
        document["c"] = [(change.key, change.start, change.end, change.delta) for change in effects.counters]
    if effects.debt:
        document["d"] = effects.debt
    if effects.put is not None:
        document["p"] = grant_document(effects.put)
    if effects.activated:
        document["a"] = effects.activated
    if effects.ended:
        document["x"] = effects.ended
    if effects.filled_at:
        document["f"] = effects.filled_at
    if any(_hold_effects(effects)):
        _encode_hold_effects(effects, document)
    return document


def _encode_hold_effects(effects: Effects, document: dict[str, Any]) -> None:
    """What an entry does to a reservation."""
    hold = None if effects.hold is None else hold_document(effects.hold)
    counted = [(change.key, change.start, change.end, change.delta) for change in effects.counted]
    values = (hold, effects.closed, effects.held, effects.lapsed, effects.repaid, counted)
    document.update((name, value) for name, value in zip("hsvlrk", values, strict=True) if value)


def _decode_effects(document: dict[str, Any]) -> Effects:
    put = document.get("p")
    return Effects(
        grants=tuple([GrantChange(*change) for change in document.get("g", ())]),
        counters=tuple(starmap(CounterChange, document.get("c", ()))),
        debt=document.get("d", 0),
        put=None if put is None else _grant(put),
        activated=document.get("a", ""),
        ended=document.get("x", ""),
        filled_at=document.get("f", 0),
        hold=hold_of(document["h"]) if "h" in document else None,
        closed=document.get("s", ""),
        held=document.get("v", 0),
        lapsed=tuple([(grant, micros) for grant, micros in document.get("l", ())]),
        repaid=tuple([(grant, micros) for grant, micros in document.get("r", ())]),
        counted=tuple([CounterChange(*change) for change in document.get("k", ())]),
    )


def hold_document(hold: Hold) -> dict[str, Any]:
    """A hold as a JSON object, what is empty left out."""
    optional: dict[str, Any] = {
        "c": hold.credit,
        "f": hold.feature,
        "b": hold.subject,
        "p": [(part.grant_id, part.micros, part.lapsed) for part in hold.parts],
        "o": [(each.key, each.start, each.end, each.micros, each.carry_debt) for each in hold.overage],
        "n": [(each.key, each.start, each.end, each.applied, each.micros) for each in hold.charges],
        "u": dict(hold.usage),
        "a": dict(hold.attributes),
        "m": dict(hold.metadata),
    }
    return {
        "i": hold.id,
        "q": hold.sequence,
        "x": hold.expires_at,
        **{key: value for key, value in optional.items() if value},
    }


def hold_of(document: dict[str, Any]) -> Hold:
    """The reverse of `hold_document`."""
    return Hold(
        id=document["i"],
        sequence=document["q"],
        expires_at=document["x"],
        credit=document.get("c", ""),
        feature=document.get("f", ""),
        subject=document.get("b", ""),
        parts=tuple([HoldPart(*part) for part in document.get("p", ())]),
        overage=tuple([HoldOverage(*part) for part in document.get("o", ())]),
        charges=tuple([HoldCharge(*charge) for charge in document.get("n", ())]),
        usage=document.get("u") or {},
        attributes=document.get("a") or {},
        metadata=document.get("m") or {},
    )


def encode_grant(grant: Grant) -> str:
    """A grant as JSON."""
    return orjson.dumps(grant_document(grant)).decode()


def decode_grant(text: str) -> Grant:
    """The reverse of `encode_grant`."""
    return _grant(orjson.loads(text))


def grant_document(grant: Grant) -> dict[str, Any]:
    """A grant as a JSON object, what has its default left out."""
    price, recurrence = grant.price, grant.recurrence
    lasts = None if recurrence is None else recurrence.lasts
    optional: dict[str, Any] = {
        "x": grant.expires_at,
        "v": grant.voided_at,
        "r": None if recurrence is None else _encode_recurrence(recurrence),
        "w": None if lasts is None else (lasts.unit, lasts.count),
        "n": None if price is None else (price.currency, price.nanos),
        "m": grant.metadata or None,
        "s": grant.source or None,
        "l": grant.features or None,
        "o": grant.parent or None,
        "y": grant.ends_at,
        "u": grant.subscription or None,
        "q": grant.slot or None,
        "z": grant.until,
        "h": grant.shrinks_to or None,
        "b": grant.prorated or None,
    }
    return {
        "i": grant.id,
        "c": grant.credit,
        "a": grant.amount,
        "k": grant.category,
        "p": grant.priority,
        "f": grant.effective_at,
        "t": grant.created_at,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _grant(document: dict[str, Any]) -> Grant:
    recurrence = document.get("r")
    price = document.get("n")
    return Grant(
        id=document["i"],
        credit=document["c"],
        amount=document["a"],
        category=Category(document["k"]),
        priority=document["p"],
        effective_at=document["f"],
        created_at=document["t"],
        expires_at=document.get("x"),
        recurrence=None if recurrence is None else _recurrence(document.get("w"), *recurrence),
        voided_at=document.get("v"),
        price=None if price is None else Money(*price),
        metadata=document.get("m") or {},
        source=document.get("s", ""),
        features=tuple(document.get("l", ())),
        parent=document.get("o", ""),
        ends_at=document.get("y"),
        subscription=document.get("u", ""),
        slot=document.get("q", ""),
        until=document.get("z"),
        shrinks_to=document.get("h", 0),
        prorated=document.get("b", 0),
    )


def _encode_recurrence(recurrence: Recurrence) -> tuple[str | int, ...]:
    base = (recurrence.every.unit, recurrence.every.count, recurrence.anchor)
    rollover = recurrence.rollover
    if rollover is None:
        return base
    return (*base, rollover.max_micros, rollover.max_percent, rollover.max_periods)


def _recurrence(
    lasts: tuple[str, int] | None, unit: str, count: int, anchor: int, *rollover: int
) -> Recurrence:
    return Recurrence(
        Period(Unit(unit), count),
        anchor,
        Rollover(*rollover) if rollover else None,
        None if lasts is None else Period(Unit(lasts[0]), lasts[1]),
    )


def encode_state(state: AccountState) -> str:
    """A folded state as JSON, for a checkpoint."""
    return orjson.dumps(
        {
            "v": STATE_FORMAT,
            "q": state.sequence,
            "t": state.at,
            "g": [
                (grant_document(held.grant), held.remaining, held.active, held.filled_at)
                for held in state.grants.values()
            ],
            "d": dict(state.debts),
            "c": [(key, counter.start, counter.end, counter.used) for key, counter in state.counters.items()],
            "h": [hold_document(hold) for hold in state.holds.values()],
        }
    ).decode()


def decode_state(account: str, text: str) -> AccountState | None:
    """The reverse of `encode_state`; None when another release wrote it in another format."""
    document = orjson.loads(text)
    if document["v"] != STATE_FORMAT:
        return None
    grants = [GrantState(_grant(grant), *rest) for grant, *rest in document["g"]]
    return AccountState(
        account=account,
        sequence=document["q"],
        at=document["t"],
        grants={held.grant.id: held for held in grants},
        debts=document["d"],
        counters={key: Counter(start, end, used) for key, start, end, used in document["c"]},
        holds={hold.id: hold for hold in map(hold_of, document["h"])},
    )
