//! The only module that knows SQL. Everything it keeps belongs to one account (R4); [`Store`] is a cheap handle.
//!
//! Promises that what [`Store::file`] has answered is on disk (R2), that facts and effects are read and written in
//! one transaction, and that whoever was answered an error finds nothing written.

pub mod audit;
mod batch;
mod bell;
mod blobs;
mod cache;
mod clock_mark;
pub mod directory;
mod effects;
mod engine;
mod events;
pub mod examine;
pub mod export;
mod facts;
mod forget;
pub mod import;
mod keyring;
mod line_seal;
pub mod lines;
mod load;
mod mailbox;
mod notices;
pub mod outbox;
mod outbox_tidy;
mod pieces;
mod queries;
mod queue;
mod read;
mod record;
mod relay;
mod relay_content;
mod relay_jobs;
mod reseal;
pub mod rewrap;
mod row_keyring;
mod row_keys;
mod row_seal;
mod rows;
pub mod seal;
pub mod search;
mod statement;
mod submission;
mod turns;
mod undo_link;
pub mod views;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::address::ServedDomains;
use crate::config::{self, StoreUrl};
use crate::id::AccountId;
use crate::keys::Keys;
use crate::store::bell::Bell;
use crate::store::blobs::Blobs;
use crate::store::engine::{Pool, Pools, Transaction, query};
use crate::store::keyring::Keyring;
use crate::store::mailbox::Addresses;
use crate::store::row_keyring::RowVault;
use crate::store::seal::{AccountKeys, MasterKeyId, Vault};

pub use bell::{Ring, Rings};
pub use engine::{BadPostgresUrl, PostgresUrl};
pub use mailbox::Lookup;
pub use notices::Confirmation;
pub use relay_content::{CopyFacts, DigestFacts, Gone};
pub use relay_jobs::{RelayJob, RelayJobView, RelayKind, RelayQueue, Settled};
pub use row_keyring::RowsAs;
pub use submission::{Filed, Refusal, Submission};
pub use undo_link::Undoable;
pub use writer::Batches;

/// The database and the blobs.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What is remembered of the database until somebody changes it.
#[derive(Clone, Debug)]
struct Remembered {
    addresses: Arc<Addresses>,
    keyring: Arc<Keyring>,
}

impl Remembered {
    fn new() -> Self {
        Self { addresses: Arc::new(Addresses::new()), keyring: Arc::new(Keyring::new()) }
    }

    /// What makes it forget.
    fn forgetting(&self) -> impl Fn() + Clone + Send + Sync + 'static {
        let remembered = self.clone();
        move || {
            remembered.addresses.forget();
            remembered.keyring.forget();
        }
    }
}

#[derive(Debug)]
struct Inner {
    read: Pool,
    write: Pool,
    keys: Arc<Keys>,
    vault: Vault,
    rows: RowVault,
    served: ServedDomains,
    blobs: Blobs,
    addresses: Arc<Addresses>,
    keyring: Arc<Keyring>,
    bell: Bell,
    writer: writer::Handle,
    closed: CancellationToken,
    /// Where there is a relay: the domain of its Message-IDs.
    relay_domain: Option<String>,
    /// Whether no other process sends from this store.
    sends_alone: bool,
    /// A purge wants to be gone on with.
    purges: Notify,
    /// Account and name of the blob up to which what is to be removed has been tried.
    erased_after: Mutex<(Uuid, String)>,
    /// Something may have been erased that still stands in the database's log.
    suspects_log: AtomicBool,
}

/// Whether there is a smarthost that copies and notices can go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relays {
    /// Nothing is sent.
    No,
    /// What is to be sent is put into the queue.
    Yes,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or does not let us in.
    #[error("cannot use {database}")]
    Away {
        /// The database.
        database: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The store has been closed, or its writer has died.
    #[error("the store is closed")]
    Closed,
    /// A batch could not be written; nothing of it is on disk.
    #[error("the database could not write")]
    Commit(#[source] Arc<sqlx::Error>),
    /// The file is there, but it, or the part that was asked for, cannot be read.
    #[error("{path} is not a database, or is damaged")]
    Corrupt {
        /// The database.
        path: PathBuf,
    },
    /// A stored message cannot be read back; others can.
    #[error("the stored content {name} is damaged: {detail}")]
    Damaged {
        /// The blob or row.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// A statement or connection failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// Another process holds the database.
    #[error("{path} is locked by another process")]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// The schema could not be brought up to date.
    #[error("the database schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The submission asks for something that cannot be: a defect of ours.
    #[error("a message could not be filed: {0}")]
    Defect(&'static str),
    /// There is no such account.
    #[error("there is no such account")]
    NoSuchAccount,
    /// The change of its rows was broken off.
    #[error(
        "the rows of {database} are partly sealed: run `syncmx migrate --seal-rows` (or `--unseal-rows`) to its end"
    )]
    RowsBetween {
        /// The database.
        database: String,
    },
    /// `store.seal_rows` is on, but what is there is clear.
    #[error("the rows of {database} are not sealed: stop every server, run `syncmx migrate --seal-rows`")]
    RowsClear {
        /// The database.
        database: String,
    },
    /// `store.seal_rows` is off, but what is there is sealed.
    #[error(
        "the rows of {database} are sealed: set store.seal_rows = true, or stop every server and run `syncmx migrate --unseal-rows`"
    )]
    RowsSealed {
        /// The database.
        database: String,
    },
    /// The database is of an earlier program, and nobody has said that it may be changed.
    #[error(
        "{database} has not got schema version {version}: run `syncmx migrate`, or `syncmx serve --migrate`"
    )]
    SchemaBehind {
        /// The database.
        database: String,
        /// The first version that it has not got.
        version: i64,
    },
    /// The database is of a later program.
    #[error("{database} has schema version {version}, which is newer than this program")]
    SchemaNewer {
        /// The database.
        database: String,
        /// The first version that is unknown here.
        version: i64,
    },
    /// Content could not be sealed or opened.
    #[error("content could not be sealed or opened")]
    Seal(#[from] seal::SealError),
    /// The database's settings would break what we promise.
    #[error("cannot use {database}: {detail}")]
    Unfit {
        /// The database.
        database: String,
        /// Which setting.
        detail: String,
    },
    /// The account takes no mail before all of it is here.
    #[error("the account's import is not finished")]
    Importing,
    /// The store took too long; nothing was written, and nothing will be.
    #[error("the store took too long")]
    TimedOut,
    /// The folder or file cannot be used.
    #[error("cannot use {path}: {detail}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The accounts' keys were sealed with another master key.
    #[error(
        "{holder} does not fit {database}: its content was sealed with {}, {holder} holds {has}",
        shown(*needs)
    )]
    WrongMasterKey {
        /// The database.
        database: String,
        /// The key that it was sealed with, where it says so.
        needs: Option<MasterKeyId>,
        /// The keys that there are.
        has: String,
        /// Where they come from.
        holder: &'static str,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let damaged = || Self::Corrupt { path: "a part of the database".into() };
        // What did not open while a statement's rows were read says itself what it is.
        if let sqlx::Error::Decode(source) = error {
            return source.downcast::<Self>().map_or_else(|_| damaged(), |said| *said);
        }
        if engine::is_damage(&error) {
            return damaged();
        }
        Self::Database(error)
    }
}

fn shown(needed: Option<MasterKeyId>) -> String {
    needed.map_or_else(|| "another master key".to_owned(), |id| format!("master key {id}"))
}

impl StoreError {
    /// Whether the database would do it for another role than the one that we are.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Database(error) if engine::is_forbidden(error))
    }

    /// The error and what caused it, on one line.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line.replace(['\r', '\n'], " ")
    }
}

impl Store {
    /// Brings the database's schema up to date; returns its version.
    ///
    /// # Errors
    /// If the database cannot be used, or is newer than this program.
    pub async fn migrate(config: &config::Store) -> Result<i64, StoreError> {
        create_data_folder(&config.url)?;
        engine::migrations::run(&config.url).await?;
        Ok(engine::migrations::latest(&config.url))
    }

    /// Opens database and blob folder, brings the schema of SQLite up to date, checks that the master key fits, and
    /// starts the writer.
    ///
    /// # Errors
    /// If a folder or the database cannot be used, or the master key does not fit.
    pub async fn open(
        config: &config::Store,
        keys: Arc<Keys>,
        served: ServedDomains,
    ) -> Result<Self, StoreError> {
        Self::open_with(config, keys, served, Relays::No).await
    }

    /// The same; with a relay, copies are put into its queue.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn open_with(
        config: &config::Store,
        keys: Arc<Keys>,
        served: ServedDomains,
        relays: Relays,
    ) -> Result<Self, StoreError> {
        create_data_folder(&config.url)?;
        let remembered = Remembered::new();
        let pools = engine::connect(&config.url, remembered.forgetting()).await?;
        Self::on(pools, remembered, config, keys, served, relays).await
    }

    /// What is left of a damaged database: each read tells what it misses, and nothing can be written.
    ///
    /// # Errors
    /// If too little is left.
    pub async fn open_torn(
        config: &config::Store,
        keys: Arc<Keys>,
        served: ServedDomains,
    ) -> Result<Self, StoreError> {
        let pools = engine::connect_torn(&config.url).await?;
        Self::on(pools, Remembered::new(), config, keys, served, Relays::No).await
    }

    async fn on(
        pools: Pools,
        remembered: Remembered,
        config: &config::Store,
        keys: Arc<Keys>,
        served: ServedDomains,
        relays: Relays,
    ) -> Result<Self, StoreError> {
        let Pools { read, write, filing } = pools;
        let relay_domain = (relays == Relays::Yes).then(|| served.reply_domain().to_owned());
        let sends_alone = matches!(config.url, StoreUrl::Sqlite(_));
        let blobs = Blobs::open(&config.blobs)?;
        let vault = Vault::new(keys.master.clone());
        let rows_as = if config.seal_rows { RowsAs::Sealed } else { RowsAs::Clear };
        keyring::check_master(&write, &vault, &config.url, rows_as).await?;
        let rows = RowVault::open(&write, &vault, &config.url, rows_as).await?;
        let (bell, closed) = (Bell::new(), CancellationToken::new());
        if let StoreUrl::Postgres(url) = &config.url {
            engine::listen(url.clone(), remembered.forgetting(), closed.clone()).await?;
        }
        // Nothing is remembered yet: what others wrote before is no reason to forget.
        let version = match filing.has_data_version() {
            true => filing.acquire().await?.data_version().await?.unwrap_or_default(),
            false => 0,
        };
        let Remembered { addresses, keyring } = remembered;
        let writer = writer::Handle::start(writer::Desk {
            filing,
            rows: rows.clone(),
            keys: keys.clone(),
            served_domains: served.all(),
            relay_domain: relay_domain.clone(),
            addresses: addresses.clone(),
            keyring: keyring.clone(),
            bell: bell.clone(),
            data_version: AtomicI64::new(version),
            counters: Arc::default(),
            patience: writer::Patience::default(),
        })
        .map_err(sqlx::Error::Io)?;
        let inner = Inner {
            read,
            write,
            keys,
            vault,
            rows,
            served,
            blobs,
            addresses,
            keyring,
            bell,
            writer,
            closed,
            relay_domain,
            sends_alone,
            purges: Notify::new(),
            erased_after: Mutex::default(),
            suspects_log: AtomicBool::new(true),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes what is waiting, stops the writer, closes the connections. What comes later is answered
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        self.inner.writer.close().await;
        self.inner.closed.cancel();
        self.inner.write.close().await;
        self.inner.read.close().await;
    }

    /// Whether the store answers: for `/readyz`.
    ///
    /// # Errors
    /// If the database does not answer within 2 seconds, or the writer has stopped.
    pub async fn ping(&self) -> Result<(), StoreError> {
        if self.inner.writer.is_closed() {
            return Err(StoreError::Closed);
        }
        let answer = query("SELECT 1").execute(self.reader());
        tokio::time::timeout(PING_LIMIT, answer).await.map_err(|_| StoreError::TimedOut)??;
        Ok(())
    }

    /// How the writer has grouped its work since the start.
    #[must_use]
    pub fn batches(&self) -> Batches {
        self.inner.writer.batches()
    }

    /// To be called after a change to users, sync addresses or accounts that this process made; changes by others
    /// are noticed within a second.
    pub fn forget_addresses(&self) {
        self.inner.addresses.forget();
        self.inner.keyring.forget();
    }

    /// Hears of committed events.
    #[must_use]
    pub fn listen(&self) -> Rings {
        self.inner.bell.listen()
    }

    /// Readers.
    fn reader(&self) -> &Pool {
        &self.inner.read
    }

    /// A transaction that may write; waits for its turn behind the group-commit writer.
    async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.inner.write.begin_writing().await?)
    }

    /// The key vault.
    fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// The keys of an account, unwrapped.
    async fn account_keys(&self, account: AccountId) -> Result<Arc<AccountKeys>, StoreError> {
        self.inner.keyring.keys(self.reader(), self.vault(), account).await
    }

    /// The same, to open this content key: it may be wrapped by a key that has been made since.
    async fn account_keys_for(
        &self,
        account: AccountId,
        content_key: &[u8],
    ) -> Result<Arc<AccountKeys>, StoreError> {
        let keys = self.account_keys(account).await?;
        if keys.can_open(content_key) {
            return Ok(keys);
        }
        self.inner.keyring.fresh(self.reader(), self.vault(), account).await
    }
}

fn create_data_folder(url: &StoreUrl) -> Result<(), StoreError> {
    match url {
        StoreUrl::Sqlite(path) => path.parent().map_or(Ok(()), blobs::create_folder),
        StoreUrl::Postgres(_) => Ok(()),
    }
}

/// After each transaction of what ends by itself: filing goes first.
const HOUSEKEEPING_PAUSE: Duration = Duration::from_millis(10);
const PING_LIMIT: Duration = Duration::from_secs(2);
