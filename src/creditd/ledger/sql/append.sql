-- The appends of the write protocol. Both hold these up:
--
-- * The share lock is what a load waits for, and is held until the commit. A row that a load holds is skipped,
--   not waited for: that load is about to turn the entry away, and waiting would hold up the whole flight for one
--   account. When a lock had to be waited for or the row was changed since the statement began, the CTE gives the
--   row as it is now, so that the join below compares the epoch in force.
-- * MATERIALIZED, and the epoch compared outside: the comparison must come after the lock.
-- * A subquery for each dependence, not EXISTS in a join: always one look into the primary key, never a scan.
-- * In the order of the key, so that two flights with the same entries (a redo) can't wait for each other.

-- append: independent entries of any accounts; those that conflict or are fenced are left out.
WITH heads AS MATERIALIZED (
    SELECT h.account, h.epoch, h.nonce
    FROM account_heads AS h
    WHERE h.account = ANY ($1::text[])
    FOR SHARE SKIP LOCKED
)
INSERT INTO entries ({entry})
SELECT i.account, i.sequence, i.id, i.kind, i.at, i.credit, i.amount, i.balance_after, i.feature,
    i.subject, i.idempotency_key, i.fingerprint, i.overage, i.occurred_at, i.catalog_version,
    i.grant_id, i.reservation_id, i.reverses, i.note, i.detail
FROM unnest(
        $1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
        $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bigint[],
        $15::bigint[], $16::text[], $17::text[], $18::text[], $19::text[], $20::jsonb[], $21::bigint[],
        $22::bigint[], $23::bigint[], $24::bigint[]
) AS i (account, sequence, id, kind, at, credit, amount, balance_after, feature, subject, idempotency_key,
    fingerprint, overage, occurred_at, catalog_version, grant_id, reservation_id, reverses, note,
    detail, epoch, nonce, depends, settles)
JOIN heads AS h ON h.account = i.account AND h.epoch = i.epoch AND h.nonce = i.nonce
WHERE CASE i.depends
    WHEN 0 THEN true
    ELSE (
        SELECT d.note <> 'tombstone' OR d.kind <> 'ADJUST'
        FROM entries AS d
        WHERE d.account = i.account AND d.sequence = i.depends
    )
END
AND CASE i.settles
    WHEN 0 THEN true
    ELSE (
        SELECT d.note <> 'tombstone' OR d.kind <> 'ADJUST'
        FROM entries AS d
        WHERE d.account = i.account AND d.sequence = i.settles
    )
END
ORDER BY i.account COLLATE "C", i.sequence
ON CONFLICT DO NOTHING;

-- append_group: the entries of one unit, all or none: a conflict is an error, and the fence holds for all alike.
WITH heads AS MATERIALIZED (
    SELECT h.account, h.epoch, h.nonce
    FROM account_heads AS h
    WHERE h.account = ANY ($1::text[])
    FOR SHARE SKIP LOCKED
)
INSERT INTO entries ({entry})
SELECT i.account, i.sequence, i.id, i.kind, i.at, i.credit, i.amount, i.balance_after, i.feature,
    i.subject, i.idempotency_key, i.fingerprint, i.overage, i.occurred_at, i.catalog_version,
    i.grant_id, i.reservation_id, i.reverses, i.note, i.detail
FROM unnest(
        $1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
        $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bigint[],
        $15::bigint[], $16::text[], $17::text[], $18::text[], $19::text[], $20::jsonb[], $21::bigint[],
        $22::bigint[], $23::bigint[], $24::bigint[]
) AS i (account, sequence, id, kind, at, credit, amount, balance_after, feature, subject, idempotency_key,
    fingerprint, overage, occurred_at, catalog_version, grant_id, reservation_id, reverses, note,
    detail, epoch, nonce, depends, settles)
JOIN heads AS h ON h.account = i.account AND h.epoch = i.epoch AND h.nonce = i.nonce
WHERE CASE i.depends
    WHEN 0 THEN true
    ELSE (
        SELECT d.note <> 'tombstone' OR d.kind <> 'ADJUST'
        FROM entries AS d
        WHERE d.account = i.account AND d.sequence = i.depends
    )
END
AND CASE i.settles
    WHEN 0 THEN true
    ELSE (
        SELECT d.note <> 'tombstone' OR d.kind <> 'ADJUST'
        FROM entries AS d
        WHERE d.account = i.account AND d.sequence = i.settles
    )
END
ORDER BY i.account COLLATE "C", i.sequence;

-- found_at: the ids at given places of the ledger.
SELECT e.account, e.sequence, e.id
FROM unnest($1::text[], $2::bigint[]) AS p (account, sequence)
JOIN entries AS e ON e.account = p.account AND e.sequence = p.sequence;

-- found_by_key: the entries with given idempotency keys.
SELECT e.account, e.sequence, e.id, e.kind, e.at, e.credit, e.amount, e.balance_after, e.feature, e.subject, e.idempotency_key, e.fingerprint, e.overage, e.occurred_at, e.catalog_version, e.grant_id, e.reservation_id, e.reverses, e.note, e.detail
FROM unnest($1::text[], $2::text[]) AS p (account, idempotency_key)
JOIN entries AS e ON e.account = p.account AND e.idempotency_key = p.idempotency_key;
