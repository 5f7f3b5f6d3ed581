"""Heads of entries: what lies in an outbox is understood by another process, also by one of a later release."""

from __future__ import annotations

import msgpack

from creditd.domain.catalog import FeatureType
from creditd.domain.decide import Charge, Draw, Mode, OverageRoom, TierCount
from creditd.engine.heads import Head

CHARGES = (Charge("l:chat:1day", 5, 9, 10), Charge("b:team:1month:red", 0, 9, 8, micros=True))
DRAW = Draw(
    "chat",
    Mode.PARTIAL,
    "credits",
    amount=7,
    overage=OverageRoom("o:credits", 1, 2, 3, carry_debt=True),
    units=4,
    charges=CHARGES,
    tiers=(TierCount("t", 1, 2, 3, 4, 5),),
)
HEAD = Head(
    "id",
    "acme",
    DRAW,
    FeatureType.CREDIT,
    "ann",
    "key",
    "f" * 32,
    {"tokens": 4},
    {"model": "m"},
    {"team": "red"},
    99,
    3,
    None,
)


def test_a_head_is_read_as_it_was_packed():
    assert Head.unpack(HEAD.pack()) == HEAD


def test_a_head_of_an_earlier_release_is_read():
    """There each charge said its units."""
    fields, charges = msgpack.unpackb(HEAD.pack(), strict_map_key=False)
    *draw, units = fields[12]
    said = [
        [key, start, end, cap, 0 if micros else units, soft, micros]
        for key, start, end, cap, soft, micros in charges
    ]
    earlier = [*fields[:12], draw, fields[13], said, fields[14], fields[15]]

    assert Head.unpack(msgpack.packb(earlier)) == HEAD
    assert Head.unpack(msgpack.packb(earlier[:15])).draw.charges == CHARGES
