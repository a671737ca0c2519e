//! SQLite: one file, one writer, readers beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, SqliteConnection, Transaction};

use crate::store::StoreError;
use crate::store::engine::{Fault, Pool, Pools, migrations};

/// The database holds patients' mail: SQLite gives its log files the mode of this one.
fn create_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::Unusable { path: path.to_owned(), detail: error.to_string() }),
    }
}

/// Opens the database and brings its schema up to date. `connected` is called for each new writing connection:
/// whoever compares data versions starts anew there.
pub(super) async fn connect(
    path: &Path,
    connected: impl Fn() + Clone + Send + Sync + 'static,
) -> Result<Pools, StoreError> {
    create_private(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS)
        .page_size(PAGE_OCTETS)
        .pragma("cache_size", CACHE_KIB)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", WAL_OCTETS)
        // R60: what is erased is overwritten, not only forgotten.
        .pragma("secure_delete", "ON")
        // A statement of many rows notes what it changes, to be undone alone; half of a batch would go to a file for
        // it.
        .pragma("temp_store", "MEMORY")
        // Our own errors and metrics tell what matters; the library's lines would repeat it without a trace id.
        .disable_statement_logging();
    let failed = |error| explain(error, path);
    // One writer: waiting for it in our queue is fairer than in its busy loop.
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        // Its other end is a thread of ours: asking whether it is there costs as much as a statement.
        .test_before_acquire(false)
        .acquire_timeout(WRITER_WAIT)
        .after_connect(move |_, _| {
            connected();
            Box::pin(async { Ok(()) })
        })
        .after_release(|connection, _| Box::pin(is_usable(connection)))
        .connect_with(options.clone())
        .await
        .map_err(failed)?;
    migrations::run_sqlite(&write, path).await?;
    let read = SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .acquire_timeout(READER_WAIT)
        .connect_with(options.read_only(true))
        .await
        .map_err(failed)?;
    let write = Pool::Sqlite(write);
    Ok(Pools { read: Pool::Sqlite(read), write: write.clone(), filing: write })
}

/// Opens a file of which a part is gone, to read what is left. Nothing is written, and no schema brought up to date.
pub(super) async fn connect_torn(path: &Path) -> Result<Pools, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Else SQLite refuses the whole of a file that is shorter than its header says.
        .pragma("writable_schema", "ON")
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_WAIT)
        .connect_with(options)
        .await
        .map_err(|error| explain(error, path))?;
    let pool = Pool::Sqlite(pool);
    Ok(Pools { read: pool.clone(), write: pool.clone(), filing: pool })
}

/// SQLite ends a transaction by itself when the disk is full; sqlx then still counts it as open, and the connection
/// would refuse every later one.
async fn is_usable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A roll-back may be on its way; behind it the count tells the truth.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// Takes the write lock at once: a transaction that reads first could not get it later.
///
/// Where a file cannot be opened for writing just now (no descriptor is left, the disk fails), SQLite opens it for
/// reading alone and says so only here: such a connection must not stay in the pool.
pub(super) async fn begin(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    match pool.begin_with(BEGIN).await {
        Err(error) if code(&error) == Some(READ_ONLY) => {
            pool.acquire().await?.close().await?;
            pool.begin_with(BEGIN).await
        }
        begun => begun,
    }
}

const BEGIN: &str = "BEGIN IMMEDIATE";

/// Waits for nobody: while it waited for readers, nothing could be written.
pub(super) async fn forget_log(pool: &SqlitePool) -> Result<bool, sqlx::Error> {
    let connection = pool.acquire().await?;
    // Not here: were we dropped halfway, the writer would wait for nobody ever after.
    let emptied = tokio::spawn(empty_log(connection)).await;
    match emptied.unwrap_or(Err(sqlx::Error::WorkerCrashed)) {
        Ok((busy, ..)) => Ok(busy == 0),
        Err(error) if matches!(code(&error), Some(BUSY | LOCKED)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn empty_log(mut connection: PoolConnection<Sqlite>) -> Result<(i64, i64, i64), sqlx::Error> {
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
    let emptied = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    let patience = format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis());
    let restored = sqlx::query(sqlx::AssertSqlSafe(patience)).execute(&mut *connection).await;
    if restored.is_err() {
        connection.close_on_drop();
    }
    emptied
}
pub(super) const DATA_VERSION: &str = "PRAGMA data_version";

pub(super) async fn data_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(DATA_VERSION).fetch_one(connection).await
}

/// Tells by its code whether the rows or the engine are to blame.
pub(super) fn fault(error: &sqlx::Error) -> Fault {
    match code(error) {
        Some(
            BUSY | LOCKED | NO_MEMORY | READ_ONLY | IO_ERROR | FULL | CANNOT_OPEN | PROTOCOL | NOT_A_DATABASE,
        ) => Fault::Engine,
        Some(_) => Fault::Rows,
        None => Fault::Engine,
    }
}

/// Whether what was read is not what was written.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(CORRUPT | NOT_A_DATABASE))
}

/// One clear line for what can go wrong with the file.
pub(super) fn explain(error: sqlx::Error, path: &Path) -> StoreError {
    let path: PathBuf = path.to_owned();
    match code(&error) {
        Some(BUSY | LOCKED) => StoreError::Locked { path },
        Some(NOT_A_DATABASE | CORRUPT) => StoreError::Corrupt { path },
        Some(CANNOT_OPEN | READ_ONLY) => {
            StoreError::Unusable { path, detail: "it cannot be opened for writing".to_owned() }
        }
        Some(FULL) => StoreError::Unusable { path, detail: "the disk is full".to_owned() },
        _ => StoreError::Database(error),
    }
}

/// The primary result code (<https://www.sqlite.org/rescode.html>): the low octet of the extended one.
fn code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(error) = error else { return None };
    error.code()?.parse::<u32>().ok().map(|extended| extended & 0xff)
}

const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const NO_MEMORY: u32 = 7;
const READ_ONLY: u32 = 8;
const IO_ERROR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const PROTOCOL: u32 = 15;
const NOT_A_DATABASE: u32 = 26;

/// For another process that holds the write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// For our own writer in front.
const WRITER_WAIT: Duration = Duration::from_secs(10);
/// RCPT must be answered within 5 seconds.
const READER_WAIT: Duration = Duration::from_secs(4);
const READERS: u32 = 4;
/// Prepared statements a connection keeps: those of the usual sizes of batches. A long one takes a quarter of a
/// megabyte.
const STATEMENTS: usize = 256;
/// Rows that SQLite's thread is ahead of us at most: it does not wait in the middle of what a batch asks.
const ROWS: usize = 1024;
/// What a mail is looked up by stands in a dozen places, each of which is written as a whole page: half as much as with
/// 8 KiB. Only a new database takes it on.
const PAGE_OCTETS: u32 = 4096;
/// 64 MiB a connection (negative: KiB).
const CACHE_KIB: &str = "-65536";
/// 32 MiB: the writer waits while they are written back, the same page once for all batches in between. Twice as many
/// would save little more, and be felt.
const CHECKPOINT_PAGES: &str = "8192";
const WAL_OCTETS: &str = "67108864";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::query;

    #[tokio::test]
    async fn a_full_disk_fails_what_was_written_and_nothing_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let pools = connect(&folder.path().join("full.db"), || {}).await.unwrap();
        let grow = "INSERT INTO idempotency_keys VALUES (randomblob(16), 'k', x'00', 1, hex(randomblob(100000)), 0, NULL)";
        let mut full = pools.write.begin_writing().await.unwrap();
        query("PRAGMA max_page_count = 1").execute(&mut *full).await.unwrap();
        let error = query(grow).execute(&mut *full).await.unwrap_err();
        assert_eq!(code(&error), Some(FULL), "{error}");
        assert_eq!(fault(&error), Fault::Engine);
        drop(full);
        let mut after = pools.write.begin_writing().await.unwrap();
        query("PRAGMA max_page_count = 1000000").execute(&mut *after).await.unwrap();
        query(grow).execute(&mut *after).await.unwrap();
        after.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_row_is_the_fault_of_the_row() {
        let folder = tempfile::tempdir().unwrap();
        let pools = connect(&folder.path().join("rows.db"), || {}).await.unwrap();
        let orphan = "INSERT INTO users VALUES (x'01', x'02', 'n', 'r', 'on', 'l', 0)";
        let error = query(orphan).execute(&pools.write).await.unwrap_err();
        assert_eq!(fault(&error), Fault::Rows, "{error}");
    }
}
