-- R70: whether this very message is held already. One Message-ID may have any number of others.
DROP INDEX held_by_message_id_header;
CREATE INDEX held_by_message ON held (account_id, message_id_header, digest);
