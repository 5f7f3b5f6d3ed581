-- The ledger. Instants are milliseconds since the Unix epoch, amounts micro-credits, ids opaque text.
-- Text that is compared is COLLATE "C": faster, and the same order on every host.

-- The fence of the write protocol: appends share-lock the row of their epoch, a load raises it.
CREATE TABLE account_heads (
    account text COLLATE "C" PRIMARY KEY,
    epoch   bigint NOT NULL,
    nonce   bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE test_clocks (
    id    text COLLATE "C" PRIMARY KEY,
    "now" bigint NOT NULL
);

CREATE TABLE accounts (
    id             text COLLATE "C" PRIMARY KEY,
    created_at     bigint NOT NULL,
    policy_version bigint NOT NULL,
    revision       bigint NOT NULL,
    suspended      boolean NOT NULL,
    archived       boolean NOT NULL,
    name           text NOT NULL,
    external_id    text NOT NULL,
    test_clock     text COLLATE "C" REFERENCES test_clocks,
    labels         jsonb NOT NULL
);
CREATE INDEX accounts_labels ON accounts USING gin (labels jsonb_path_ops);
CREATE INDEX accounts_test_clock ON accounts (test_clock) WHERE test_clock IS NOT NULL;

CREATE TABLE subscriptions (
    account      text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    started_at   bigint NOT NULL,
    anchor       bigint NOT NULL,
    cancel_at    bigint,
    plan_version bigint NOT NULL,
    seats        bigint NOT NULL,
    plan         text NOT NULL,
    status       text NOT NULL,
    external_id  text NOT NULL,
    PRIMARY KEY (account, id)
);

-- Every grant ever made, ended ones too. What is left of each is in the entries.
CREATE TABLE grants (
    account     text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    created_at  bigint NOT NULL,
    fingerprint text NOT NULL,
    document    jsonb NOT NULL,
    PRIMARY KEY (account, id)
);

-- The truth: one row per change of an account, never changed afterwards.
CREATE TABLE entries (
    sequence        bigint NOT NULL CHECK (sequence > 0),
    at              bigint NOT NULL,
    amount          bigint NOT NULL,
    balance_after   bigint NOT NULL,
    overage         bigint NOT NULL,
    catalog_version bigint NOT NULL,
    occurred_at     bigint,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    account         text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL,
    kind            text COLLATE "C" NOT NULL,
    credit          text COLLATE "C" NOT NULL,
    feature         text COLLATE "C" NOT NULL,
    subject         text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C",
    fingerprint     text NOT NULL,
    grant_id        text COLLATE "C" NOT NULL,
    reservation_id  text COLLATE "C" NOT NULL,
    reverses        text COLLATE "C" NOT NULL,
    note            text COLLATE "C" NOT NULL,
    detail          jsonb NOT NULL,
    PRIMARY KEY (account, sequence)
) PARTITION BY HASH (account);

CREATE UNIQUE INDEX entries_idempotency_key ON entries (account, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE entries_00 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 0);
CREATE TABLE entries_01 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 1);
CREATE TABLE entries_02 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 2);
CREATE TABLE entries_03 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 3);
CREATE TABLE entries_04 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 4);
CREATE TABLE entries_05 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 5);
CREATE TABLE entries_06 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 6);
CREATE TABLE entries_07 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 7);
CREATE TABLE entries_08 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 8);
CREATE TABLE entries_09 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 9);
CREATE TABLE entries_10 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 10);
CREATE TABLE entries_11 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 11);
CREATE TABLE entries_12 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 12);
CREATE TABLE entries_13 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 13);
CREATE TABLE entries_14 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 14);
CREATE TABLE entries_15 PARTITION OF entries FOR VALUES WITH (MODULUS 16, REMAINDER 15);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;

-- For each row, not each statement: only row triggers are passed on to the partitions. Inserts don't pay for it.
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entries_no_truncate BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The folded state of an account at a sequence, so that a load reads only the entries after it. A cache.
CREATE TABLE checkpoints (
    account  text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL,
    at       bigint NOT NULL,
    state    jsonb NOT NULL
);

CREATE TABLE catalogs (
    version      bigint PRIMARY KEY,
    effective_at bigint NOT NULL,
    created_at   bigint NOT NULL,
    note         text NOT NULL,
    document     jsonb NOT NULL
);

CREATE TABLE plan_versions (
    key      text COLLATE "C" NOT NULL,
    version  bigint NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (key, version)
);
