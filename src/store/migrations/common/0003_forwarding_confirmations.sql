-- R34: the latest forwarding confirmation that Gmail asked of a user's sync or auto address.
CREATE TABLE forwarding_confirmations (
    account_id   UUID NOT NULL,
    user_id      UUID NOT NULL,
    code         TEXT,
    link         TEXT,
    at           BIGINT NOT NULL,
    PRIMARY KEY (account_id, user_id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, user_id)
);
