-- What a subscription comes to by itself, and what an account has besides its plans.

ALTER TABLE subscriptions
    ADD COLUMN add_ons jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN trial_ends_at bigint,
    ADD COLUMN pauses_after_trial boolean NOT NULL DEFAULT false,
    ADD COLUMN pending jsonb;

-- What one account gets instead of its plans; `key` is feature/<key> or credit/<key>.
CREATE TABLE overrides (
    account  text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (account, key)
);

CREATE TABLE budgets (
    account  text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (account, id)
);

-- How often each promotion was redeemed, counted under the row's lock so that its maximum holds exactly; and by whom.
CREATE TABLE promotions (
    key      text COLLATE "C" PRIMARY KEY,
    redeemed bigint NOT NULL
);

CREATE TABLE redemptions (
    promotion text COLLATE "C" NOT NULL,
    account   text COLLATE "C" NOT NULL,
    PRIMARY KEY (promotion, account)
);

-- What decided for an account over time: every version of it, from `at` on. Only read for the past.
CREATE TABLE account_versions (
    account  text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    at       bigint NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (account, revision)
);
