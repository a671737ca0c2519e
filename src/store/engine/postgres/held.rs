//! A connection whose state is always known.
//!
//! A statement that was given up on leaves its connection in the middle of an answer: such a connection is cut off,
//! not put back, so that a server that hangs never fills the pool with dead ones. What the server has not been told
//! to commit it rolls back when it finds the connection gone.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgDatabaseError, PgRow};
use sqlx::{Arguments as _, PgPool, Postgres, SqlSafeStr, SqlStr};

use crate::id::AccountId;
use crate::store::engine::postgres::{LOOK_AT_SMALL_TABLES, fault};
use crate::store::engine::query::Fetched;
use crate::store::engine::{Fault, LockWait};

/// A connection out of its pool.
#[derive(Debug)]
pub(in crate::store) struct PgHeld {
    /// None when it is being dropped.
    connection: Option<PoolConnection<Postgres>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a transaction.
    Begun,
    /// In a transaction that a statement has failed in: the server will not commit it.
    Failed,
    Idle,
    /// A statement was sent, and its answer has not come or could not be read.
    Unknown,
}

impl PgHeld {
    pub(in crate::store::engine) async fn acquire(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: Some(pool.acquire().await?), state: State::Idle })
    }

    pub(in crate::store::engine) async fn begin(
        pool: &PgPool,
        begin: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let mut held = Self::acquire(pool).await?;
        within(BEGIN_LIMIT, held.simple(begin)).await?;
        held.state = State::Begun;
        Ok(held)
    }

    /// As [`Pool::look_at_small_tables`](crate::store::engine::Pool::look_at_small_tables).
    pub(in crate::store::engine) async fn look_at_small_tables(pool: &PgPool) -> Result<(), sqlx::Error> {
        let mut held = Self::acquire(pool).await?;
        within(LOOK_LIMIT, held.simple(LOOK_AT_SMALL_TABLES)).await
    }

    pub(in crate::store::engine) async fn plan_anew(&mut self) -> Result<(), sqlx::Error> {
        within(BEGIN_LIMIT, self.simple("DISCARD PLANS")).await
    }

    pub(in crate::store::engine) async fn execute(
        &mut self,
        text: SqlStr,
        values: PgArguments,
    ) -> Result<u64, sqlx::Error> {
        let before = self.begin_statement();
        let done = match self.live() {
            Ok(connection) => sqlx::query_with(text, values).execute(connection).await,
            Err(error) => Err(error),
        };
        Ok(self.end_statement(before, done)?.rows_affected())
    }

    pub(in crate::store::engine) async fn fetch_all<T: Fetched>(
        &mut self,
        text: SqlStr,
        values: PgArguments,
    ) -> Result<Vec<T>, sqlx::Error> {
        let before = self.begin_statement();
        let done = match self.live() {
            Ok(connection) => sqlx::query_as_with(text, values).fetch_all(connection).await,
            Err(error) => Err(error),
        };
        self.end_statement(before, done)
    }

    pub(in crate::store::engine) async fn fetch_rows(
        &mut self,
        text: SqlStr,
        values: PgArguments,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let before = self.begin_statement();
        let done = match self.live() {
            Ok(connection) => sqlx::query_with(text, values).fetch_all(connection).await,
            Err(error) => Err(error),
        };
        self.end_statement(before, done)
    }

    /// Everybody takes the locks in the same order, so that nobody waits in a ring; the operator's account comes last
    /// there, since a change to another account may go on to it.
    pub(in crate::store::engine) async fn lock(&mut self, accounts: &[AccountId]) -> Result<(), sqlx::Error> {
        if accounts.is_empty() {
            return Ok(());
        }
        let mut accounts = accounts.to_vec();
        accounts.sort_by_key(|account| (*account == AccountId::OPERATOR, account.uuid()));
        accounts.dedup();
        self.execute(LOCK.into_sql_str(), keys_of(&accounts)?).await.map(|_| ())
    }

    /// The shorter limit holds until the transaction ends.
    pub(in crate::store::engine) async fn wait_for(
        &mut self,
        accounts: &[AccountId],
        wait: LockWait,
    ) -> Result<(), sqlx::Error> {
        if wait == LockWait::Short {
            self.simple(WAIT_SHORT).await?;
        }
        self.lock(accounts).await
    }

    /// Nobody waits, so the order is all the same.
    pub(in crate::store::engine) async fn try_lock(
        &mut self,
        accounts: &[AccountId],
    ) -> Result<HashSet<AccountId>, sqlx::Error> {
        if accounts.is_empty() {
            return Ok(HashSet::new());
        }
        let mut accounts = accounts.to_vec();
        accounts.sort_unstable();
        accounts.dedup();
        let busy = self.fetch_all::<(i64,)>(TRY_LOCK.into_sql_str(), keys_of(&accounts)?).await?;
        Ok(accounts.into_iter().filter(|account| busy.contains(&(lock_key(*account),))).collect())
    }

    /// What an answer that does not come in time has done is not known: whoever asked is told that it failed, and
    /// finds it done when they try again, or not.
    pub(in crate::store::engine) async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.state != State::Begun {
            return Err(sqlx::Error::InvalidSavePointStatement);
        }
        within(COMMIT_LIMIT, self.simple("COMMIT")).await?;
        self.state = State::Idle;
        Ok(())
    }

    pub(in crate::store::engine) async fn roll_back(mut self) {
        if matches!(self.state, State::Begun | State::Failed) {
            self.end_transaction().await;
        }
    }

    /// If it does not work, the connection goes.
    async fn end_transaction(&mut self) {
        let rolled_back = within(ROLLBACK_LIMIT, self.simple("ROLLBACK")).await;
        self.state = if rolled_back.is_ok() { State::Idle } else { State::Unknown };
    }

    /// Without a prepared statement.
    async fn simple(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        let before = self.begin_statement();
        let done = match self.live() {
            Ok(connection) => sqlx::raw_sql(text.into_sql_str()).execute(connection).await,
            Err(error) => Err(error),
        };
        self.end_statement(before, done).map(|_| ())
    }

    fn begin_statement(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Unknown)
    }

    fn end_statement<T>(&mut self, before: State, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.state = match (&done, before) {
            (Ok(_), before) => before,
            (Err(error), State::Begun | State::Failed) if is_answer(error) => State::Failed,
            (Err(error), State::Idle) if is_answer(error) => State::Idle,
            (Err(_), _) => State::Unknown,
        };
        done
    }

    fn live(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }
}

impl Drop for PgHeld {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match self.state {
            State::Idle => drop(connection),
            State::Begun | State::Failed => match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    // A runtime that is going down may drop this before it has begun.
                    let mut held = Self { connection: Some(connection), state: State::Unknown };
                    drop(runtime.spawn(async move { held.end_transaction().await }));
                }
                Err(_) => drop(connection.detach()),
            },
            State::Unknown => drop(connection.detach()),
        }
    }
}

/// The low half of a `UUIDv7` is random: accounts that share a lock only wait for each other.
fn lock_key(account: AccountId) -> i64 {
    account.uuid().as_u64_pair().1.cast_signed()
}

fn keys_of(accounts: &[AccountId]) -> Result<PgArguments, sqlx::Error> {
    let keys: Vec<i64> = accounts.iter().copied().map(lock_key).collect();
    let mut values = PgArguments::default();
    values.add(keys).map_err(sqlx::Error::Encode)?;
    Ok(values)
}

/// The server said no, and is there for the next statement. One that is going down, or has become a replica, is not.
fn is_answer(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| fault(error) == Fault::Rows)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let in_time = tokio::time::timeout(limit, work).await;
    in_time.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

const LOCK: &str = "SELECT pg_advisory_xact_lock(key) FROM unnest($1) AS key";
const TRY_LOCK: &str = "SELECT key FROM unnest($1) AS key WHERE NOT pg_try_advisory_xact_lock(key)";
/// A batch of another node takes a tenth of it.
const WAIT_SHORT: &str = "SET LOCAL lock_timeout = '200ms'";
const BEGIN_LIMIT: Duration = Duration::from_secs(4);
/// A few small tables take milliseconds.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// A healthy commit takes milliseconds, a checkpoint's disk a second.
const COMMIT_LIMIT: Duration = Duration::from_secs(8);
const ROLLBACK_LIMIT: Duration = Duration::from_secs(5);
