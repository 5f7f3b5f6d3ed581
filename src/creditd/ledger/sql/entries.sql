-- insert: entries under the account's head lock, in a transaction that has raised the epoch.
INSERT INTO entries ({entry})
SELECT *
FROM unnest(
        $1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
        $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bigint[],
        $15::bigint[], $16::text[], $17::text[], $18::text[], $19::text[], $20::jsonb[]
);

-- tail: what folding needs of the entries after a sequence, oldest first, at most so many.
SELECT sequence, id, at, credit, grant_id, detail -> 'e' AS effects
FROM entries
WHERE account = $1 AND sequence > $2
ORDER BY sequence
LIMIT $3;

-- by_keys: the entries of an account with given idempotency keys.
SELECT {entry}
FROM entries
WHERE account = $1 AND idempotency_key = ANY ($2::text[]);

-- burned: an entry that burned, by its id.
SELECT {entry}
FROM entries
WHERE account = $1 AND id = $2 AND kind IN ('CONSUME', 'COMMIT');

-- reversing: the entries that undo another one.
SELECT {entry}
FROM entries
WHERE account = $1 AND reverses = $2 AND reverses <> '';

-- listed: newest first, before a sequence; empty or null arguments filter nothing.
SELECT {entry}
FROM entries
WHERE account = $1
    AND ($2::bigint IS NULL OR sequence < $2)
    AND ($4::bigint IS NULL OR at >= $4)
    AND ($5::bigint IS NULL OR at < $5)
    AND (cardinality($6::text[]) = 0 OR kind = ANY ($6))
    AND ($7::text = '' OR feature = $7)
    AND ($8::text = '' OR subject = $8)
    AND ($9::text = '' OR credit = $9)
ORDER BY sequence DESC
LIMIT $3;

-- head_sequence: the last sequence of an account.
SELECT max(sequence) FROM entries WHERE account = $1;

-- checkpoint: the last checkpoint of an account.
SELECT state FROM checkpoints WHERE account = $1;

-- put_checkpoint: never over a later one.
INSERT INTO checkpoints AS c (account, sequence, at, state)
VALUES ($1, $2, $3, $4)
ON CONFLICT (account) DO UPDATE
SET sequence = excluded.sequence, at = excluded.at, state = excluded.state
WHERE c.sequence < excluded.sequence;
