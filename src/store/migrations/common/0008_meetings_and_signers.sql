-- R55: what a calendar part of the message says, a JSON object; none where there is no meeting.
ALTER TABLE messages ADD COLUMN meeting TEXT;

-- R13: this address of a user's, signed by that domain, was accepted by a person.
CREATE TABLE remembered_signers (
    account_id   UUID NOT NULL,
    email_key    TEXT NOT NULL,
    domain       TEXT NOT NULL,             -- d= of the DKIM signature, lower case
    user_id      UUID NOT NULL,
    address      TEXT NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (account_id, email_key, domain),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, user_id)
);
CREATE INDEX remembered_signers_by_user ON remembered_signers (account_id, user_id);
