-- Messages wait here until they are indexed, a short while after they were filed: a filing writes one short row for it
-- instead of some hundred terms. By a trigger, so that nothing gets onto a record without it.
CREATE TABLE search_waiting (
    account_id   UUID NOT NULL,
    message_id   UUID NOT NULL,
    PRIMARY KEY (account_id, message_id)
) WITHOUT ROWID;
CREATE TRIGGER messages_wait_for_search AFTER INSERT ON messages BEGIN
    INSERT INTO search_waiting (account_id, message_id) VALUES (NEW.account_id, NEW.message_id);
END;

-- What is left of the messages from before there was a search.
INSERT INTO search_waiting (account_id, message_id)
    SELECT m.account_id, m.message_id FROM search_backlog b CROSS JOIN messages m
    WHERE m.account_id = b.account_id AND (b.below IS NULL OR m.message_id < b.below)
    AND NOT EXISTS (SELECT 1 FROM search_documents d WHERE d.account_id = m.account_id AND d.message_id = m.message_id);
DROP TABLE search_backlog;
