-- R60: a keyed hash of Message-ID and digest of what was erased, so that a late retry does not bring it back.
CREATE TABLE tombstones (
    account_id   UUID NOT NULL,
    hash         BYTEA NOT NULL,               -- 16 octets
    erased_at    BIGINT NOT NULL,
    PRIMARY KEY (account_id, hash)
);
CREATE INDEX tombstones_by_time ON tombstones (account_id, erased_at);

-- Erasures under way: worked off piece by piece, and resumed after a crash. A finished one has no row.
CREATE TABLE purges (
    account_id   UUID NOT NULL REFERENCES accounts (account_id),
    purge_id     UUID NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('all', 'contact', 'message', 'mine', 'user')),
    subject_id   UUID NOT NULL,                -- the contact, message or user; the account itself for all
    passed       UUID NOT NULL,                -- messages up to this one have been looked at (user, mine)
    actor        TEXT NOT NULL,
    messages     BIGINT NOT NULL,
    attachments  BIGINT NOT NULL,
    bytes        BIGINT NOT NULL,
    blobs        BIGINT NOT NULL,
    held         BIGINT NOT NULL,
    deliveries   BIGINT NOT NULL,
    begun_at     BIGINT NOT NULL,
    PRIMARY KEY (account_id, purge_id)
);
CREATE UNIQUE INDEX purges_once ON purges (account_id, kind, subject_id);

-- Blobs whose rows are gone, until they are gone themselves: written with the erasure, so that a crash leaves none.
CREATE TABLE erased_blobs (
    account_id   UUID NOT NULL,
    blob         TEXT NOT NULL,
    PRIMARY KEY (account_id, blob)
);

-- What is known of a conversation is found without reading the whole account.
CREATE INDEX events_by_conversation ON events (account_id, conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX thread_ids_by_conversation ON thread_ids (account_id, conversation_id);
