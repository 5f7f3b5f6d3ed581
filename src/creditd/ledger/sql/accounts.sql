-- raise_epoch: waits for the appends in flight and turns away every later one of the old epoch.
UPDATE account_heads
SET epoch = epoch + 1, nonce = $2
WHERE account = $1
RETURNING epoch, nonce;

-- epochs: the fences of some accounts.
SELECT account, epoch, nonce FROM account_heads WHERE account = ANY ($1::text[]);

-- insert_head: the fence of a new account.
INSERT INTO account_heads (account, epoch, nonce) VALUES ($1, 1, $2);

-- insert_account: nothing when the id is taken.
INSERT INTO accounts (
    id, created_at, policy_version, revision, suspended, archived, name, external_id, test_clock, labels
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
RETURNING id;

-- put_account: everything of an account but its subscriptions.
UPDATE accounts
SET created_at = $2, policy_version = $3, revision = $4, suspended = $5, archived = $6, name = $7,
    external_id = $8, test_clock = $9, labels = $10
WHERE id = $1;

-- get_account: one account with its subscriptions, in the order in which they started, and the newest catalog.
SELECT a.id, a.created_at, a.policy_version, a.revision, a.suspended, a.archived, a.name, a.external_id,
    a.test_clock, a.labels, (SELECT coalesce(max(version), 0) FROM catalogs) AS catalog_version,
    (
        SELECT jsonb_agg(to_jsonb(s) - 'account' ORDER BY s.started_at, s.id)
        FROM subscriptions AS s
        WHERE s.account = a.id
    ) AS subscriptions,
    (SELECT jsonb_agg(o.document ORDER BY o.key) FROM overrides AS o WHERE o.account = a.id) AS overrides,
    (SELECT jsonb_agg(b.document ORDER BY b.id) FROM budgets AS b WHERE b.account = a.id) AS budgets
FROM accounts AS a
WHERE a.id = $1;

-- list_accounts: by id, after an id; an empty prefix and empty labels filter nothing.
SELECT a.id, a.created_at, a.policy_version, a.revision, a.suspended, a.archived, a.name, a.external_id,
    a.test_clock, a.labels,
    (
        SELECT jsonb_agg(to_jsonb(s) - 'account' ORDER BY s.started_at, s.id)
        FROM subscriptions AS s
        WHERE s.account = a.id
    ) AS subscriptions,
    (SELECT jsonb_agg(o.document ORDER BY o.key) FROM overrides AS o WHERE o.account = a.id) AS overrides,
    (SELECT jsonb_agg(b.document ORDER BY b.id) FROM budgets AS b WHERE b.account = a.id) AS budgets
FROM accounts AS a
WHERE a.id > $1 AND starts_with(a.id, $3) AND a.labels @> $4::jsonb
ORDER BY a.id
LIMIT $2;

-- put_subscription: adds or replaces.
INSERT INTO subscriptions (
    account, id, started_at, anchor, cancel_at, plan_version, seats, plan, status, external_id, add_ons,
    trial_ends_at, pauses_after_trial, pending
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (account, id) DO UPDATE
SET started_at = excluded.started_at, anchor = excluded.anchor, cancel_at = excluded.cancel_at,
    plan_version = excluded.plan_version, seats = excluded.seats, plan = excluded.plan,
    status = excluded.status, external_id = excluded.external_id, add_ons = excluded.add_ons,
    trial_ends_at = excluded.trial_ends_at, pauses_after_trial = excluded.pauses_after_trial,
    pending = excluded.pending;

-- put_override: adds or replaces.
INSERT INTO overrides (account, key, document) VALUES ($1, $2, $3)
ON CONFLICT (account, key) DO UPDATE SET document = excluded.document;

-- delete_override: nothing when there is none.
DELETE FROM overrides WHERE account = $1 AND key = $2;

-- put_budget: adds or replaces.
INSERT INTO budgets (account, id, document) VALUES ($1, $2, $3)
ON CONFLICT (account, id) DO UPDATE SET document = excluded.document;

-- delete_budget: nothing when there is none.
DELETE FROM budgets WHERE account = $1 AND id = $2;

-- insert_grant: nothing when the id is taken.
INSERT INTO grants (account, id, created_at, fingerprint, document)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING id;

-- update_grant: the definition only.
UPDATE grants SET document = $3 WHERE account = $1 AND id = $2 RETURNING id;

-- get_grant: one grant of an account.
SELECT document, fingerprint FROM grants WHERE account = $1 AND id = $2;

-- list_grants: all grants of an account, oldest first.
SELECT document FROM grants WHERE account = $1 ORDER BY created_at, id;

-- add_redemption: nothing when the account has redeemed the promotion before.
INSERT INTO redemptions (promotion, account) VALUES ($1, $2)
ON CONFLICT DO NOTHING
RETURNING account;

-- count_redemption: one more of a promotion, unless it has its maximum (0 = none) already; the row's lock makes it exact.
INSERT INTO promotions AS p (key, redeemed) VALUES ($1, 1)
ON CONFLICT (key) DO UPDATE SET redeemed = p.redeemed + 1 WHERE $2::bigint = 0 OR p.redeemed < $2::bigint
RETURNING redeemed;

-- remove_redemption: an attempt that came too late.
DELETE FROM redemptions WHERE promotion = $1 AND account = $2;

-- keep_version: what decides for an account from an instant on.
INSERT INTO account_versions (account, revision, at, document) VALUES ($1, $2, $3, $4)
ON CONFLICT (account, revision) DO UPDATE SET at = excluded.at, document = excluded.document;

-- version_at: what decided for an account at an instant.
SELECT document FROM account_versions WHERE account = $1 AND at <= $2 ORDER BY revision DESC LIMIT 1;
