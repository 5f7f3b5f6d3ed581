"""Bundles that were bought and promotions that are redeemed: each becomes a grant, once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from creditd.domain.accounts import Account
from creditd.domain.amounts import AMOUNT_MAX, INT64_MAX
from creditd.domain.catalog import Bundle, Catalog, Period, Promotion
from creditd.domain.entries import Entry
from creditd.domain.errors import FailedPrecondition, NotFound, OutOfRange
from creditd.domain.grants import Category, Grant, default_priority
from creditd.domain.near import did_you_mean
from creditd.domain.periods import add_periods
from creditd.domain.roll import give
from creditd.domain.state import AccountState
from creditd.engine.books import earlier_entry, write
from creditd.engine.catalogs import Catalogs
from creditd.engine.ids import NewId, fingerprint
from creditd.engine.load import Loader
from creditd.engine.subscriptions import must_fit
from creditd.ledger.redemptions import Redemption
from creditd.ledger.transaction import AccountTransaction


@dataclass(slots=True)
class OffersControl:
    """Use cases on bundles and promotions."""

    catalogs: Catalogs
    loader: Loader
    new_id: NewId

    async def purchase(
        self, account_id: str, bundle_key: str, *, quantity: int, metadata: dict[str, str], key: str
    ) -> Grant:
        """Grant the credits of a bundle that was bought, once for each idempotency key.

        Raises:
            NotFound: the account or the bundle does not exist.
            IdempotencyKeyReused: the key belongs to another request.
            OutOfRange: the balance would go beyond 9e15.
        """
        mark = fingerprint("bundle", bundle_key, quantity)
        async with self.loader.change(account_id) as (tx, now):
            earlier = await _earlier(tx, key, mark)
            if earlier is not None:
                return earlier
            bundle = await self._bundle(bundle_key, now)
            grant = replace(
                _bought(bundle, quantity, now),
                id=fingerprint("grant", account_id, key),
                metadata=metadata,
            )
            await self._give(tx, grant, now, key, mark)
            return grant

    async def redeem(self, account_id: str, promotion_key: str, *, code: str, key: str) -> Grant:
        """Grant the credits of a promotion, once for each account.

        Raises:
            NotFound: the account or the promotion does not exist, or no promotion has the code.
            IdempotencyKeyReused: the key belongs to another request.
            FailedPrecondition: PROMOTION_NOT_RUNNING, PROMOTION_USED_UP, PROMOTION_REDEEMED.
            OutOfRange: the balance would go beyond 9e15.
        """
        mark = fingerprint("promotion", promotion_key, code)
        async with self.loader.change(account_id) as (tx, now):
            earlier = await _earlier(tx, key, mark)
            if earlier is not None:
                return earlier
            promotion = await self._promotion(promotion_key, code, now)
            if not is_running(promotion, now):
                raise _refused(promotion, "PROMOTION_NOT_RUNNING", "is not running now")
            redemption = await tx.redeem(promotion.key, promotion.max_redemptions)
            if redemption is Redemption.BEFORE:
                raise _refused(promotion, "PROMOTION_REDEEMED", f"was redeemed by {account_id!r} already")
            if redemption is Redemption.USED_UP:
                raise _refused(promotion, "PROMOTION_USED_UP", "was redeemed as often as it may be")
            grant = promoted(promotion, account_id, now)
            await self._give(tx, grant, now, key, mark)
            return grant

    async def _give(self, tx: AccountTransaction, grant: Grant, now: int, key: str, mark: str) -> None:
        must_fit(tx.state, grant)
        await write(tx, give(tx.state, grant, now, self.new_id, idempotency_key=key, fingerprint=mark))

    async def _bundle(self, key: str, now: int) -> Bundle:
        index, _until = await self.catalogs.in_force(now)
        bundles = {bundle.key: bundle for bundle in index.catalog.bundles}
        if key not in bundles:
            hint = f"catalog version {index.version} is in force{did_you_mean(key, bundles)}"
            raise NotFound("bundle", key, hint=hint)
        return bundles[key]

    async def _promotion(self, key: str, code: str, now: int) -> Promotion:
        """The promotion with the key, the code, or both: a wrong code is as if there were no such promotion."""
        index, _until = await self.catalogs.in_force(now)
        for promotion in index.catalog.promotions:
            if (not key or promotion.key == key) and promotion.code == code and (key or code):
                return promotion
        hint = f"none in catalog version {index.version} has this key and code"
        raise NotFound("promotion", key or code, hint=hint)


def is_running(promotion: Promotion, now: int) -> bool:
    """Whether a promotion may be redeemed at `now`: from `starts_at`, inclusive, to `ends_at`, exclusive."""
    started = promotion.starts_at is None or promotion.starts_at <= now
    return started and (promotion.ends_at is None or now < promotion.ends_at)


def signup_promotions(catalog: Catalog, now: int) -> list[Promotion]:
    """The promotions that a new account gets."""
    return [item for item in catalog.promotions if item.on_signup and is_running(item, now)]


def signup_entries(
    account: Account, promotion: Promotion, state: AccountState, *, new_id: NewId
) -> list[Entry]:
    """The entries that grant a promotion to a new account."""
    now = account.created_at
    return give(state, promoted(promotion, account.id, now), now, new_id)


def promoted(promotion: Promotion, account_id: str, now: int) -> Grant:
    """The grant of a promotion; its id is the same whenever the account redeems it."""
    return Grant(
        id=fingerprint("promotion", account_id, promotion.key),
        credit=promotion.credit,
        amount=promotion.amount_micros,
        category=Category.PROMOTION,
        priority=promotion.priority or default_priority(Category.PROMOTION),
        effective_at=now,
        created_at=now,
        expires_at=_expiry(promotion.expires_after, now),
        source=f"promotion/{promotion.key}",
    )


def _bought(bundle: Bundle, quantity: int, now: int) -> Grant:
    amount = bundle.amount_micros * quantity
    price = bundle.price
    if price is not None:
        price = replace(price, nanos=price.nanos * quantity)
    if amount > AMOUNT_MAX or (price is not None and price.nanos > INT64_MAX):
        raise OutOfRange(
            f"{quantity} times bundle {bundle.key!r} is beyond what a grant can hold",
            reason="AMOUNT_OUT_OF_RANGE",
            metadata={"bundle": bundle.key},
        )
    return Grant(
        id="",
        credit=bundle.credit,
        amount=amount,
        category=Category.PURCHASE,
        priority=default_priority(Category.PURCHASE),
        effective_at=now,
        created_at=now,
        expires_at=_expiry(bundle.expires_after, now),
        price=price,
        source=f"bundle/{bundle.key}",
    )


def _expiry(after: Period | None, now: int) -> int | None:
    return None if after is None else add_periods(now, after, 1)


async def _earlier(tx: AccountTransaction, key: str, mark: str) -> Grant | None:
    """The grant that an earlier request under the same key has made."""
    entry = await earlier_entry(tx, key, mark)
    if entry is None:
        return None
    found = await tx.get_grant(entry.grant_id)
    return None if found is None else found[0]


def _refused(promotion: Promotion, reason: str, problem: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"promotion {promotion.key!r} {problem}", reason=reason, metadata={"promotion": promotion.key}
    )
