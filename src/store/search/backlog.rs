//! Messages that were filed before there was a search are indexed behind the back of the server, newest first.
//!
//! Promises small transactions, each of which says how far it has come: whatever stops it, it goes on from there.

use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::Role;
use crate::id::AccountId;
use crate::store::directory::Change;
use crate::store::engine::{Builder, query, query_as};
use crate::store::row_keys::position_of;
use crate::store::search::words::TEXT_MAX_CHARS;
use crate::store::search::{SearchDocumentRow, Terms, document, role_of};
use crate::store::statement::insert;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

#[derive(sqlx::FromRow)]
struct Old {
    message_id: Uuid,
    subject: String,
    new_text: String,
    sent_at: i64,
    is_indexed: bool,
}

impl Store {
    /// Indexes a few messages. Returns how many, and none once all are.
    ///
    /// # Errors
    /// If the database fails; what is left waits for the next call.
    pub async fn index_older_messages(&self) -> Result<Option<usize>, StoreError> {
        let waiting: Option<(Uuid,)> =
            query_as("SELECT account_id FROM search_backlog ORDER BY account_id LIMIT 1")
                .fetch_optional(self.reader())
                .await?;
        let Some((account,)) = waiting else { return Ok(None) };
        let mut change = self.change().await?;
        let indexed = change.index_older(AccountId::from_uuid(account)).await?;
        change.commit().await?;
        Ok(Some(indexed))
    }
}

impl Change {
    async fn index_older(&mut self, account: AccountId) -> Result<usize, StoreError> {
        let reached: Option<(Option<Uuid>,)> =
            query_as("SELECT below FROM search_backlog WHERE account_id = $1")
                .bind(account.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        // Another node has done the rest, or the account was emptied.
        let Some((below,)) = reached else { return Ok(0) };
        let old = self.older(account, below).await?;
        let Some(last) = old.last().map(|message| message.message_id) else {
            query("DELETE FROM search_backlog WHERE account_id = $1")
                .bind(account.uuid())
                .execute(self.on(account).await?)
                .await?;
            return Ok(0);
        };
        let rows = self.documents_of(account, old.iter().filter(|message| !message.is_indexed)).await?;
        let indexed = rows.len();
        insert(self.on(account).await?, rows).await?;
        query("UPDATE search_backlog SET below = $2 WHERE account_id = $1")
            .bind(account.uuid())
            .bind(last)
            .execute(self.on(account).await?)
            .await?;
        Ok(indexed)
    }

    async fn older(&mut self, account: AccountId, below: Option<Uuid>) -> Result<Vec<Old>, StoreError> {
        // Nothing of a sealed text stands in an index.
        let mut sql = Builder::new(match self.store.seals_rows() {
            true => "SELECT m.message_id, '' AS subject, SUBSTR('', 1, ",
            false => "SELECT m.message_id, m.subject, SUBSTR(m.new_text, 1, ",
        });
        sql.push(TEXT_MAX_CHARS).push(
            ") AS new_text, m.sent_at, EXISTS (SELECT 1 FROM search_documents d WHERE d.account_id = m.account_id
             AND d.message_id = m.message_id) AS is_indexed FROM messages m WHERE m.account_id = ",
        );
        sql.push_bind(account.uuid());
        if let Some(below) = below {
            sql.push(" AND m.message_id < ").push_bind(below);
        }
        sql.push(" ORDER BY m.message_id DESC LIMIT ").push(PIECE);
        Ok(sql.build().fetch_all(self.on(account).await?).await?)
    }

    async fn documents_of<'a>(
        &mut self,
        account: AccountId,
        messages: impl Iterator<Item = &'a Old> + Clone,
    ) -> Result<Vec<SearchDocumentRow>, StoreError> {
        if messages.clone().next().is_none() {
            return Ok(Vec::new());
        }
        let mut sql =
            Builder::new("SELECT message_id, position, role, email FROM participants WHERE account_id = ");
        sql.push_bind(account.uuid()).push(" AND message_id IN (");
        sql.push_list(messages.clone().map(|message| message.message_id))
            .push(") ORDER BY message_id, position");
        let found: Vec<(Uuid, i64, String, String)> = sql.build().fetch_all(self.on(account).await?).await?;
        let rows = self.row_keys(account).await?;
        let mut people: Vec<(Uuid, Role, EmailAddress)> = Vec::with_capacity(found.len());
        for (message, position, role, email) in found {
            let email = rows.show("participants.email", position_of(message, position), email)?;
            people.extend(
                role_of(&role).zip(EmailAddress::parse(&email)).map(|(role, email)| (message, role, email)),
            );
        }
        let keys = &self.store.inner.keys;
        // The oldest first: of one second the one that came later is newer.
        let mut rows: Vec<SearchDocumentRow> = messages
            .map(|message| {
                let on_it = people.iter().filter(|(on, ..)| *on == message.message_id);
                let on_it = on_it.map(|(_, role, address)| (*role, address));
                let terms = Terms::of(&message.subject, &message.new_text);
                let sent_at = Timestamp::from_millis(message.sent_at);
                document(keys, account, message.message_id, sent_at, &terms, on_it)
            })
            .collect();
        rows.reverse();
        Ok(rows)
    }
}

/// Messages of one transaction. Others wait for it.
const PIECE: usize = 64;
