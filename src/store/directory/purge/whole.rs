//! R60: a whole account is emptied. What stays: the account with its settings and tokens, the audit trail, and the
//! hashes of what was erased.

use crate::id::AccountId;
use crate::store::StoreError;
use crate::store::directory::erase::Erased;
use crate::store::directory::purge::SMALL_PIECE;
use crate::store::directory::{Addresses, Change, DirectoryError};
use crate::store::engine::query;

impl Change {
    /// Nothing is filed any more, and nothing that was sealed can be opened again: the account gets another key.
    pub(super) async fn stop_account(&mut self, account: AccountId) -> Result<(), DirectoryError> {
        self.require_account(account).await?;
        self.addresses = Addresses::Changed;
        let number = self.next_key_number(account).await?;
        let wrapped = self.store.vault().new_key_numbered(account, number).map_err(StoreError::from)?;
        // The rows are erased one by one, and their hashes kept: until then they can be read.
        self.rewrap_row_key(account, (number.as_i64(), wrapped.clone())).await?;
        // What a node is sealing with the old key just now is not filed any more.
        query("UPDATE accounts SET wrapped_key = $2, key_number = $3, key_floor = $3 WHERE account_id = $1")
            .bind(account.uuid())
            .bind(wrapped)
            .bind(number.as_i64())
            .execute(self.on(account).await?)
            .await?;
        for statement in [
            "DELETE FROM retired_account_keys WHERE account_id = $1",
            "UPDATE users SET sync_state = 'off' WHERE account_id = $1",
            "UPDATE sync_addresses SET state = 'retired' WHERE account_id = $1",
        ] {
            query(statement).bind(account.uuid()).execute(self.on(account).await?).await?;
        }
        query("DELETE FROM idempotency_keys WHERE account_id = $1")
            .bind(account.uuid())
            .execute(self.on(account).await?)
            .await?;
        // Answers of a day ago, from before they said which account they are about, may be about this one.
        query("DELETE FROM idempotency_keys WHERE account_id = $1 AND (about = $2 OR about IS NULL)")
            .bind(AccountId::OPERATOR.uuid())
            .bind(account.uuid())
            .execute(self.on(AccountId::OPERATOR).await?)
            .await?;
        Ok(())
    }

    /// What is left when messages and held mail are gone, table by table. Returns whether nothing is.
    pub(super) async fn empty_account(
        &mut self,
        account: AccountId,
        erased: &mut Erased,
    ) -> Result<bool, DirectoryError> {
        for (table, text) in TABLES {
            let gone =
                query(*text).bind(account.uuid()).bind(SMALL_PIECE).execute(self.on(account).await?).await?;
            if *table == "deliveries" {
                erased.deliveries += gone;
            }
            if gone > 0 {
                return Ok(false);
            }
        }
        self.addresses = Addresses::Changed;
        // Nothing that stays may need the old key: another purge goes on without the addresses that it had gathered.
        let answers = self.spare_answers(account).await?;
        query("UPDATE purges SET texts = NULL WHERE account_id = $1")
            .bind(account.uuid())
            .execute(self.on(account).await?)
            .await?;
        self.renew_row_key(account).await?;
        self.put_answers_back(answers).await?;
        Ok(true)
    }
}

/// In the order that the foreign keys ask for. `$1` the account, `$2` how many rows at once.
const TABLES: &[(&str, &str)] = &[
    (
        "webhook_attempts",
        "DELETE FROM webhook_attempts WHERE account_id = $1 AND attempt_id IN
         (SELECT attempt_id FROM webhook_attempts WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "webhook_deliveries",
        "DELETE FROM webhook_deliveries WHERE account_id = $1 AND event_id IN
         (SELECT event_id FROM webhook_deliveries WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "webhooks",
        "DELETE FROM webhooks WHERE account_id = $1 AND webhook_id IN
         (SELECT webhook_id FROM webhooks WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "relay_jobs",
        "DELETE FROM relay_jobs WHERE account_id = $1 AND job_id IN
         (SELECT job_id FROM relay_jobs WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "relay_digests",
        "DELETE FROM relay_digests WHERE account_id = $1 AND user_id IN
         (SELECT user_id FROM relay_digests WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "email_confirmations",
        "DELETE FROM email_confirmations WHERE account_id = $1 AND confirmation_id IN
         (SELECT confirmation_id FROM email_confirmations WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "remembered_signers",
        "DELETE FROM remembered_signers WHERE account_id = $1 AND user_id IN
         (SELECT user_id FROM remembered_signers WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "delivery_addresses",
        "DELETE FROM delivery_addresses WHERE account_id = $1 AND delivery_id IN
         (SELECT delivery_id FROM delivery_addresses WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "deliveries",
        "DELETE FROM deliveries WHERE account_id = $1 AND delivery_id IN
         (SELECT delivery_id FROM deliveries WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "events",
        "DELETE FROM events WHERE account_id = $1 AND event_id IN
         (SELECT event_id FROM events WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "thread_ids",
        "DELETE FROM thread_ids WHERE account_id = $1 AND message_id_header IN
         (SELECT message_id_header FROM thread_ids WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "sync_marks",
        "DELETE FROM sync_marks WHERE account_id = $1 AND contact_id IN
         (SELECT contact_id FROM sync_marks WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "conversations",
        "DELETE FROM conversations WHERE account_id = $1 AND conversation_id IN
         (SELECT conversation_id FROM conversations WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "contacts",
        "DELETE FROM contacts WHERE account_id = $1 AND contact_id IN
         (SELECT contact_id FROM contacts WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "daily_filings",
        "DELETE FROM daily_filings WHERE account_id = $1 AND user_id IN
         (SELECT user_id FROM daily_filings WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "forwarding_confirmations",
        "DELETE FROM forwarding_confirmations WHERE account_id = $1 AND user_id IN
         (SELECT user_id FROM forwarding_confirmations WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "user_emails",
        "DELETE FROM user_emails WHERE account_id = $1 AND user_id IN
         (SELECT user_id FROM user_emails WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "sync_addresses",
        "DELETE FROM sync_addresses WHERE account_id = $1 AND local_part IN
         (SELECT local_part FROM sync_addresses WHERE account_id = $1 LIMIT $2)",
    ),
    (
        "users",
        "DELETE FROM users WHERE account_id = $1 AND user_id IN
         (SELECT user_id FROM users WHERE account_id = $1 LIMIT $2)",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sqlx::{Connection as _, SqliteConnection};

    use super::*;
    use crate::store::engine::{Engine, migrations::migrator};

    /// Tables whose rows have a column of this name.
    async fn tables_with(column: &str) -> BTreeSet<String> {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        migrator(Engine::Sqlite).run(&mut connection).await.unwrap();
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT t.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND c.name = $1",
        )
        .bind(column)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        rows.into_iter().map(|(name,)| name).collect()
    }

    #[tokio::test]
    async fn r60_every_table_of_an_account_is_emptied_or_named_here_as_one_that_stays() {
        let stay = [
            "accounts",
            "audit",
            "audit_heads",
            "clock_mark",
            "erased_blobs",
            "purges",
            "row_keys",
            "tokens",
            "tombstones",
        ];
        // By their own functions: messages with who is on them and what they are found by, held mail, remembered
        // answers, old keys.
        let elsewhere = [
            "held",
            "idempotency_keys",
            "messages",
            "participants",
            "retired_account_keys",
            "search_documents",
            "search_waiting",
        ];
        let emptied = TABLES.iter().map(|(table, _)| *table);
        let known: BTreeSet<String> = emptied.chain(stay).chain(elsewhere).map(ToOwned::to_owned).collect();
        assert_eq!(tables_with("account_id").await, known);
    }

    #[tokio::test]
    async fn r60_every_table_that_names_a_message_or_a_user_is_thought_of() {
        // `erase_messages` and `erase_user`: whoever adds a table erases there what it says of them.
        assert_eq!(
            tables_with("message_id").await.into_iter().collect::<Vec<_>>(),
            ["deliveries", "messages", "participants", "relay_jobs", "search_documents", "search_waiting"]
        );
        assert_eq!(
            tables_with("user_id").await.into_iter().collect::<Vec<_>>(),
            [
                "conversations",
                "daily_filings",
                "deliveries",
                "email_confirmations",
                "forwarding_confirmations",
                "held",
                "messages",
                "participants",
                "relay_digests",
                "relay_jobs",
                "remembered_signers",
                "sync_addresses",
                "sync_marks",
                "user_emails",
                "users",
            ]
        );
    }
}
