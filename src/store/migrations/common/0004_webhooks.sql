-- Webhooks: events pushed to the CRM. The filing path writes nothing for them: each has a place in the account's
-- events (`passed`), and a row below only for what could not be delivered at once.
CREATE TABLE webhooks (
    account_id       UUID NOT NULL REFERENCES accounts (account_id),
    webhook_id       UUID NOT NULL,
    url              TEXT NOT NULL,
    events           TEXT NOT NULL,            -- JSON array of event types; ["*"] is all of them
    detail           TEXT NOT NULL CHECK (detail IN ('content', 'headers', 'meta')),
    state            TEXT NOT NULL CHECK (state IN ('on', 'off')),
    off_because      TEXT,
    secret_key       BYTEA NOT NULL,           -- the secret is sealed with the account's key
    secret           BYTEA NOT NULL,
    old_secret_key   BYTEA,                    -- the one before, while both are live
    old_secret       BYTEA,
    old_secret_until BIGINT,
    passed           UUID NOT NULL,            -- every event up to this one is delivered, not wanted, or below
    leased_by        UUID,                     -- the process that sends now
    leased_until     BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    PRIMARY KEY (account_id, webhook_id)
);

-- What a webhook could not be given at once: tried again at due_at, or given up.
CREATE TABLE webhook_deliveries (
    account_id      UUID NOT NULL,
    webhook_id      UUID NOT NULL,
    event_id        UUID NOT NULL,
    conversation_id UUID,
    state           TEXT NOT NULL CHECK (state IN ('dead', 'waiting')),
    failed          BIGINT NOT NULL,           -- attempts so far; 0 for what waits behind another of its conversation
    begun_at        BIGINT,                    -- the first attempt
    due_at          BIGINT NOT NULL,
    PRIMARY KEY (account_id, webhook_id, event_id),
    FOREIGN KEY (account_id, webhook_id) REFERENCES webhooks (account_id, webhook_id)
);
CREATE INDEX webhook_deliveries_by_due ON webhook_deliveries (account_id, webhook_id, state, due_at);
CREATE INDEX webhook_deliveries_by_conversation ON webhook_deliveries (account_id, webhook_id, conversation_id, event_id)
    WHERE conversation_id IS NOT NULL;

-- What each attempt came to; the newest are kept.
CREATE TABLE webhook_attempts (
    account_id   UUID NOT NULL,
    webhook_id   UUID NOT NULL,
    attempt_id   UUID NOT NULL,
    event_id     UUID NOT NULL,
    event_type   TEXT NOT NULL,
    at           BIGINT NOT NULL,
    outcome      TEXT NOT NULL CHECK (outcome IN ('dead', 'delivered', 'failed')),
    status       BIGINT,                       -- the HTTP status, if there was an answer
    error        TEXT,                         -- the class of what went wrong
    duration_ms  BIGINT NOT NULL,
    next_at      BIGINT,
    PRIMARY KEY (account_id, webhook_id, attempt_id),
    FOREIGN KEY (account_id, webhook_id) REFERENCES webhooks (account_id, webhook_id)
);
