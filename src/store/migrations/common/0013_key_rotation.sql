-- An account has one key that seals; keys before it open until no content key is wrapped by them any more.
ALTER TABLE accounts ADD COLUMN key_number BIGINT NOT NULL DEFAULT 1;  -- of wrapped_key; it only grows
ALTER TABLE accounts ADD COLUMN key_floor BIGINT NOT NULL DEFAULT 1;   -- nothing is filed that a key below it sealed

CREATE TABLE retired_account_keys (
    account_id   UUID NOT NULL REFERENCES accounts (account_id),
    key_number   BIGINT NOT NULL,
    wrapped_key  BYTEA NOT NULL,              -- sealed with a master key, as the account's
    retired_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, key_number)
);
