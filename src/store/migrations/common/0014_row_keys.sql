-- Where `store.seal_rows` is on: the key of an account's rows, wrapped by the account's key. The operator's row tells
-- the state of the store: without one its rows are clear; sealed_at NULL is a change that is under way.
CREATE TABLE row_keys (
    account_id   UUID PRIMARY KEY NOT NULL REFERENCES accounts (account_id),
    wrapped      BYTEA NOT NULL,
    sealed_at    BIGINT
);
