//! Who carries a purge out: the request that has begun it, for as long as a request may take, then the server.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::blobs::BlobName;
use crate::store::directory::DirectoryError;
use crate::store::directory::erase::Erased;
use crate::store::directory::purge::{PurgeId, PurgeStep};
use crate::store::engine::{Builder, Connection, query, query_as};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

impl Store {
    /// Works on a purge until it is over but for its last commit, or the time is up. Between two pieces others write.
    ///
    /// # Errors
    /// If the store fails; the server goes on later.
    pub async fn work_off(&self, purge: PurgeId, until: Instant) -> Result<PurgeStep, DirectoryError> {
        let mut erased = Erased::default();
        loop {
            let mut change = self.change().await?;
            let Some((job, is_last)) = change.purge_piece(purge).await? else {
                // The server itself has finished it meanwhile.
                return Ok(PurgeStep::Last(change, erased));
            };
            erased = job.erased;
            if is_last {
                return Ok(PurgeStep::Last(change, erased));
            }
            change.commit().await?;
            if Instant::now() >= until {
                self.inner.purges.notify_one();
                return Ok(PurgeStep::More(erased));
            }
        }
    }

    /// Returns when a purge wants to be gone on with.
    pub async fn purge_wanted(&self) {
        self.inner.purges.notified().await;
    }

    /// Finishes every purge that was begun before, and removes blobs that were left over. Returns how many purges were
    /// finished. Whoever has begun one a moment ago may be at work on it. One that fails holds up no other.
    ///
    /// # Errors
    /// The first, if anything failed; each is logged, and what is left waits for the next call.
    pub async fn finish_purges(&self, begun_before: Timestamp) -> Result<u64, DirectoryError> {
        let mut failed = self.remove_erased_blobs().await.err().map(DirectoryError::from);
        let mut finished = 0;
        let waiting: Vec<(Uuid, Uuid)> =
            query_as("SELECT account_id, purge_id FROM purges WHERE begun_at <= $1 ORDER BY begun_at, purge_id LIMIT $2")
                .bind(begun_before.as_millis())
                .bind(PURGES_AT_ONCE)
                .fetch_all(self.reader())
                .await
                .map_err(StoreError::from)?;
        for (account, id) in waiting {
            let purge = PurgeId { account: AccountId::from_uuid(account), id };
            match self.finish_purge_of(purge).await {
                Ok(_) => finished += 1,
                Err(error) => {
                    warn!(account.id = %purge.account, purge.id = %id, error = &error as &dyn std::error::Error, "purge.failed");
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(finished), Err)
    }

    /// Works on one purge to its end. Returns what was erased.
    async fn finish_purge_of(&self, purge: PurgeId) -> Result<Erased, DirectoryError> {
        loop {
            match self.work_off(purge, Instant::now() + ONE_STRETCH).await? {
                PurgeStep::Last(change, erased) => {
                    change.commit().await?;
                    return Ok(erased);
                }
                PurgeStep::More(_) => {}
            }
        }
    }

    /// Blobs whose rows are gone: after a crash, or where the blob store did not answer. A piece of which nothing can
    /// be removed ends the call, since the blob store may be away; the next call goes on behind it, so that what can
    /// never be removed holds up nothing else. Behind the last one it begins anew.
    async fn remove_erased_blobs(&self) -> Result<(), StoreError> {
        loop {
            let after = self.inner.erased_after.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let noted: Vec<(Uuid, String)> = query_as(
                "SELECT account_id, blob FROM erased_blobs WHERE (account_id, blob) > ($1, $2)
                 ORDER BY account_id, blob LIMIT $3",
            )
            .bind(after.0)
            .bind(after.1)
            .bind(BLOBS_AT_ONCE)
            .fetch_all(self.reader())
            .await?;
            let names = noted.iter().filter_map(|(_, name)| BlobName::parse(name)).collect();
            let gone = self.remove_noted(names).await?;
            let is_last = noted.len() < usize::try_from(BLOBS_AT_ONCE).unwrap_or_default();
            let next = noted.into_iter().next_back().filter(|_| !is_last).unwrap_or_default();
            *self.inner.erased_after.lock().unwrap_or_else(PoisonError::into_inner) = next;
            if is_last || gone == 0 {
                return Ok(());
            }
        }
    }

    /// Removes blobs and then the note that they are to be removed. Returns how many are gone.
    pub(in crate::store) async fn remove_noted(&self, names: Vec<BlobName>) -> Result<usize, StoreError> {
        if names.is_empty() {
            return Ok(0);
        }
        let gone = self.inner.blobs.erase(names).await;
        let mut change = self.begin().await?;
        for name in &gone {
            query("DELETE FROM erased_blobs WHERE account_id = $1 AND blob = $2")
                .bind(name.account.uuid())
                .bind(name.text())
                .execute(&mut *change)
                .await?;
        }
        change.commit().await?;
        Ok(gone.len())
    }
}

/// Notes in the transaction that these blobs are to go with it.
pub(in crate::store::directory) async fn note_blobs(
    connection: &mut Connection,
    names: &[BlobName],
) -> Result<(), sqlx::Error> {
    for name in names {
        let mut sql = Builder::new("INSERT INTO erased_blobs (account_id, blob) VALUES (");
        sql.push_bind(name.account.uuid()).push(", ").push_bind(name.text()).push(") ON CONFLICT DO NOTHING");
        sql.build::<()>().execute(&mut *connection).await?;
    }
    Ok(())
}

const PURGES_AT_ONCE: i64 = 1000;
const BLOBS_AT_ONCE: i64 = 500;
const ONE_STRETCH: Duration = Duration::from_secs(60);
