-- insert: nothing when the id is taken.
INSERT INTO test_clocks (id, "now") VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id;

-- get: a clock's time.
SELECT "now" FROM test_clocks WHERE id = $1;

-- advance: forwards only.
UPDATE test_clocks SET "now" = $2 WHERE id = $1 AND "now" <= $2 RETURNING "now";

-- delete: refused by the foreign key of the accounts that live on it.
DELETE FROM test_clocks WHERE id = $1 RETURNING id;
