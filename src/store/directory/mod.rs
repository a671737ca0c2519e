//! The directory: accounts, users and their identities, contacts, marks, tokens, reply addresses and mail that the
//! CRM registers. Knows nothing of HTTP; the commands use it too.
//!
//! Reads are methods of [`Store`]. Writes are methods of [`Change`], one transaction that the caller commits, so
//! that a write and what belongs to it (its event, its remembered answer) are on disk together or not at all.

mod accounts;
mod contact_changes;
mod contacts;
mod erase;
mod expiry;
mod held_filing;
mod idempotency;
mod identities;
pub mod import;
mod marks;
mod profile;
mod purge;
mod reply_addresses;
mod retention;
mod review;
mod rotation;
mod scopes;
mod sent_mail;
mod settings;
mod signers;
mod sync_addresses;
mod tokens;
mod undo;
mod users;
mod webhooks;

use serde_json::Value;
use tracing::warn;

pub use accounts::Account;
pub use contacts::{Contact, ContactChange, ContactFilter, CreatedBy, NewContact, fold};
pub use erase::Erased;
pub use held_filing::{HeldOutcome, HeldTarget, OpenedHeld};
pub use idempotency::{Remembered, Request, StoredAnswer};
pub use identities::{UserEmail, Verification};
pub use import::{FailedLine, ImportReport};
pub use marks::{Mark, MarkFilter, MarkState};
pub(in crate::store) use profile::UnaddressedFeed;
pub use profile::{Feeds, ForwardingConfirmation, Profile};
pub use purge::{PurgeId, PurgeOf, PurgeStep};
pub(in crate::store) use reply_addresses::MERGES_MAX;
pub use reply_addresses::{NewReplyAddress, ReplyAddress};
pub use retention::Expired;
pub use review::Erasing;
pub use rotation::{GRACE_MILLIS, Rotation};
pub use scopes::{Principal, Scope, Scopes};
pub use sent_mail::SentMail;
pub use settings::merge as merge_settings;
pub use signers::RememberedSigner;
pub use tokens::{NewToken, Token};
pub use undo::{Undone, undo_ends};
pub use users::{NewUser, SyncState, User};
pub use webhooks::{
    Detail, NewWebhook, SECRETS_OVERLAP_MILLIS, WEBHOOKS_MAX, Webhook, WebhookChange, WebhookState,
};

use crate::id::{AccountId, ConversationId, EventId};
use crate::store::blobs::BlobName;
use crate::store::engine::{Connection, Transaction, query, query_scalar};
use crate::store::seal::SealError;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Why the directory did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It contradicts what is on file.
    #[error("{0}")]
    Conflict(String),
    /// A value cannot be taken.
    #[error("{field}: {why}")]
    Invalid {
        /// Which, as the API names it.
        field: String,
        /// Why, in a few words.
        why: String,
    },
    /// There is no such thing in this account.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for DirectoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<SealError> for DirectoryError {
    fn from(error: SealError) -> Self {
        Self::Store(error.into())
    }
}

impl DirectoryError {
    fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), why: why.into() }
    }
}

/// One write transaction. Dropped without [`Self::commit`], nothing of it happened.
#[derive(Debug)]
#[must_use = "nothing is written before commit"]
pub struct Change {
    pub(in crate::store) tx: Transaction,
    /// Accounts in which nobody else writes until this ends.
    locked: Vec<AccountId>,
    pub(in crate::store) store: Store,
    pub(in crate::store) now: Timestamp,
    /// To be removed once no row names them any more.
    blobs: Vec<BlobName>,
    addresses: Addresses,
    /// Accounts whose events others wait for.
    rung: Vec<AccountId>,
    log: Log,
}

/// Whether the database's log may keep what this change takes away (R60).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Forget,
    /// Within a minute: more is taken away just now.
    ForgetLater,
    Keep,
}

/// Whether what the store remembers of addresses holds after this change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addresses {
    Same,
    Changed,
}

impl Store {
    /// Begins a write; waits for its turn behind other writers.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn change(&self) -> Result<Change, StoreError> {
        Ok(Change {
            tx: self.begin().await?,
            locked: Vec::new(),
            store: self.clone(),
            now: Timestamp::now(),
            blobs: Vec::new(),
            addresses: Addresses::Same,
            rung: Vec::new(),
            log: Log::Keep,
        })
    }
}

impl Change {
    /// Writes it to disk, then removes the blobs that nothing names any more. Whoever waits for it may go away, as a
    /// client does that hangs up: what follows the commit is done all the same.
    ///
    /// # Errors
    /// If the database fails; then nothing of it happened.
    pub async fn commit(self) -> Result<(), StoreError> {
        let done = tokio::spawn(self.commit_and_follow()).await;
        done.map_err(|_| StoreError::Defect("a commit panicked"))?
    }

    async fn commit_and_follow(mut self) -> Result<(), StoreError> {
        if self.addresses == Addresses::Changed {
            self.tx.announce_change().await?;
        }
        // A crash right after the commit leaves no blob behind.
        purge::note_blobs(&mut self.tx, &self.blobs).await?;
        self.tx.commit().await?;
        match self.addresses {
            Addresses::Changed => self.store.forget_addresses(),
            Addresses::Same => {}
        }
        self.store.inner.bell.ring(self.rung);
        if let Err(error) = self.store.remove_noted(self.blobs).await {
            // They are noted: the server removes them later.
            warn!(error = error.one_line(), "blobs.not_removed");
        }
        match self.log {
            Log::Forget => self.store.forget_log().await,
            Log::ForgetLater => self.store.suspect_log(),
            Log::Keep => {}
        }
        Ok(())
    }

    /// The transaction, to read and write in this account: from now on nobody else writes there, so that what was
    /// read holds until the commit.
    pub(in crate::store) async fn on(&mut self, account: AccountId) -> Result<&mut Connection, StoreError> {
        if !self.locked.contains(&account) {
            self.tx.lock_accounts(&[account]).await?;
            self.locked.push(account);
        }
        Ok(&mut self.tx)
    }

    /// The same without waiting for others: for statements that lean on a unique key alone.
    fn anywhere(&mut self) -> &mut Connection {
        &mut self.tx
    }

    async fn last_event(&mut self, account: AccountId) -> Result<Option<EventId>, StoreError> {
        let last: Option<uuid::Uuid> =
            query_scalar("SELECT event_id FROM events WHERE account_id = $1 ORDER BY event_id DESC LIMIT 1")
                .bind(account.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        Ok(last.map(EventId::from_uuid))
    }

    /// Puts an event into the outbox. `data` holds ids and headers, never text.
    pub(in crate::store) async fn emit(
        &mut self,
        account: AccountId,
        kind: &str,
        conversation: Option<ConversationId>,
        data: &Value,
    ) -> Result<EventId, StoreError> {
        let event = EventId::generate().behind(self.last_event(account).await?);
        let data = self.row_keys(account).await?.hide("events.data", event.uuid(), data.to_string())?;
        query(
            "INSERT INTO events (account_id, event_id, type, at, conversation_id, data) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(account.uuid())
        .bind(event.uuid())
        .bind(kind)
        .bind(self.now.as_millis())
        .bind(conversation.map(ConversationId::uuid))
        .bind(data)
        .execute(self.on(account).await?)
        .await?;
        self.rung.push(account);
        Ok(event)
    }
}

/// Text that must say something and stay within `max_chars`, trimmed.
fn checked_text(field: &'static str, text: &str, max_chars: usize) -> Result<String, DirectoryError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(DirectoryError::invalid(field, "must not be empty"));
    }
    if text.chars().count() > max_chars {
        return Err(DirectoryError::invalid(field, format!("at most {max_chars} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(DirectoryError::invalid(field, "must not hold control characters"));
    }
    Ok(text.to_owned())
}

/// An address as given, checked.
fn checked_email(field: &str, text: &str) -> Result<crate::address::EmailAddress, DirectoryError> {
    crate::address::EmailAddress::parse(text.trim())
        .ok_or_else(|| DirectoryError::invalid(field, "is no email address"))
}

/// Names of people, accounts, tokens.
const NAME_MAX_CHARS: usize = 200;
