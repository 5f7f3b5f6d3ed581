"""Redemptions of promotions: once for each account, and never more than the maximum in all."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from creditd.ledger.connection import Connection
from creditd.ledger.queries import load

_SQL: Final = load("accounts")


class Redemption(Enum):
    """What became of an attempt to redeem a promotion."""

    DONE = auto()
    BEFORE = auto()  # the account has redeemed it already
    USED_UP = auto()  # it was redeemed as often as it may be


async def redeem(connection: Connection, promotion: str, account: str, maximum: int) -> Redemption:
    """Redeem a promotion for an account in the connection's transaction; `maximum` 0 = any number.

    Counts under a row's lock: those who redeem the same promotion at once wait for each other's commit.
    """
    if await connection.fetchval(_SQL["add_redemption"], promotion, account) is None:
        return Redemption.BEFORE
    if await connection.fetchval(_SQL["count_redemption"], promotion, maximum) is None:
        await connection.execute(_SQL["remove_redemption"], promotion, account)
        return Redemption.USED_UP
    return Redemption.DONE
