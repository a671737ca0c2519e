-- R64: the audit trail is only added to, and the head of a chain only goes on. Whoever owns the tables can take this away
-- again: it keeps out mistakes, and whoever was granted no more than the rows.
CREATE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is only added to';
END
$$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_kept();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_kept();
CREATE TRIGGER audit_heads_are_kept BEFORE DELETE ON audit_heads FOR EACH ROW EXECUTE FUNCTION audit_is_kept();
CREATE TRIGGER audit_heads_go_on BEFORE UPDATE ON audit_heads FOR EACH ROW
    WHEN (NEW.seq <= OLD.seq OR NEW.account_id <> OLD.account_id) EXECUTE FUNCTION audit_is_kept();
CREATE TRIGGER audit_heads_are_not_emptied BEFORE TRUNCATE ON audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_kept();

-- An account has its first row from when it is made: where even the head is gone, somebody has removed the chain. Those of
-- accounts from before there was a trail begin with the next thing that is done.
INSERT INTO audit_heads (account_id, seq, hash)
    SELECT a.account_id, 0, '\x' FROM accounts a WHERE a.account_id <> '00000000-0000-0000-0000-000000000000'
    AND NOT EXISTS (SELECT 1 FROM audit t WHERE t.account_id = a.account_id)
    AND NOT EXISTS (SELECT 1 FROM audit_heads h WHERE h.account_id = a.account_id);
