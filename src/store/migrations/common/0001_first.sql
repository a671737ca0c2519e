-- The first schema. Every key begins with account_id, so that an account is one shard (R4). Ids are UUIDv7, times
-- BIGINT Unix milliseconds UTC, structured values JSON in TEXT. One text for both engines: BYTEA and UUID are
-- plain type names to SQLite. Addresses are indexed by their folded form (all lower case).

CREATE TABLE accounts (
    account_id   UUID PRIMARY KEY NOT NULL,
    name         TEXT NOT NULL,
    settings     TEXT NOT NULL,               -- the settings that differ from the defaults, JSON object
    wrapped_key  BYTEA NOT NULL,              -- the account's key, sealed with the master key
    created_at   BIGINT NOT NULL
);

CREATE TABLE users (
    account_id   UUID NOT NULL REFERENCES accounts (account_id),
    user_id      UUID NOT NULL,
    name         TEXT NOT NULL,
    role         TEXT NOT NULL,
    sync_state   TEXT NOT NULL CHECK (sync_state IN ('on', 'off')),
    sync_local   TEXT NOT NULL,               -- local part of the active sync address
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, user_id)
);

-- Every sync address there ever was: a rotated one answers 550 5.2.1, not 5.1.1.
CREATE TABLE sync_addresses (
    account_id   UUID NOT NULL,
    local_part   TEXT NOT NULL,               -- lower case, without +auto
    user_id      UUID NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('active', 'retired')),
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, local_part),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, user_id)
);
CREATE INDEX sync_addresses_by_local_part ON sync_addresses (local_part);

CREATE TABLE user_emails (
    account_id   UUID NOT NULL,
    email_key    TEXT NOT NULL,
    user_id      UUID NOT NULL,
    address      TEXT NOT NULL,
    verified_at  BIGINT,
    PRIMARY KEY (account_id, email_key),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, user_id)
);
CREATE INDEX user_emails_by_user ON user_emails (account_id, user_id);

CREATE TABLE contacts (
    account_id   UUID NOT NULL REFERENCES accounts (account_id),
    contact_id   UUID NOT NULL,
    name         TEXT NOT NULL,
    name_key     TEXT NOT NULL,               -- folded for search
    email        TEXT NOT NULL,
    email_key    TEXT NOT NULL,
    other_emails TEXT NOT NULL,               -- JSON array
    external_id  TEXT,
    created_by   TEXT NOT NULL CHECK (created_by IN ('api', 'import', 'sync')),
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, contact_id)
);
CREATE INDEX contacts_by_email ON contacts (account_id, email_key, created_at, contact_id);
CREATE INDEX contacts_by_external_id ON contacts (account_id, external_id) WHERE external_id IS NOT NULL;

CREATE TABLE sync_marks (
    account_id   UUID NOT NULL,
    contact_id   UUID NOT NULL,
    user_id      UUID NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('on', 'off')),
    since        BIGINT NOT NULL,
    because      TEXT NOT NULL,               -- 'api', or the message that set it
    last_mail_at BIGINT,
    PRIMARY KEY (account_id, contact_id, user_id),
    FOREIGN KEY (account_id, contact_id) REFERENCES contacts (account_id, contact_id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, user_id)
);
CREATE INDEX sync_marks_by_user ON sync_marks (account_id, user_id, since);

CREATE TABLE conversations (
    account_id      UUID NOT NULL,
    conversation_id UUID NOT NULL,
    contact_id      UUID NOT NULL,
    user_id         UUID,
    subject         TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    last_at         BIGINT NOT NULL,
    merged_into     UUID,                     -- R41: links to the younger conversation still work
    reply_revoked_at BIGINT,                  -- R45: its reply addresses answer 550 5.2.1
    PRIMARY KEY (account_id, conversation_id),
    FOREIGN KEY (account_id, contact_id) REFERENCES contacts (account_id, contact_id)
);
CREATE INDEX conversations_by_contact ON conversations (account_id, contact_id, last_at);
CREATE INDEX conversations_by_id ON conversations (conversation_id);  -- a reply token names no account

CREATE TABLE messages (
    account_id        UUID NOT NULL,
    message_id        UUID NOT NULL,
    conversation_id   UUID NOT NULL,
    contact_id        UUID NOT NULL,
    user_id           UUID,
    direction         TEXT NOT NULL,
    kind              TEXT NOT NULL,
    sender            TEXT NOT NULL,
    subject           TEXT NOT NULL,
    sent_at           BIGINT NOT NULL,
    received_at       BIGINT NOT NULL,
    message_id_header TEXT NOT NULL,
    in_reply_to       TEXT,
    text              TEXT NOT NULL,
    new_text          TEXT NOT NULL,
    has_html          BOOLEAN NOT NULL,
    flags             TEXT NOT NULL,           -- JSON array
    attachments       TEXT NOT NULL,           -- JSON array in the shape of the API
    digest            BYTEA NOT NULL,          -- R70
    size_bytes        BIGINT NOT NULL,
    content_key       BYTEA,                   -- sealed with the account's key; none for registered CRM mail
    raw               BYTEA,                   -- the sealed raw message, up to 64 KiB
    blob              TEXT,                    -- or the name of the blob that holds it
    PRIMARY KEY (account_id, message_id),
    FOREIGN KEY (account_id, conversation_id) REFERENCES conversations (account_id, conversation_id)
);
CREATE UNIQUE INDEX messages_once ON messages (account_id, message_id_header, digest);
CREATE INDEX messages_by_conversation ON messages (account_id, conversation_id, sent_at, message_id);

-- Who is on a message (R25): the timeline of a contact is this table.
CREATE TABLE participants (
    account_id   UUID NOT NULL,
    message_id   UUID NOT NULL,
    position     BIGINT NOT NULL,              -- order on the message: From, To, Cc
    role         TEXT NOT NULL,
    name         TEXT,
    email        TEXT NOT NULL,
    contact_id   UUID,
    user_id      UUID,
    sent_at      BIGINT NOT NULL,
    PRIMARY KEY (account_id, message_id, position),
    FOREIGN KEY (account_id, message_id) REFERENCES messages (account_id, message_id)
);
CREATE INDEX participants_by_contact ON participants (account_id, contact_id, sent_at, message_id) WHERE contact_id IS NOT NULL;

-- Every Message-ID that a conversation is known by, its own and those its messages refer to (R40, R41).
CREATE TABLE thread_ids (
    account_id        UUID NOT NULL,
    message_id_header TEXT NOT NULL,
    conversation_id   UUID NOT NULL,
    is_own            BOOLEAN NOT NULL,         -- a message of ours has it; not merely referred to
    PRIMARY KEY (account_id, message_id_header, conversation_id)
);

-- Explicit filings of a user and UTC day (R52): counted where they are written, so that reading them is one look-up.
CREATE TABLE daily_filings (
    account_id   UUID NOT NULL,
    user_id      UUID NOT NULL,
    day          BIGINT NOT NULL,              -- days since 1970-01-01
    filings      BIGINT NOT NULL,
    PRIMARY KEY (account_id, user_id, day),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, user_id)
);

-- The trace of each recipient of each transaction (R3). For a discarded message (R5) mail_from, from_address,
-- message_id_header and rcpt are NULL and only delivery_addresses finds it.
CREATE TABLE deliveries (
    account_id        UUID NOT NULL,
    delivery_id       UUID NOT NULL,
    at                BIGINT NOT NULL,
    peer              TEXT NOT NULL,
    helo              TEXT NOT NULL,
    tls               TEXT,
    mail_from         TEXT,
    rcpt              TEXT,
    message_id_header TEXT,
    from_address      TEXT,
    size_bytes        BIGINT NOT NULL,
    auth              TEXT,                    -- JSON; NULL where the transaction never came to a message
    outcome           TEXT NOT NULL,
    reason            TEXT NOT NULL,
    smtp              TEXT NOT NULL,
    user_id           UUID,
    contact_id        UUID,
    message_id        UUID,
    steps             TEXT NOT NULL,           -- JSON array
    PRIMARY KEY (account_id, delivery_id)
);
CREATE INDEX deliveries_by_message_id_header ON deliveries (account_id, message_id_header) WHERE message_id_header IS NOT NULL;
CREATE INDEX deliveries_by_message ON deliveries (account_id, message_id) WHERE message_id IS NOT NULL;

-- Keyed hashes of the addresses on a delivery: an exact address finds it, nobody can list them (R5).
CREATE TABLE delivery_addresses (
    account_id   UUID NOT NULL,
    address_hash BYTEA NOT NULL,               -- 16 octets
    role         TEXT NOT NULL CHECK (role IN ('from', 'to')),
    delivery_id  UUID NOT NULL,
    PRIMARY KEY (account_id, address_hash, role, delivery_id)
);

-- Held messages (R36): sealed, waiting for a person. The delivery row explains them.
CREATE TABLE held (
    account_id   UUID NOT NULL,
    delivery_id  UUID NOT NULL,
    at           BIGINT NOT NULL,
    reason       TEXT NOT NULL,
    why          TEXT NOT NULL,
    user_id      UUID,
    contact_id   UUID,
    expires_at   BIGINT NOT NULL,
    headers      TEXT NOT NULL,                -- JSON: from, to, subject
    size_bytes   BIGINT NOT NULL,
    content_key  BYTEA NOT NULL,
    raw          BYTEA,
    blob         TEXT,
    message_id_header TEXT NOT NULL,
    digest       BYTEA NOT NULL,               -- R70: a retry is not held again
    PRIMARY KEY (account_id, delivery_id)
);
CREATE INDEX held_by_expiry ON held (account_id, expires_at);
CREATE INDEX held_by_message_id_header ON held (account_id, message_id_header);

-- The outbox: written in the filing transaction.
CREATE TABLE events (
    account_id      UUID NOT NULL,
    event_id        UUID NOT NULL,
    type            TEXT NOT NULL,
    at              BIGINT NOT NULL,
    conversation_id UUID,
    delivery_id     UUID,                      -- of message.held: the event goes when the held message does
    data            TEXT NOT NULL,             -- JSON: ids and headers, never the text
    PRIMARY KEY (account_id, event_id)
);
CREATE INDEX events_by_delivery ON events (account_id, delivery_id) WHERE delivery_id IS NOT NULL;

-- API tokens. An admin token has the operator's account (all zeros).
CREATE TABLE tokens (
    account_id   UUID NOT NULL REFERENCES accounts (account_id),
    token_id     UUID NOT NULL,
    name         TEXT NOT NULL,
    scopes       TEXT NOT NULL,                -- JSON array
    token_hash   BYTEA NOT NULL,               -- SHA-256 of the token
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, token_id)
);
CREATE INDEX tokens_by_hash ON tokens (token_hash);

-- Answers to writes that carried an Idempotency-Key, kept for a day.
CREATE TABLE idempotency_keys (
    account_id   UUID NOT NULL,
    key          TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    status       BIGINT NOT NULL,
    response     TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, key)
);
