//! Pools, connections and transactions of either engine.
//!
//! Promises that a transaction which is dropped is rolled back, and that a connection whose state is not known is
//! never used again.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};

use futures_util::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Either, Executor, PgPool, Row as _, SqlStr, Sqlite, SqliteConnection};

use crate::id::AccountId;
use crate::store::engine::postgres::{ALLOW_PAUSES, CHANGED, PG_WRITERS, PgHeld};
use crate::store::engine::query::{Fetched, Found, query};
use crate::store::engine::search::SORT_TERMS_IN;
use crate::store::engine::sqlite;
use crate::store::engine::value::Value;
use crate::store::engine::{Engine, LockWait};

/// Connections that wait for work.
#[derive(Clone, Debug)]
pub(in crate::store) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// One connection; back in its pool when it is dropped.
#[derive(Debug)]
pub(in crate::store) enum Connection {
    Postgres(PgHeld),
    Sqlite(SqliteHeld),
}

/// A connection between begin and commit.
#[derive(Debug)]
#[must_use = "it is rolled back when it is dropped"]
pub(in crate::store) struct Transaction(Connection);

/// A connection to SQLite, within a transaction or not.
#[derive(Debug)]
pub(in crate::store) enum SqliteHeld {
    Begun(sqlx::Transaction<'static, Sqlite>),
    Idle(PoolConnection<Sqlite>),
}

impl Pool {
    pub(in crate::store) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        Ok(match self {
            // Boxed: else every future that reads anything would have room for the making of a connection.
            Self::Postgres(pool) => Connection::Postgres(Box::pin(PgHeld::acquire(pool)).await?),
            Self::Sqlite(pool) => Connection::Sqlite(SqliteHeld::Idle(pool.acquire().await?)),
        })
    }

    /// A transaction that only reads: everything in it is of one point in time.
    pub(in crate::store) async fn begin_reading(&self) -> Result<Transaction, sqlx::Error> {
        Ok(Transaction(match self {
            Self::Postgres(pool) => Connection::Postgres(
                Box::pin(PgHeld::begin(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?,
            ),
            Self::Sqlite(pool) => Connection::Sqlite(SqliteHeld::Begun(pool.begin().await?)),
        }))
    }

    /// A transaction that writes. With SQLite it waits for its turn and is then the only one.
    pub(in crate::store) async fn begin_writing(&self) -> Result<Transaction, sqlx::Error> {
        #[cfg(test)]
        ways::one();
        Ok(Transaction(match self {
            Self::Postgres(pool) => Connection::Postgres(
                Box::pin(PgHeld::begin(pool, "BEGIN ISOLATION LEVEL READ COMMITTED")).await?,
            ),
            Self::Sqlite(pool) => Connection::Sqlite(SqliteHeld::Begun(sqlite::begin(pool).await?)),
        }))
    }

    /// How many may write at once to any good.
    pub(in crate::store) const fn writers(&self) -> usize {
        match self {
            Self::Postgres(_) => PG_WRITERS,
            Self::Sqlite(_) => 1,
        }
    }

    /// Filings of one transaction. With SQLite, while half of the sessions are written, the others go on; with
    /// PostgreSQL the ways cost more than what goes them.
    pub(in crate::store) const fn batch(&self) -> usize {
        match self {
            Self::Postgres(_) => 64,
            Self::Sqlite(_) => 32,
        }
    }

    /// Whether the commits of others are found by looking; else they are announced.
    pub(in crate::store) const fn has_data_version(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// R60: writes back what is in the log, and empties it: what was erased still stands there. False if somebody reads
    /// from it just now. PostgreSQL's log is the operator's affair.
    pub(in crate::store) async fn forget_log(&self) -> Result<bool, sqlx::Error> {
        match self {
            Self::Postgres(_) => Ok(true),
            Self::Sqlite(pool) => sqlite::forget_log(pool).await,
        }
    }

    /// Sorts into the search index what waits in its list, which takes longer than everything else about indexing:
    /// where nobody waits for an account meanwhile. SQLite's index sorts as it is written.
    pub(in crate::store) async fn sort_terms_in(&self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(_) => query(SORT_TERMS_IN).execute(self).await.map(|_| ()),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Has the engine count what is in tables that it may know nothing about yet, before a batch is planned. SQLite
    /// never looks at that.
    pub(in crate::store) async fn look_at_small_tables(&self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(pool) => Box::pin(PgHeld::look_at_small_tables(pool)).await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    pub(in crate::store) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

impl Connection {
    /// Which engine it is of.
    pub(in crate::store) const fn engine(&self) -> Engine {
        match self {
            Self::Postgres(_) => Engine::Postgres,
            Self::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// A number that changes when another process has committed; none where such changes are announced.
    pub(in crate::store) async fn data_version(&mut self) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Self::Postgres(_) => Ok(None),
            Self::Sqlite(held) => sqlite::data_version(held).await.map(Some),
        }
    }

    /// Waits until nobody else writes to these accounts, and keeps others out until the transaction ends. SQLite has
    /// one writer anyway.
    pub(in crate::store) async fn lock_accounts(
        &mut self,
        accounts: &[AccountId],
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(held) => held.lock(accounts).await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// As [`Self::lock_accounts`], with a limit of its own.
    pub(in crate::store) async fn wait_for_accounts(
        &mut self,
        accounts: &[AccountId],
        wait: LockWait,
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(held) => held.wait_for(accounts, wait).await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// As [`Self::lock_accounts`], but for those that somebody else has, which it gives.
    pub(in crate::store) async fn try_lock_accounts(
        &mut self,
        accounts: &[AccountId],
    ) -> Result<HashSet<AccountId>, sqlx::Error> {
        match self {
            Self::Postgres(held) => held.try_lock(accounts).await,
            Self::Sqlite(_) => Ok(HashSet::new()),
        }
    }

    /// Tells other nodes, with the commit, that remembered addresses and keys may be wrong. With SQLite they look at
    /// the data version.
    pub(in crate::store) async fn announce_change(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(_) => query(CHANGED).execute(self).await.map(|_| ()),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// From here on until the transaction ends, what is read elsewhere between two statements may take minutes. SQLite
    /// has no limit for it.
    pub(in crate::store) async fn allow_pauses(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(_) => query(ALLOW_PAUSES).execute(self).await.map(|_| ()),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Forgets how statements were to be run: tables may have grown since. SQLite never looks at that.
    pub(in crate::store) async fn plan_anew(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(held) => Box::pin(held.plan_anew()).await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    pub(super) async fn execute(&mut self, text: SqlStr, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        #[cfg(test)]
        ways::one();
        match self {
            Self::Postgres(held) => Box::pin(held.execute(text, Value::for_postgres(values)?)).await,
            Self::Sqlite(held) => {
                let query = sqlx::query_with(text, Value::for_sqlite(values)?);
                Ok(query.execute(&mut **held).await?.rows_affected())
            }
        }
    }

    pub(super) async fn fetch_all<T: Fetched>(
        &mut self,
        text: SqlStr,
        values: Vec<Value>,
    ) -> Result<Vec<T>, sqlx::Error> {
        #[cfg(test)]
        ways::one();
        match self {
            Self::Postgres(held) => Box::pin(held.fetch_all(text, Value::for_postgres(values)?)).await,
            Self::Sqlite(held) => {
                sqlx::query_as_with(text, Value::for_sqlite(values)?).fetch_all(&mut **held).await
            }
        }
    }

    /// Runs a text of so many statements, and reads the rows of each.
    pub(in crate::store) async fn fetch_parts(
        &mut self,
        text: SqlStr,
        values: Vec<Value>,
        parts: usize,
    ) -> Result<Vec<Vec<Found>>, sqlx::Error> {
        #[cfg(test)]
        ways::one();
        let mut found: Vec<Vec<Found>> = Vec::new();
        found.resize_with(parts, Vec::new);
        match self {
            Self::Postgres(held) => {
                let rows = Box::pin(held.fetch_rows(text, Value::for_postgres(values)?)).await?;
                for row in rows {
                    let part = usize::try_from(row.try_get::<i64, _>(0)?).ok();
                    let part = part.and_then(|part| found.get_mut(part));
                    part.ok_or(sqlx::Error::RowNotFound)?.push(Found::Postgres(row));
                }
            }
            Self::Sqlite(held) => {
                let query = sqlx::query_with(text, Value::for_sqlite(values)?);
                let mut arriving = Executor::fetch_many(&mut **held, query);
                let mut ended = 0;
                while let Some(one) = arriving.try_next().await? {
                    match one {
                        Either::Left(_) => ended += 1,
                        Either::Right(row) => {
                            let part = found.get_mut(ended).ok_or(sqlx::Error::RowNotFound)?;
                            part.push(Found::Sqlite(row));
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Transaction {
    /// Puts it on disk. After an error nobody knows whether it is there.
    pub(in crate::store) async fn commit(self) -> Result<(), sqlx::Error> {
        #[cfg(test)]
        ways::one();
        match self.0 {
            Connection::Postgres(held) => held.commit().await,
            Connection::Sqlite(SqliteHeld::Begun(transaction)) => transaction.commit().await,
            Connection::Sqlite(SqliteHeld::Idle(_)) => Ok(()),
        }
    }

    /// Now, so that the next one does not find what this one has locked. SQLite's next one waits for it anyway.
    pub(in crate::store) async fn roll_back(self) {
        match self.0 {
            Connection::Postgres(held) => held.roll_back().await,
            Connection::Sqlite(held) => drop(held),
        }
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Deref for SqliteHeld {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Begun(transaction) => transaction,
            Self::Idle(connection) => connection,
        }
    }
}

impl DerefMut for SqliteHeld {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Begun(transaction) => transaction,
            Self::Idle(connection) => connection,
        }
    }
}

/// How often this thread has gone to an engine, the looks for changes left out that an idle writer makes.
#[cfg(test)]
pub(in crate::store) mod ways {
    use std::cell::Cell;

    thread_local! {
        static WAYS: Cell<u64> = const { Cell::new(0) };
    }

    pub(in crate::store) fn count() -> u64 {
        WAYS.get()
    }

    pub(super) fn one() {
        WAYS.set(WAYS.get() + 1);
    }
}
