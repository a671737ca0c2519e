-- R64: the audit trail is only added to, and the head of a chain only goes on. Whoever has the file can take this away
-- again: it keeps out mistakes.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only added to');
END;
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only added to');
END;
CREATE TRIGGER audit_heads_are_kept BEFORE DELETE ON audit_heads BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only added to');
END;
CREATE TRIGGER audit_heads_go_on BEFORE UPDATE ON audit_heads
WHEN NEW.seq <= OLD.seq OR NEW.account_id <> OLD.account_id BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only added to');
END;

-- An account has its first row from when it is made: where even the head is gone, somebody has removed the chain. Those of
-- accounts from before there was a trail begin with the next thing that is done.
INSERT INTO audit_heads (account_id, seq, hash)
    SELECT a.account_id, 0, x'' FROM accounts a WHERE a.account_id <> x'00000000000000000000000000000000'
    AND NOT EXISTS (SELECT 1 FROM audit t WHERE t.account_id = a.account_id)
    AND NOT EXISTS (SELECT 1 FROM audit_heads h WHERE h.account_id = a.account_id);
