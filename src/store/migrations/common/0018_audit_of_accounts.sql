-- Whether an account's import is still unfinished is asked often; its trail grows with each read of content.
CREATE INDEX audit_of_accounts ON audit (account_id, seq) WHERE object = 'account' AND action IN ('import', 'purge');
