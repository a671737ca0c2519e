-- Where most accounts have a row or two in a table, the server takes every account for so small that any index will do
-- which begins with the account, and reads all of the one that has a hundred thousand. Of the tables that filing looks
-- into it is told that there is one account, whatever it counts: then it goes by the whole key.
DO $$
DECLARE
    unequal record;
BEGIN
    FOR unequal IN
        SELECT c.oid::regclass AS name, pg_relation_size(c.oid) AS octets FROM pg_class c
        WHERE c.relnamespace = (SELECT a.relnamespace FROM pg_class a WHERE a.oid = to_regclass('accounts'))
        AND c.relname IN ('contacts', 'conversations', 'daily_filings', 'held', 'messages', 'relay_jobs',
                          'remembered_signers', 'sync_marks', 'thread_ids', 'tombstones', 'user_emails', 'users')
        AND c.relkind = 'r'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN account_id SET (n_distinct = 1)', unequal.name);
        IF unequal.octets > 0 THEN
            EXECUTE format('ANALYZE %s', unequal.name);
        END IF;
    END LOOP;
END $$;
