//! Messages are indexed a short while after they were filed, so that no filing waits for it.
//!
//! A message waits from the commit of its filing to that of its terms, whatever stops the server in between; the newest
//! have their turn first, and the accounts one after the other. Promises small transactions.

use tracing::warn;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::Role;
use crate::id::AccountId;
use crate::store::directory::Change;
use crate::store::engine::{Builder, query_scalar};
use crate::store::export::that_fit;
use crate::store::row_keys::position_of;
use crate::store::search::words::TEXT_MAX_CHARS;
use crate::store::search::{SearchDocumentRow, Terms, document, role_of};
use crate::store::statement::insert;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// How much is indexed at once. What is filed meanwhile waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    messages: u32,
}

#[derive(sqlx::FromRow)]
struct Waiting {
    message_id: Uuid,
    /// None once it was erased.
    sent_at: Option<i64>,
    /// Of the whole mail, as it came.
    size_bytes: Option<i64>,
    /// By a program from before messages waited.
    is_indexed: bool,
}

#[derive(sqlx::FromRow)]
struct Content {
    message_id: Uuid,
    subject: String,
    new_text: String,
    sent_at: i64,
}

impl Piece {
    /// While nothing else is to be written.
    pub const WHOLE: Self = Self { messages: 64 };
    /// While mail is coming in.
    pub const SMALL: Self = Self { messages: 32 };
    const ONE: Self = Self { messages: 1 };
}

impl Store {
    /// Indexes a few messages of the accounts whose turn it is behind `last`, which the last of them becomes. False
    /// when nothing waits.
    ///
    /// # Errors
    /// If the database fails; what waits goes on waiting, and other accounts have their turn.
    pub async fn index_some(&self, last: &mut Option<AccountId>, piece: Piece) -> Result<bool, StoreError> {
        let first = AccountId::from_uuid(Uuid::nil());
        let mut left = piece.messages;
        while left > 0 {
            let next = match self.first_waiting_behind(last.unwrap_or(first)).await? {
                None => self.first_waiting_behind(first).await?,
                next => next,
            };
            let Some(account) = next else { break };
            *last = Some(account);
            // One at least: another node may have been there.
            left = left.saturating_sub(self.index_of(account, Piece { messages: left }).await?.max(1));
        }
        Ok(left < piece.messages)
    }

    /// The same for the newest of one account: who searches finds what was filed just now. False if there is more, and
    /// some of what had been filed by now still waits.
    ///
    /// # Errors
    /// If the database fails; what waits goes on waiting.
    pub async fn index_newest(&self, account: AccountId) -> Result<bool, StoreError> {
        // What comes in meanwhile is newer.
        let mut newest = self.newest_waiting(account, Uuid::max()).await?;
        for _ in 0..NEWEST_PIECES {
            let Some(until) = newest else { return Ok(true) };
            self.index_of(account, Piece::WHOLE).await?;
            newest = self.newest_waiting(account, until).await?;
        }
        Ok(newest.is_none())
    }

    async fn newest_waiting(&self, account: AccountId, until: Uuid) -> Result<Option<Uuid>, StoreError> {
        let newest = query_scalar(
            "SELECT message_id FROM search_waiting WHERE account_id = $1 AND message_id <= $2
             ORDER BY message_id DESC LIMIT 1",
        );
        Ok(newest.bind(account.uuid()).bind(until).fetch_optional(self.reader()).await?)
    }

    /// How many messages of all accounts wait, as far as [`WAITING_MAX`] goes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn waiting_for_search(&self) -> Result<i64, StoreError> {
        let counted =
            query_scalar("SELECT count(*) FROM (SELECT message_id FROM search_waiting LIMIT $1) AS waiting");
        Ok(counted.bind(WAITING_MAX).fetch_one(self.reader()).await?)
    }

    /// What was indexed is found faster.
    ///
    /// # Errors
    /// If the database fails; it is found all the same.
    pub async fn sort_terms_in(&self) -> Result<(), StoreError> {
        Ok(self.inner.write.sort_terms_in().await?)
    }

    async fn first_waiting_behind(&self, last: AccountId) -> Result<Option<AccountId>, StoreError> {
        let next: Option<Uuid> = query_scalar(
            "SELECT account_id FROM search_waiting WHERE account_id > $1 ORDER BY account_id LIMIT 1",
        )
        .bind(last.uuid())
        .fetch_optional(self.reader())
        .await?;
        Ok(next.map(AccountId::from_uuid))
    }

    /// Returns how many wait no more.
    async fn index_of(&self, account: AccountId, piece: Piece) -> Result<u32, StoreError> {
        match self.index_piece(account, piece).await {
            // One message that cannot be read back keeps no other one out.
            Err(error) if is_unreadable(&error) => self.index_one_or_none(account).await,
            done => done,
        }
    }

    async fn index_piece(&self, account: AccountId, piece: Piece) -> Result<u32, StoreError> {
        let mut change = self.change().await?;
        let waiting = change.waiting(account, piece).await?;
        let rows = change.documents_of(account, unindexed(&waiting)).await?;
        insert(change.on(account).await?, rows).await?;
        change.wait_no_more(account, &waiting).await?;
        change.commit().await?;
        Ok(u32::try_from(waiting.len()).unwrap_or(u32::MAX))
    }

    async fn index_one_or_none(&self, account: AccountId) -> Result<u32, StoreError> {
        let mut change = self.change().await?;
        let waiting = change.waiting(account, Piece::ONE).await?;
        let read = change.documents_of(account, unindexed(&waiting)).await;
        drop(change);
        match read {
            Ok(_) => self.index_piece(account, Piece::ONE).await,
            Err(error) if is_unreadable(&error) => {
                let message = waiting.first().map(|one| one.message_id);
                warn!(?message, error = &error as &dyn std::error::Error, "search.message_left_out");
                let mut change = self.change().await?;
                change.wait_no_more(account, &waiting).await?;
                change.commit().await?;
                Ok(1)
            }
            Err(error) => Err(error),
        }
    }
}

/// Trying again would not help.
const fn is_unreadable(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::Damaged { .. })
}

fn unindexed(waiting: &[Waiting]) -> Vec<Uuid> {
    let there = waiting.iter().filter(|one| one.sent_at.is_some() && !one.is_indexed);
    there.map(|one| one.message_id).collect()
}

impl Change {
    async fn wait_no_more(&mut self, account: AccountId, waiting: &[Waiting]) -> Result<(), StoreError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let mut sql = Builder::new("DELETE FROM search_waiting WHERE account_id = ");
        sql.push_bind(account.uuid()).push(" AND message_id IN (");
        sql.push_list(waiting.iter().map(|one| one.message_id)).push(")");
        sql.build::<()>().execute(self.on(account).await?).await?;
        Ok(())
    }

    /// The newest, and no more of them than can be held in memory.
    async fn waiting(&mut self, account: AccountId, piece: Piece) -> Result<Vec<Waiting>, StoreError> {
        let mut sql = Builder::new(
            "SELECT w.message_id, m.sent_at, m.size_bytes, EXISTS (SELECT 1 FROM search_documents d
             WHERE d.account_id = w.account_id AND d.message_id = w.message_id) AS is_indexed
             FROM search_waiting w LEFT JOIN messages m ON m.account_id = w.account_id AND m.message_id = w.message_id
             WHERE w.account_id = ",
        );
        sql.push_bind(account.uuid());
        sql.push(" ORDER BY w.message_id DESC LIMIT ").push(piece.messages);
        let mut waiting: Vec<Waiting> = sql.build().fetch_all(self.on(account).await?).await?;
        let size = |one: &Waiting| (one.size_bytes.unwrap_or_default().min(TEXT_MAX_OCTETS),);
        waiting.truncate(that_fit(&waiting.iter().map(size).collect::<Vec<_>>()));
        Ok(waiting)
    }

    async fn documents_of(
        &mut self,
        account: AccountId,
        ids: Vec<Uuid>,
    ) -> Result<Vec<SearchDocumentRow>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let people = self.people_of(account, &ids).await?;
        let messages = self.content_of(account, ids).await?;
        let keys = &self.store.inner.keys;
        let mut rows = Vec::with_capacity(messages.len());
        // The oldest first: of one second the one that came later is newer.
        for message in messages {
            let on_it = people.iter().filter(|(on, ..)| *on == message.message_id);
            let on_it = on_it.map(|(_, role, address)| (*role, address));
            let terms = Terms::of(&message.subject, &message.new_text);
            let sent_at = Timestamp::from_millis(message.sent_at);
            rows.push(document(keys, account, message.message_id, sent_at, &terms, on_it));
            // A long text takes milliseconds.
            tokio::task::consume_budget().await;
        }
        Ok(rows)
    }

    async fn content_of(&mut self, account: AccountId, ids: Vec<Uuid>) -> Result<Vec<Content>, StoreError> {
        // Nothing of a sealed text stands in an index.
        let mut sql = Builder::new(match self.store.seals_rows() {
            true => "SELECT m.message_id, '' AS subject, SUBSTR('', 1, ",
            false => "SELECT m.message_id, m.subject, SUBSTR(m.new_text, 1, ",
        });
        sql.push(TEXT_MAX_CHARS).push(") AS new_text, m.sent_at FROM messages m WHERE m.account_id = ");
        sql.push_bind(account.uuid()).push(" AND m.message_id IN (");
        sql.push_list(ids).push(") ORDER BY m.message_id");
        Ok(sql.build().fetch_all(self.on(account).await?).await?)
    }

    async fn people_of(
        &mut self,
        account: AccountId,
        ids: &[Uuid],
    ) -> Result<Vec<(Uuid, Role, EmailAddress)>, StoreError> {
        let mut sql =
            Builder::new("SELECT message_id, position, role, email FROM participants WHERE account_id = ");
        sql.push_bind(account.uuid()).push(" AND message_id IN (");
        sql.push_list(ids.iter().copied()).push(") ORDER BY message_id, position");
        let found: Vec<(Uuid, i64, String, String)> = sql.build().fetch_all(self.on(account).await?).await?;
        let keys = self.row_keys(account).await?;
        let mut people = Vec::with_capacity(found.len());
        for (message, position, role, email) in found {
            let email = keys.show("participants.email", position_of(message, position), email)?;
            people.extend(
                role_of(&role).zip(EmailAddress::parse(&email)).map(|(role, email)| (message, role, email)),
            );
        }
        Ok(people)
    }
}

/// Counting more would take longer than it is worth: it is many.
pub const WAITING_MAX: i64 = 10_001;
/// Of one account, before a search of it is answered.
const NEWEST_PIECES: u32 = 4;
/// Of one text, whatever else is in its mail: four octets a character at most.
const TEXT_MAX_OCTETS: i64 = 1 << 20;
