-- R64: who read, changed, exported or erased what, when. Rows are only ever added: ids, never content or addresses.
-- Each hash is SHA-256 over the hash of the row before and the row itself.
CREATE TABLE audit (
    account_id   UUID NOT NULL,
    seq          BIGINT NOT NULL,              -- from 1, without gaps
    at           BIGINT NOT NULL,
    actor        TEXT NOT NULL,                -- token:<id>, operator or system
    action       TEXT NOT NULL,
    object       TEXT NOT NULL,                -- a path below the account
    detail       TEXT,                         -- JSON: ids and counts
    hash         BYTEA NOT NULL,
    PRIMARY KEY (account_id, seq)
);

-- The last row of each chain: a chain that was cut off at its end does not reach it.
CREATE TABLE audit_heads (
    account_id   UUID PRIMARY KEY NOT NULL,
    seq          BIGINT NOT NULL,
    hash         BYTEA NOT NULL
);
