-- lock: makes those who apply a catalog take turns until they commit.
SELECT pg_advisory_xact_lock($1);

-- latest_version: 0 before the first catalog.
SELECT coalesce(max(version), 0) FROM catalogs;

-- insert: a new version.
INSERT INTO catalogs (version, effective_at, created_at, note, document) VALUES ($1, $2, $3, $4, $5);

-- insert_plans: new versions of plans; those that are there are left as they are.
INSERT INTO plan_versions (key, version, document)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::jsonb[])
ON CONFLICT DO NOTHING
RETURNING key;

-- notify: tells every replica, when the transaction commits.
SELECT pg_notify('creditd_catalog', $1);

-- timeline: every version and when it takes effect.
SELECT version, effective_at FROM catalogs ORDER BY version;

-- get: one version.
SELECT version, effective_at, created_at, note, document FROM catalogs WHERE version = $1;

-- listed: versions before one, newest first.
SELECT version, effective_at, created_at, note, document
FROM catalogs
WHERE $1::bigint IS NULL OR version < $1
ORDER BY version DESC
LIMIT $2;

-- get_plan: one version of a plan.
SELECT document FROM plan_versions WHERE key = $1 AND version = $2;

-- latest_plans: the highest version of every plan.
SELECT DISTINCT ON (key) key, document FROM plan_versions ORDER BY key, version DESC;

-- plans_in_use: the plan versions that somebody subscribes to.
SELECT DISTINCT plan, plan_version FROM subscriptions WHERE status <> 'CANCELED';

-- subscribers: how many accounts subscribe to any of some plan versions.
SELECT count(DISTINCT s.account)
FROM subscriptions AS s
JOIN unnest($1::text[], $2::bigint[]) AS p (plan, version) ON p.plan = s.plan AND p.version = s.plan_version
WHERE s.status <> 'CANCELED';

-- add_on_users: how many accounts have an add-on.
SELECT count(DISTINCT s.account)
FROM subscriptions AS s
WHERE s.status <> 'CANCELED'
    AND EXISTS (SELECT 1 FROM jsonb_array_elements(s.add_ons) AS a WHERE a ->> 0 = $1);

-- all_accounts: how many accounts there are that are in use.
SELECT count(*) FROM accounts WHERE NOT archived;
