-- Full-text search: what of a message can be found. Terms are made in Rust, the same for both engines: folded, and with
-- letters of the account before each, so that the index of one account is never walked for another (R4). SQLite's part:
-- an FTS5 table that stores no text of its own.
--
-- A place is the order of the answers: seconds since 1970 times 2^29, and a number that tells messages of one second
-- apart. It is the row id of the index, which is read backwards and only as far as is asked for. (SQLite is never
-- sharded: the one table whose key does not begin with the account.)
CREATE TABLE search_documents (
    place        INTEGER PRIMARY KEY,
    account_id   UUID NOT NULL,
    message_id   UUID NOT NULL,
    words        TEXT NOT NULL,               -- distinct terms of subject and new text
    people       TEXT NOT NULL                -- keyed hashes of the addresses on it; a space before each
);
CREATE UNIQUE INDEX search_documents_by_message ON search_documents (account_id, message_id);

CREATE VIRTUAL TABLE search_terms USING fts5(words, people, content = '', columnsize = 0, detail = none, tokenize = "ascii");
-- R60: what is erased leaves the index at once, not with the next merge.
INSERT INTO search_terms (search_terms, rank) VALUES ('secure-delete', 1);
-- Every commit makes a part of the index; merging fewer of them at a time costs a tenth more.
INSERT INTO search_terms (search_terms, rank) VALUES ('automerge', 8);

-- Takes the first free place from the wished one on.
CREATE VIEW search_filing AS SELECT account_id, message_id, place, words, people FROM search_documents;
CREATE TRIGGER search_filed INSTEAD OF INSERT ON search_filing BEGIN
    INSERT INTO search_documents (place, account_id, message_id, words, people)
    VALUES (COALESCE((SELECT d.place + 1 FROM search_documents d WHERE d.place >= NEW.place AND d.place < NEW.place + 536870912
                      ORDER BY d.place DESC LIMIT 1), NEW.place),
            NEW.account_id, NEW.message_id, NEW.words, NEW.people);
END;

CREATE TRIGGER search_documents_made AFTER INSERT ON search_documents BEGIN
    INSERT INTO search_terms (rowid, words, people) VALUES (NEW.place, NEW.words, NEW.people);
END;
CREATE TRIGGER search_documents_gone AFTER DELETE ON search_documents BEGIN
    INSERT INTO search_terms (search_terms, rowid, words, people) VALUES ('delete', OLD.place, OLD.words, OLD.people);
END;
-- R63: somebody's addresses are taken out; the words stay as they are.
CREATE TRIGGER search_documents_changed AFTER UPDATE OF people ON search_documents WHEN OLD.people <> NEW.people BEGIN
    INSERT INTO search_terms (search_terms, rowid, words, people) VALUES ('delete', OLD.place, '', OLD.people);
    INSERT INTO search_terms (rowid, words, people) VALUES (NEW.place, '', NEW.people);
END;

-- Accounts with messages that were filed before: they are indexed by the server, newest first.
CREATE TABLE search_backlog (
    account_id   UUID PRIMARY KEY NOT NULL,
    below        UUID                         -- messages from this id on are done
);
INSERT INTO search_backlog (account_id) SELECT a.account_id FROM accounts a
    WHERE EXISTS (SELECT 1 FROM messages m WHERE m.account_id = a.account_id);

-- Deliveries of a contact, newest first, without walking through those of the account.
CREATE INDEX deliveries_by_contact ON deliveries (account_id, contact_id, delivery_id) WHERE contact_id IS NOT NULL;
