"""The Accounts service."""

from __future__ import annotations

from creditd.engine.control_types import UsageReset
from creditd.engine.engine import Engine
from creditd.rpc import codec, codec_accounts, codec_exceptions
from creditd.rpc.calls import answered, not_served
from creditd.rpc.checks import TEXT_BYTES_MAX, Checks, page_token
from creditd.rpc.meters import CallMeters
from creditd.v1 import accounts_pb2 as pb
from creditd.v1 import accounts_pb2_grpc as pb_grpc
from creditd.v1 import grants_pb2


class AccountsServicer(pb_grpc.AccountsServicer):
    """Thin: validate, decode, ask the engine, encode."""

    def __init__(self, engine: Engine, *, timeout_s: float, meters: CallMeters) -> None:
        self._engine = engine
        self.timeout_s = timeout_s
        self.meters = meters

    @answered
    async def PutAccount(self, request: pb.PutAccountRequest) -> pb.Account:
        """Create or update."""
        checks = Checks()
        account, etag = codec_accounts.read_account(request, checks)
        checks.done()
        return codec_accounts.account_to_proto(await self._engine.put_account(account, etag=etag))

    @answered
    async def GetAccount(self, request: pb.GetAccountRequest) -> pb.Account:
        """One account."""
        checks = Checks()
        checks.identifier("id", request.id)
        checks.done()
        return codec_accounts.account_to_proto(await self._engine.get_account(request.id))

    @answered
    async def ListAccounts(self, request: pb.ListAccountsRequest) -> pb.ListAccountsResponse:
        """Accounts by id."""
        checks = Checks()
        limit = checks.page_size(request.page_size)
        after = checks.page_token(request.page_token)
        checks.identifier("filter", request.filter, required=False)
        checks.identifier("page_token", after, required=False)
        checks.done()
        accounts = await self._engine.list_accounts(limit=limit, after=after, filter=request.filter)
        return pb.ListAccountsResponse(
            accounts=[codec_accounts.account_to_proto(account) for account in accounts],
            next_page_token=page_token(accounts[-1].id) if len(accounts) == limit else "",
        )

    @answered
    async def PutSubscription(self, request: pb.PutSubscriptionRequest) -> pb.PutSubscriptionResponse:
        """Subscribe, or change a subscription."""
        checks = Checks()
        change = codec_accounts.read_subscription(request, checks)
        result = await self._engine.put_subscription(change)
        period = (result.period_start, result.period_end)
        return pb.PutSubscriptionResponse(
            subscription=codec_accounts.subscription_to_proto(result.subscription, period),
            granted=[codec_accounts.grant_to_proto(grant, change.account) for grant in result.granted],
            voided=[codec_accounts.grant_to_proto(grant, change.account) for grant in result.voided],
            balances=[
                codec.balance_to_proto(item.credit, item.balances, item.overage_used)
                for item in result.balances
            ],
        )

    @answered
    async def CreateGrant(self, request: pb.CreateGrantRequest) -> grants_pb2.Grant:
        """Give credits once."""
        checks = Checks()
        draft = codec_accounts.read_grant(request, checks)
        grant = await self._engine.create_grant(draft, idempotency_key=request.idempotency_key)
        return codec_accounts.grant_to_proto(grant, draft.account)

    @answered
    async def VoidGrant(self, request: pb.VoidGrantRequest) -> grants_pb2.Grant:
        """Take what is left of a grant away."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("id", request.id)
        checks.text("reason", request.reason)
        checks.done()
        grant = await self._engine.void_grant(request.account, request.id, reason=request.reason)
        return codec_accounts.grant_to_proto(grant, request.account)

    @answered
    async def ListGrants(self, request: pb.ListGrantsRequest) -> pb.ListGrantsResponse:
        """Grants with what is left of them."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("credit", request.credit, required=False)
        limit = checks.page_size(request.page_size)
        after = checks.page_token(request.page_token)
        checks.done()
        grants = await self._engine.list_grants(
            request.account,
            credit=request.credit,
            include_inactive=request.include_inactive,
            limit=limit,
            after=after,
        )
        return pb.ListGrantsResponse(
            grants=[codec.grant_balance_to_proto(item, request.account) for item in grants],
            next_page_token=page_token(grants[-1].grant.id) if len(grants) == limit else "",
        )

    @answered
    async def PutOverride(self, request: pb.PutOverrideRequest) -> pb.Override:
        """Create or replace what the account gets instead of its plans."""
        override = codec_exceptions.read_override(request, Checks())
        account = request.override.account
        return codec_exceptions.override_to_proto(account, await self._engine.put_override(account, override))

    @answered
    async def DeleteOverride(self, request: pb.DeleteOverrideRequest) -> pb.DeleteOverrideResponse:
        """Remove the override of a feature or a credit."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("feature", request.feature, required=False)
        checks.identifier("credit", request.credit, required=False)
        if bool(request.feature) == bool(request.credit):
            checks.add("feature", "or `credit` must be set, and not both")
        checks.done()
        await self._engine.delete_override(request.account, feature=request.feature, credit=request.credit)
        return pb.DeleteOverrideResponse()

    @answered
    async def PutBudget(self, request: pb.PutBudgetRequest) -> pb.Budget:
        """Create or replace a budget."""
        budget = codec_exceptions.read_budget(request, Checks())
        account = request.budget.account
        return codec_exceptions.budget_to_proto(account, await self._engine.put_budget(account, budget))

    @answered
    async def DeleteBudget(self, request: pb.DeleteBudgetRequest) -> pb.DeleteBudgetResponse:
        """Remove a budget."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("id", request.id)
        checks.done()
        await self._engine.delete_budget(request.account, request.id)
        return pb.DeleteBudgetResponse()

    @answered
    async def GetEntitlements(self, request: pb.GetEntitlementsRequest) -> pb.GetEntitlementsResponse:
        """Everything that the account gets, resolved."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("subject", request.subject, required=False)
        at = checks.instant("at", request, "at")
        checks.done()
        view = await self._engine.get_entitlements(request.account, at=at)
        return codec_exceptions.entitlements_response(view)

    @answered
    async def ArchiveAccount(self, request: pb.ArchiveAccountRequest) -> pb.Account:
        """Take an account out of use."""
        checks = Checks()
        checks.identifier("id", request.id)
        checks.done()
        return codec_accounts.account_to_proto(await self._engine.archive_account(request.id))

    @answered
    async def PurchaseBundle(self, request: pb.PurchaseBundleRequest) -> grants_pb2.Grant:
        """Grant the credits of a bundle that was bought."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("bundle", request.bundle)
        checks.identifier("idempotency_key", request.idempotency_key)
        checks.texts("metadata", request.metadata, TEXT_BYTES_MAX)
        checks.number("quantity", request.quantity)
        checks.done()
        grant = await self._engine.purchase_bundle(
            request.account,
            request.bundle,
            quantity=request.quantity or 1,
            metadata=dict(request.metadata),
            idempotency_key=request.idempotency_key,
        )
        return codec_accounts.grant_to_proto(grant, request.account)

    @answered
    async def RedeemPromotion(self, request: pb.RedeemPromotionRequest) -> grants_pb2.Grant:
        """Grant the credits of a promotion."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("promotion", request.promotion, required=not request.code)
        checks.identifier("code", request.code, required=False)
        checks.identifier("idempotency_key", request.idempotency_key)
        checks.done()
        grant = await self._engine.redeem_promotion(
            request.account,
            request.promotion,
            code=request.code,
            idempotency_key=request.idempotency_key,
        )
        return codec_accounts.grant_to_proto(grant, request.account)

    @answered
    async def ResetUsage(self, request: pb.ResetUsageRequest) -> pb.ResetUsageResponse:
        """Set limits back to zero and fill recurring grants now."""
        checks = Checks()
        checks.identifier("account", request.account)
        checks.identifier("feature", request.feature, required=False)
        checks.identifier("credit", request.credit, required=False)
        checks.identifier("idempotency_key", request.idempotency_key, required=False)
        checks.text("reason", request.reason)
        checks.done()
        result = await self._engine.reset_usage(
            UsageReset(
                request.account,
                request.feature,
                request.credit,
                request.move_anchor,
                request.idempotency_key,
                request.reason,
            )
        )
        return pb.ResetUsageResponse(
            balances=[
                codec.balance_to_proto(item.credit, item.balances, item.overage_used)
                for item in result.balances
            ],
            limits=[codec.limit_to_proto(limit) for limit in result.limits],
        )

    PutAutoTopUp = not_served("Accounts.PutAutoTopUp")
