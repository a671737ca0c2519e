//! The store examined by `check`: the schema without touching it, a write that leaves nothing, every content opened.
//!
//! Promises to hold a few messages in memory at a time, however many there are, and to go on behind a damaged one.

use std::num::NonZeroU32;

use uuid::Uuid;

use crate::config;
use crate::id::{AccountId, ContactId, DeliveryId, MessageId};
use crate::store::blobs::BlobName;
use crate::store::engine::{self, Engine, query, query_scalar};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

pub use crate::store::engine::migrations::Schema;

/// A stored content: of a filed message or a held one; or a row that may be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentId {
    /// A contact.
    Contact(ContactId),
    /// The trace of a delivery.
    Delivery(DeliveryId),
    /// A held delivery.
    Held(DeliveryId),
    /// A message on a record.
    Message(MessageId),
}

/// Which table is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// Contacts, where rows are sealed.
    Contacts,
    /// Traces, where rows are sealed.
    Deliveries,
    /// Held mail.
    Held,
    /// Filed mail.
    Messages,
}

impl Schema {
    /// Looks at a database without creating or changing it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn of(config: &config::Store) -> Result<Self, StoreError> {
        engine::migrations::survey(&config.url).await
    }

    /// Whether there is a database with accounts in it, whose keys are sealed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn has_accounts(config: &config::Store) -> Result<bool, StoreError> {
        engine::migrations::is_sealed(&config.url).await
    }
}

impl Store {
    /// Writes a row and takes it back; then writes, reads and removes a blob.
    ///
    /// # Errors
    /// If one of them cannot be done.
    pub async fn try_to_write(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        query("UPDATE accounts SET name = name WHERE account_id = $1")
            .bind(AccountId::OPERATOR.uuid())
            .execute(&mut *transaction)
            .await?;
        // Dropped without a commit, it is rolled back.
        drop(transaction);
        let name = BlobName::new(AccountId::OPERATOR, Uuid::now_v7());
        let written = name.text().into_bytes();
        self.inner.blobs.put(name, written.clone()).await?;
        let read = self.inner.blobs.read(name).await;
        self.inner.blobs.remove(vec![name]).await;
        if read? == written {
            return Ok(());
        }
        Err(StoreError::Damaged { name: name.text(), detail: "it was not read as it was written".to_owned() })
    }

    /// What SQLite itself finds wrong with the database file; nothing if all is well. Reads all of it. A PostgreSQL
    /// server checks its pages by itself.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn database_faults(&self) -> Result<Vec<String>, StoreError> {
        let mut reader = self.reader().acquire().await?;
        if reader.engine() == Engine::Postgres {
            return Ok(Vec::new());
        }
        let found: Vec<String> = query_scalar("PRAGMA quick_check(20)").fetch_all(&mut reader).await?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// Every account, the operator's too.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn all_account_ids(&self) -> Result<Vec<AccountId>, StoreError> {
        let ids: Vec<Uuid> = query_scalar("SELECT account_id FROM accounts ORDER BY account_id")
            .fetch_all(self.reader())
            .await?;
        Ok(ids.into_iter().map(AccountId::from_uuid).collect())
    }

    /// When the account's last delivery came; none if there was none. Ids are in the order of time.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn last_delivery_at(&self, account: AccountId) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> =
            query_scalar("SELECT at FROM deliveries WHERE account_id = $1 ORDER BY delivery_id DESC LIMIT 1")
                .bind(account.uuid())
                .fetch_optional(self.reader())
                .await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// The next contents of an account behind `after`, in the order of their ids; also messages that have none (of a
    /// CRM). SQLite reads the index alone: a row on a damaged page is listed all the same.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn contents(
        &self,
        account: AccountId,
        kind: ContentKind,
        after: Option<ContentId>,
        limit: NonZeroU32,
    ) -> Result<Vec<ContentId>, StoreError> {
        if !self.seals_rows() && matches!(kind, ContentKind::Contacts | ContentKind::Deliveries) {
            return Ok(Vec::new());
        }
        let statement = match kind {
            ContentKind::Contacts => {
                "SELECT contact_id FROM contacts WHERE account_id = $1 AND contact_id > $2 \
                 ORDER BY contact_id LIMIT $3"
            }
            ContentKind::Deliveries => {
                "SELECT delivery_id FROM deliveries WHERE account_id = $1 AND delivery_id > $2 \
                 ORDER BY delivery_id LIMIT $3"
            }
            ContentKind::Held => {
                "SELECT delivery_id FROM held WHERE account_id = $1 AND delivery_id > $2 \
                 ORDER BY delivery_id LIMIT $3"
            }
            ContentKind::Messages => {
                "SELECT message_id FROM messages WHERE account_id = $1 AND message_id > $2 \
                 ORDER BY message_id LIMIT $3"
            }
        };
        let ids: Vec<Uuid> = query_scalar(statement)
            .bind(account.uuid())
            .bind(after.map_or(Uuid::nil(), ContentId::uuid))
            .bind(i64::from(limit.get()))
            .fetch_all(self.reader())
            .await?;
        let id = |id| match kind {
            ContentKind::Contacts => ContentId::Contact(ContactId::from_uuid(id)),
            ContentKind::Deliveries => ContentId::Delivery(DeliveryId::from_uuid(id)),
            ContentKind::Held => ContentId::Held(DeliveryId::from_uuid(id)),
            ContentKind::Messages => ContentId::Message(MessageId::from_uuid(id)),
        };
        Ok(ids.into_iter().map(id).collect())
    }

    /// Reads a content and what the row says of it, opens it, and forgets it. One that has been erased meanwhile is
    /// no fault.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Corrupt`] where this one is to blame; others if the store is.
    pub async fn try_to_open(&self, account: AccountId, id: ContentId) -> Result<(), StoreError> {
        match id {
            ContentId::Contact(contact) => {
                self.contact(account, contact).await?;
            }
            ContentId::Delivery(delivery) => {
                self.delivery(account, delivery).await?;
            }
            ContentId::Held(delivery) => {
                self.held_mail(account, delivery).await?;
                self.raw_held(account, delivery).await?;
            }
            ContentId::Message(message) => {
                self.message(account, message).await?;
                self.raw_message(account, message).await?;
            }
        }
        Ok(())
    }
}

impl ContentId {
    const fn uuid(self) -> Uuid {
        match self {
            Self::Contact(contact) => contact.uuid(),
            Self::Delivery(delivery) | Self::Held(delivery) => delivery.uuid(),
            Self::Message(message) => message.uuid(),
        }
    }
}

impl std::fmt::Display for ContentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Contact(contact) => write!(f, "contact {contact}"),
            Self::Delivery(delivery) => write!(f, "delivery {delivery}"),
            Self::Held(delivery) => write!(f, "held message {delivery}"),
            Self::Message(message) => write!(f, "message {message}"),
        }
    }
}
