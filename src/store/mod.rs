//! The only module that knows SQL. Everything it keeps belongs to one account (R4); [`Store`] is a cheap handle.

pub mod directory;
pub mod seal;
pub mod views;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::address::ServedDomains;
use crate::config::{self, StoreUrl};
use crate::keys::Keys;
use crate::store::seal::Vault;

/// The database and the blobs.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    read: SqlitePool,
    /// One connection: SQLite has one writer, and waiting for it in our queue is fairer than in its busy loop.
    write: SqlitePool,
    keys: Arc<Keys>,
    vault: Vault,
    served: ServedDomains,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement or connection failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Content could not be sealed or opened.
    #[error("content could not be sealed or opened")]
    Seal(#[from] seal::SealError),
    /// The folder or file cannot be used.
    #[error("cannot use {path}: {detail}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

impl Store {
    /// Opens the database, brings its schema up to date.
    ///
    /// # Errors
    /// If folder or database cannot be used.
    pub async fn open(
        config: &config::Store,
        keys: Arc<Keys>,
        served: ServedDomains,
    ) -> Result<Self, StoreError> {
        let StoreUrl::Sqlite(path) = &config.url;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| StoreError::Unusable {
                path: folder.to_owned(),
                detail: error.to_string(),
            })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("src/store/migrations/common").run(&write).await?;
        let read =
            SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        let vault = Vault::new(keys.master.clone());
        Ok(Self { inner: Arc::new(Inner { read, write, keys, vault, served }) })
    }

    /// Readers.
    fn reader(&self) -> &SqlitePool {
        &self.inner.read
    }

    /// A transaction that may write; waits for its turn behind the group-commit writer.
    async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, StoreError> {
        Ok(self.inner.write.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The key vault.
    fn vault(&self) -> &Vault {
        &self.inner.vault
    }
}

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
