-- What is to be sent through the smarthost: copies of routed mail (R46, R49), digests of held mail, confirmations of
-- addresses (R12). Written with what gives rise to it. Nothing of the content: it is read from the store when sent.
-- The job of a copy has the id of its message, so that one message goes on once.
CREATE TABLE relay_jobs (
    account_id      UUID NOT NULL,
    job_id          UUID NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('confirmation', 'contact', 'digest', 'staff')),
    conversation_id UUID,                     -- of a copy
    user_id         UUID,                     -- whose mail it is, or whom it is for
    email_key       TEXT,                     -- of a confirmation: the address
    state           TEXT NOT NULL CHECK (state IN ('cancelled', 'failed', 'sending', 'sent', 'waiting')),
    attempts        BIGINT NOT NULL,
    next_at         BIGINT NOT NULL,          -- while sending: when the lease ends
    created_at      BIGINT NOT NULL,
    settled_at      BIGINT,
    last_reply      TEXT,                     -- what the smarthost said last
    PRIMARY KEY (account_id, job_id)
);
CREATE INDEX relay_jobs_due ON relay_jobs (next_at) WHERE state IN ('sending', 'waiting');
CREATE INDEX relay_jobs_by_conversation ON relay_jobs (account_id, conversation_id, created_at) WHERE conversation_id IS NOT NULL;

-- One digest a user and UTC day at most, and none without news.
CREATE TABLE relay_digests (
    account_id   UUID NOT NULL,
    user_id      UUID NOT NULL,
    day          BIGINT NOT NULL,             -- days since 1970-01-01
    at           BIGINT NOT NULL,             -- held mail up to here was told of
    PRIMARY KEY (account_id, user_id, day)
);

-- R12: a confirmation mail's link. The token is derived from the id with a key: nothing secret is stored.
CREATE TABLE email_confirmations (
    account_id      UUID NOT NULL,
    confirmation_id UUID NOT NULL,            -- the job that carries the link
    user_id         UUID NOT NULL,
    email_key       TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    used_at         BIGINT,
    PRIMARY KEY (account_id, confirmation_id)
);
CREATE INDEX email_confirmations_by_address ON email_confirmations (account_id, user_id, email_key, created_at);
CREATE INDEX email_confirmations_by_id ON email_confirmations (confirmation_id);  -- a link names no account
