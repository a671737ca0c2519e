//! The queue of the relay: claimed with a lease, sent by others, settled. At least once; the lease tells who may
//! settle.

use serde_json::json;
use sqlx::FromRow;
use tracing::warn;
use uuid::Uuid;

use crate::id::{AccountId, ConversationId, MessageId, UserId};
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{Connection, query, query_as, query_scalar};
use crate::store::facts::day;
use crate::store::row_keys::Index;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Something to send.
#[derive(Clone, Debug)]
pub struct RelayJob {
    /// The account.
    pub account: AccountId,
    /// Its id: of the first copy of a message, that of the message.
    pub id: Uuid,
    /// Of a further copy, to another contact: the message.
    pub message: Option<MessageId>,
    /// What is sent to whom.
    pub kind: RelayKind,
    /// Of a copy.
    pub conversation: Option<ConversationId>,
    /// Whose mail it is, or whom it is for.
    pub user: Option<UserId>,
    /// Of a confirmation: the folded address.
    pub email_key: Option<String>,
    /// Attempts begun, this one included.
    pub attempts: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl RelayJob {
    /// The message that a copy is of.
    #[must_use]
    pub fn message(&self) -> MessageId {
        self.message.unwrap_or_else(|| MessageId::from_uuid(self.id))
    }
}

/// What is sent to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayKind {
    /// A link to a new address of a user (R12).
    Confirmation,
    /// A copy of a user's mail to the contact (R46).
    Contact,
    /// To a user: how much held mail waits.
    Digest,
    /// A copy of an answer to staff (R49).
    Staff,
}

impl RelayKind {
    /// The word of API and store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmation => "confirmation",
            Self::Contact => "contact",
            Self::Digest => "digest",
            Self::Staff => "staff",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [Self::Confirmation, Self::Contact, Self::Digest, Self::Staff]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// To be tried again at this time.
    Again {
        /// Not before.
        at: Timestamp,
        /// Why.
        reply: String,
    },
    /// There is nothing to send any more.
    Cancelled(&'static str),
    /// Refused for good, or given up.
    Failed(String),
    /// The smarthost has taken it.
    Sent(String),
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct RelayJobView {
    /// Its id.
    pub job_id: Uuid,
    /// See [`RelayKind`].
    pub kind: String,
    /// Of a copy.
    pub conversation_id: Option<Uuid>,
    /// Whose mail it is, or whom it is for.
    pub user_id: Option<Uuid>,
    /// `waiting`, `sending`, `sent`, `failed` or `cancelled`.
    pub state: String,
    /// Attempts begun.
    pub attempts: i64,
    /// The next attempt, not before; Unix milliseconds.
    pub next_at: i64,
    /// When it was asked for; Unix milliseconds.
    pub created_at: i64,
    /// When it was sent, failed or cancelled; Unix milliseconds.
    pub settled_at: Option<i64>,
    /// What the smarthost said last.
    pub last_reply: Option<String>,
}

/// What waits, over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayQueue {
    /// Jobs.
    pub waiting: u64,
    /// The oldest of them.
    pub oldest: Option<Timestamp>,
}

type Due = (Uuid, Uuid, Option<Uuid>, String, Option<Uuid>, Option<Uuid>, Option<String>, i64, i64);

impl Store {
    /// Takes what is due: nobody else does until `lease_until`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_relay_jobs(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<RelayJob>, StoreError> {
        let due: Vec<Due> = query_as(
            "SELECT account_id, job_id, message_id, kind, conversation_id, user_id, email_key, attempts, created_at
             FROM relay_jobs WHERE state IN ('sending', 'waiting') AND next_at <= $1
             ORDER BY next_at, job_id LIMIT $2",
        )
        .bind(now.as_millis())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin().await?;
        let mut claimed = Vec::with_capacity(due.len());
        for (account, id, message, kind, conversation, user, email_key, attempts, created_at) in due {
            // Whoever claimed it meanwhile has counted the attempt.
            let taken = query(
                "UPDATE relay_jobs SET state = 'sending', attempts = attempts + 1, next_at = $4
                 WHERE account_id = $1 AND job_id = $2 AND attempts = $3 AND state IN ('sending', 'waiting')",
            )
            .bind(account)
            .bind(id)
            .bind(attempts)
            .bind(lease_until.as_millis())
            .execute(&mut *tx)
            .await?;
            let Some(kind) = RelayKind::read(&kind).filter(|_| taken == 1) else { continue };
            let account = AccountId::from_uuid(account);
            let of = (account, id);
            let Some(email_key) = self.email_key(&mut tx, of, email_key, now).await? else { continue };
            claimed.push(RelayJob {
                account,
                id,
                message: message.map(MessageId::from_uuid),
                kind,
                conversation: conversation.map(ConversationId::from_uuid),
                user: user.map(UserId::from_uuid),
                email_key,
                attempts: u32::try_from(attempts.saturating_add(1)).unwrap_or(u32::MAX),
                created_at: Timestamp::from_millis(created_at),
            });
        }
        tx.commit().await?;
        Ok(claimed)
    }

    /// To whom a job goes, if to one of our users; none if it cannot be read: it holds up no other.
    async fn email_key(
        &self,
        tx: &mut Connection,
        (account, id): (AccountId, Uuid),
        stored: Option<String>,
        now: Timestamp,
    ) -> Result<Option<Option<String>>, StoreError> {
        let Some(stored) = stored else { return Ok(Some(None)) };
        let keys = self.inner.rows.of(tx, account).await;
        match keys.and_then(|keys| keys.show_index(Index::Address, stored)) {
            Ok(email_key) => Ok(Some(Some(email_key))),
            Err(StoreError::Damaged { .. }) => {
                warn!(account.id = %account, job.id = %id, "relay.job_damaged");
                query(DAMAGED).bind(account.uuid()).bind(id).bind(now.as_millis()).execute(tx).await?;
                Ok(None)
            }
            // Again when its lease ends.
            Err(error @ (StoreError::NoSuchAccount | StoreError::Seal(_))) => {
                warn!(account.id = %account, job.id = %id, error = error.one_line(), "relay.job_waits");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// At the start: where one process alone sends (SQLite), the leases of one that died are nobody's.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn release_relay_jobs(&self, now: Timestamp) -> Result<u64, StoreError> {
        if !self.inner.sends_alone {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let released = query("UPDATE relay_jobs SET state = 'waiting', next_at = $1 WHERE state = 'sending'")
            .bind(now.as_millis())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(released)
    }

    /// Writes how an attempt ended, if the lease is still ours; a failure is an event too.
    ///
    /// # Errors
    /// If the database fails: the job is tried again when its lease ends.
    pub async fn settle_relay_job(&self, job: &RelayJob, settled: &Settled) -> Result<(), DirectoryError> {
        let mut change = self.change().await?;
        change.settle_relay_job(job, settled).await?;
        Ok(change.commit().await?)
    }

    /// What waits, over all accounts.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn relay_queue(&self) -> Result<RelayQueue, StoreError> {
        let (waiting, oldest): (i64, Option<i64>) = query_as(
            "SELECT COUNT(*), MIN(created_at) FROM relay_jobs WHERE state IN ('sending', 'waiting')",
        )
        .fetch_one(self.reader())
        .await?;
        let waiting = u64::try_from(waiting).unwrap_or_default();
        Ok(RelayQueue { waiting, oldest: oldest.map(Timestamp::from_millis) })
    }

    /// The jobs of an account, newest first; those in one state, if it is named.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn relay_jobs(
        &self,
        account: AccountId,
        state: Option<&str>,
        slice: Slice,
    ) -> Result<Page<RelayJobView>, StoreError> {
        let before = slice.after.unwrap_or(Key::of_time(i64::MAX, Uuid::max()));
        let mut rows: Vec<RelayJobView> = query_as(
            "SELECT job_id, kind, conversation_id, user_id, state, attempts, next_at, created_at, settled_at, last_reply
             FROM relay_jobs WHERE account_id = $1 AND (created_at < $2 OR (created_at = $2 AND job_id < $3))
             AND ($4 = '' OR state = $4) ORDER BY created_at DESC, job_id DESC LIMIT $5",
        )
        .bind(account.uuid())
        .bind(before.at)
        .bind(before.id)
        .bind(state.unwrap_or_default())
        .bind(slice.fetch_limit())
        .fetch_all(self.reader())
        .await?;
        let keys = self.row_keys(account).await?;
        for row in &mut rows {
            let reply = row.last_reply.take();
            row.last_reply = keys.show_some_or_nothing("relay_jobs.last_reply", row.job_id, reply);
        }
        Ok(slice.page(rows, |row| Key::of_time(row.created_at, row.job_id)))
    }
}

impl Change {
    /// R3: what was sent, failed or cancelled before `before` is forgotten; so are links that are over. A batch of each;
    /// returns how many there were.
    pub(in crate::store) async fn expire_relay(
        &mut self,
        account: AccountId,
        now: Timestamp,
        before: Timestamp,
    ) -> Result<u64, DirectoryError> {
        let mut ended = 0;
        for (statement, limit) in [
            (
                "DELETE FROM relay_jobs WHERE account_id = $1 AND job_id IN
                 (SELECT job_id FROM relay_jobs WHERE account_id = $1 AND settled_at < $2 LIMIT $3)",
                before,
            ),
            (
                "DELETE FROM email_confirmations WHERE account_id = $1 AND confirmation_id IN
                 (SELECT confirmation_id FROM email_confirmations WHERE account_id = $1 AND expires_at < $2 LIMIT $3)",
                now,
            ),
        ] {
            let statement = query(statement).bind(account.uuid()).bind(limit.as_millis()).bind(ENDED_AT_ONCE);
            ended += statement.execute(self.on(account).await?).await?;
        }
        // One a user and day at most.
        let digests = query("DELETE FROM relay_digests WHERE account_id = $1 AND day < $2")
            .bind(account.uuid())
            .bind(day(before))
            .execute(self.on(account).await?)
            .await?;
        Ok(ended + digests)
    }

    /// A failed or cancelled job waits again, and is tried at once; those of the last 3 days go on being tried.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` for one that waits or was sent.
    pub async fn retry_relay_job(&mut self, account: AccountId, job: Uuid) -> Result<(), DirectoryError> {
        let state: Option<String> =
            query_scalar("SELECT state FROM relay_jobs WHERE account_id = $1 AND job_id = $2")
                .bind(account.uuid())
                .bind(job)
                .fetch_optional(self.on(account).await?)
                .await?;
        let state = state.ok_or(DirectoryError::NotFound("relay job"))?;
        if state != "failed" && state != "cancelled" {
            return Err(DirectoryError::Conflict(format!("it is {state}")));
        }
        query(
            "UPDATE relay_jobs SET state = 'waiting', next_at = $3, settled_at = NULL
             WHERE account_id = $1 AND job_id = $2 AND state = $4",
        )
        .bind(account.uuid())
        .bind(job)
        .bind(self.now.as_millis())
        .bind(state)
        .execute(self.on(account).await?)
        .await?;
        Ok(())
    }

    async fn settle_relay_job(&mut self, job: &RelayJob, settled: &Settled) -> Result<(), DirectoryError> {
        let (state, next_at, reply) = match settled {
            Settled::Again { at, reply } => ("waiting", *at, reply.as_str()),
            Settled::Cancelled(why) => ("cancelled", self.now, *why),
            Settled::Failed(reply) => ("failed", self.now, reply.as_str()),
            Settled::Sent(reply) => ("sent", self.now, reply.as_str()),
        };
        let reply: String = reply.chars().filter(|c| !c.is_control()).take(REPLY_MAX_CHARS).collect();
        let keys = self.row_keys(job.account).await?;
        let ours = query(
            "UPDATE relay_jobs SET state = $4, next_at = $5, settled_at = $6, last_reply = $7
             WHERE account_id = $1 AND job_id = $2 AND attempts = $3 AND state = 'sending'",
        )
        .bind(job.account.uuid())
        .bind(job.id)
        .bind(i64::from(job.attempts))
        .bind(state)
        .bind(next_at.as_millis())
        .bind((state != "waiting").then_some(self.now.as_millis()))
        .bind(keys.hide("relay_jobs.last_reply", job.id, reply.as_str())?)
        .execute(self.on(job.account).await?)
        .await?;
        if ours == 1 && matches!(settled, Settled::Failed(_)) {
            let is_copy = matches!(job.kind, RelayKind::Contact | RelayKind::Staff);
            let data = json!({
                "job_id": job.id, "kind": job.kind.as_str(), "conversation_id": job.conversation,
                "message_id": is_copy.then(|| job.message()), "user_id": job.user, "reply": reply,
            });
            self.emit(job.account, "relay.failed", job.conversation, &data).await?;
        }
        Ok(())
    }
}

/// `$1` the account, `$2` the job, `$3` now.
const DAMAGED: &str =
    "UPDATE relay_jobs SET state = 'failed', settled_at = $3 WHERE account_id = $1 AND job_id = $2";
/// Rows that are forgotten in one transaction.
const ENDED_AT_ONCE: i64 = 1_000;
/// What is kept of a reply.
const REPLY_MAX_CHARS: usize = 300;
