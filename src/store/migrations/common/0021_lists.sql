-- Deliveries of one outcome, newest first, without walking through those of the account. Most are filed, and are found
-- without it: a filing writes nothing here.
CREATE INDEX deliveries_by_outcome ON deliveries (account_id, outcome, delivery_id) WHERE outcome <> 'filed';

-- Whose record a message is on is among its people (R25): the timeline of a contact is read from them alone. Rarely one
-- was not, where the contact had no address that can be read.
INSERT INTO participants (account_id, message_id, position, role, name, email, contact_id, user_id, sent_at)
    SELECT m.account_id, m.message_id, 4294967296, 'about', NULL, '', m.contact_id, NULL, m.sent_at FROM messages m
    WHERE NOT EXISTS (SELECT 1 FROM participants p WHERE p.account_id = m.account_id AND p.message_id = m.message_id
                      AND p.contact_id = m.contact_id)
    ON CONFLICT (account_id, message_id, position) DO NOTHING;
