-- R25, R46: a message on one contact's record that has come to another contact's reply address too goes on to both. The
-- job of its first copy has the id of the message; of a further copy, to another contact, the id of the delivery that
-- asked for it, and names the message here.
ALTER TABLE relay_jobs ADD COLUMN message_id UUID;
CREATE INDEX relay_jobs_by_message ON relay_jobs (account_id, message_id) WHERE message_id IS NOT NULL;

-- Erasing a trace takes away by which addresses it is found.
CREATE INDEX delivery_addresses_by_delivery ON delivery_addresses (account_id, delivery_id);

-- A purge of a whole account forgets the operator's remembered answers about it, and no others. NULL: of a day ago, when
-- this was not said yet.
ALTER TABLE idempotency_keys ADD COLUMN about UUID;

-- A purge of a contact or user takes them out of what stays, part by part: which part it is at, and the addresses that it
-- looks for, until it is over.
ALTER TABLE purges ADD COLUMN stage BIGINT NOT NULL DEFAULT 0;
ALTER TABLE purges ADD COLUMN texts TEXT;
