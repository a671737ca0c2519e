-- Full-text search: what of a message can be found. Terms are made in Rust, the same for both engines: folded, and with
-- letters of the account before each, so that the index of one account is never walked for another (R4). PostgreSQL's
-- part: an index over the terms as a tsvector, to which no language is known.
--
-- A place is the order of the answers: seconds since 1970 times 2^29, and a number that tells messages of one second
-- apart.
CREATE TABLE search_documents (
    account_id   UUID NOT NULL,
    message_id   UUID NOT NULL,
    place        BIGINT NOT NULL,
    words        TEXT NOT NULL,               -- distinct terms of subject and new text
    people       TEXT NOT NULL,               -- keyed hashes of the addresses on it; a space before each
    PRIMARY KEY (account_id, message_id)
);
CREATE UNIQUE INDEX search_documents_by_place ON search_documents (account_id, place);
-- Its cost is what it takes, so that the planner asks the index rather than make every row's vector anew. In plpgsql: a
-- function in SQL would be written out, and its cost forgotten.
CREATE FUNCTION search_vector(words TEXT, people TEXT) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
BEGIN
    RETURN array_to_tsvector(string_to_array(btrim(words || people), ' '));
END
$$;
-- Terms wait in a list that every search reads, until they are 1 MiB: a longer one would hold up the filing that sorts it in.
CREATE INDEX search_documents_by_terms ON search_documents
    USING GIN (search_vector(words, people)) WITH (gin_pending_list_limit = 1024);

-- Takes the first free place from the wished one on. Nobody else writes to the account meanwhile.
CREATE FUNCTION search_documents_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.place := COALESCE((SELECT d.place + 1 FROM search_documents d WHERE d.account_id = NEW.account_id
                           AND d.place >= NEW.place AND d.place < NEW.place + 536870912
                           ORDER BY d.place DESC LIMIT 1), NEW.place);
    RETURN NEW;
END
$$;
CREATE TRIGGER search_filed BEFORE INSERT ON search_documents FOR EACH ROW EXECUTE FUNCTION search_documents_place();
CREATE VIEW search_filing AS SELECT account_id, message_id, place, words, people FROM search_documents;

-- Accounts with messages that were filed before: they are indexed by the server, newest first.
CREATE TABLE search_backlog (
    account_id   UUID PRIMARY KEY NOT NULL,
    below        UUID                         -- messages from this id on are done
);
INSERT INTO search_backlog (account_id) SELECT a.account_id FROM accounts a
    WHERE EXISTS (SELECT 1 FROM messages m WHERE m.account_id = a.account_id);

-- Deliveries of a contact, newest first, without walking through those of the account.
CREATE INDEX deliveries_by_contact ON deliveries (account_id, contact_id, delivery_id) WHERE contact_id IS NOT NULL;
