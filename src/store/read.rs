//! Stored messages read back, and the sweep of blobs that no row names.

use std::collections::HashSet;
use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::id::{AccountId, DeliveryId, MessageId};
use crate::store::blobs::BlobName;
use crate::store::engine::{query_as, query_scalar};
use crate::store::queries::{BLOBS_IN_USE, Two};
use crate::store::statement::select;
use crate::store::{Store, StoreError};

/// `content_key`, `raw`, `blob`.
pub(in crate::store) type Content = (Option<Vec<u8>>, Option<Vec<u8>>, Option<String>);

impl Store {
    /// A filed message as it is stored: what was received, under our trace fields. None if there is no such message
    /// in the account, or nothing was received (mail that the CRM registered).
    ///
    /// # Errors
    /// If the database fails, or this message is damaged.
    pub async fn raw_message(
        &self,
        account: AccountId,
        message: MessageId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let content =
            query_as("SELECT content_key, raw, blob FROM messages WHERE account_id = $1 AND message_id = $2")
                .bind(account.uuid())
                .bind(message.uuid())
                .fetch_optional(self.reader())
                .await?;
        self.open_content(account, message.uuid(), content).await
    }

    /// A held message, likewise.
    ///
    /// # Errors
    /// If the database fails, or this message is damaged.
    pub async fn raw_held(
        &self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let content =
            query_as("SELECT content_key, raw, blob FROM held WHERE account_id = $1 AND delivery_id = $2")
                .bind(account.uuid())
                .bind(delivery.uuid())
                .fetch_optional(self.reader())
                .await?;
        self.open_content(account, delivery.uuid(), content).await
    }

    /// Opens what a row holds or names.
    pub(in crate::store) async fn open_content(
        &self,
        account: AccountId,
        id: Uuid,
        content: Option<Content>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let damaged = |detail: String| StoreError::Damaged { name: id.to_string(), detail };
        let (content_key, sealed) = match content {
            None | Some((None, _, _)) => return Ok(None),
            Some((Some(_), None, None)) => return Err(damaged("its row holds nothing".to_owned())),
            Some((Some(key), Some(raw), _)) => (key, raw),
            Some((Some(key), None, Some(blob))) => {
                let name =
                    BlobName::parse(&blob).ok_or_else(|| damaged("its blob has no valid name".to_owned()))?;
                (key, self.inner.blobs.read(name).await?)
            }
        };
        let key = self.account_keys_for(account, &content_key).await?;
        // Unpacking tens of megabytes would hold up other work.
        let opening = tokio::task::spawn_blocking(move || key.open(id, &content_key, &sealed));
        let opened = opening.await.map_err(|_| StoreError::Defect("opening panicked"))?;
        opened.map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Removes blobs that belong to no message: of filings that were not committed, or not kept. Blobs younger than
    /// an hour may belong to a filing on its way and stay. Returns how many were removed.
    ///
    /// # Errors
    /// If the database or the blob folder fails.
    pub async fn sweep_blobs(&self) -> Result<usize, StoreError> {
        let accounts: Vec<Uuid> =
            query_scalar("SELECT account_id FROM accounts").fetch_all(self.reader()).await?;
        let accounts: HashSet<Uuid> = accounts.into_iter().collect();
        // A folder of an account that we do not know belongs to another database: hands off.
        let is_ours = |name: &BlobName| ready(accounts.contains(&name.account.uuid()));
        let old = self.inner.blobs.older_than(SWEPT_AFTER).await.try_filter(is_ours);
        let mut old = pin!(old.try_chunks(SWEEP_CHUNK));
        let mut swept = 0;
        while let Some(names) = old.try_next().await.map_err(|stopped| stopped.1)? {
            let orphans = self.orphans(names).await?;
            swept += orphans.len();
            self.inner.blobs.remove(orphans).await;
        }
        Ok(swept)
    }

    /// Those that no row names. A name is given out once: what is an orphan for an hour stays one.
    async fn orphans(&self, mut names: Vec<BlobName>) -> Result<Vec<BlobName>, StoreError> {
        let keys = names.iter().map(|name| Two(name.account.uuid(), name.id)).collect();
        let mut reader = self.reader().acquire().await?;
        let named: Vec<(String,)> = select(&mut reader, &BLOBS_IN_USE, keys).await?;
        let named: HashSet<String> = named.into_iter().map(|(name,)| name).collect();
        names.retain(|name| !named.contains(&name.text()));
        Ok(names)
    }
}

/// Far longer than a filing may take.
const SWEPT_AFTER: Duration = Duration::from_secs(60 * 60);
const SWEEP_CHUNK: usize = 256;
