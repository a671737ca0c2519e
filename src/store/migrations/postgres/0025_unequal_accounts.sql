-- Where most accounts have a row or two in a table, the server takes every account for so small that any index will do
-- which begins with the account, and reads all of the one that has a hundred thousand. It is told that there is one
-- account, whatever it counts: then it goes by the whole key.
DO $$
DECLARE
    unequal record;
BEGIN
    FOR unequal IN
        SELECT c.oid::regclass AS name, pg_relation_size(c.oid) AS octets FROM pg_class c
        CROSS JOIN pg_attribute a CROSS JOIN pg_index i
        WHERE c.relnamespace = (SELECT n.relnamespace FROM pg_class n WHERE n.oid = to_regclass('accounts')) AND c.relkind = 'r'
        AND a.attrelid = c.oid AND a.attname = 'account_id'
        AND i.indrelid = c.oid AND i.indisprimary AND i.indnatts > 1
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN account_id SET (n_distinct = 1)', unequal.name);
        IF unequal.octets > 0 THEN
            EXECUTE format('ANALYZE %s', unequal.name);
        END IF;
    END LOOP;
END $$;
