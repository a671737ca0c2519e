//! Everything that differs between database engines: how to connect, how to begin, which error means what.
//!
//! The rest of the store writes one SQL text for both (`query`), and never asks which engine runs it.

mod connection;
pub(in crate::store) mod migrations;
mod postgres;
mod query;
pub(in crate::store) mod search;
mod sqlite;
mod value;

use sqlx::postgres::PgDatabaseError;

use crate::config::StoreUrl;
use crate::store::StoreError;

#[cfg(test)]
pub(in crate::store) use connection::ways;
pub(in crate::store) use connection::{Connection, Pool, Transaction};
pub(in crate::store) use postgres::listen;
pub use postgres::{BadPostgresUrl, PostgresUrl};
pub(in crate::store) use query::{
    Builder, Fetched, Found, Query, Recorded, query, query_as, query_scalar, query_with,
};
pub(in crate::store) use value::{Kind, Nullable, Value, postgres_name};

/// Readers and writers.
#[derive(Debug)]
pub(in crate::store) struct Pools {
    pub(in crate::store) read: Pool,
    pub(in crate::store) write: Pool,
    /// For the group-commit writers.
    pub(in crate::store) filing: Pool,
}

/// Opens the database. `connected` is called for each new connection on which data versions are compared: whoever
/// does so starts anew there.
pub(in crate::store) async fn connect(
    url: &StoreUrl,
    connected: impl Fn() + Clone + Send + Sync + 'static,
) -> Result<Pools, StoreError> {
    match url {
        StoreUrl::Postgres(url) => postgres::connect(url).await,
        StoreUrl::Sqlite(path) => sqlite::connect(path, connected).await,
    }
}

/// Opens what is left of a damaged database, to be read. Of PostgreSQL's the server sees to it.
pub(in crate::store) async fn connect_torn(url: &StoreUrl) -> Result<Pools, StoreError> {
    match url {
        StoreUrl::Postgres(url) => postgres::connect(url).await,
        StoreUrl::Sqlite(path) => sqlite::connect_torn(path).await,
    }
}

/// One clear line for what goes wrong at the start.
pub(in crate::store) fn explain(error: sqlx::Error, url: &StoreUrl) -> StoreError {
    match url {
        StoreUrl::Postgres(url) => postgres::explain(error, url),
        StoreUrl::Sqlite(path) => sqlite::explain(error, path),
    }
}

/// What reads a number that changes when another process has committed.
pub(in crate::store) const fn data_version_text(engine: Engine) -> Option<&'static str> {
    match engine {
        Engine::Postgres => None,
        Engine::Sqlite => Some(sqlite::DATA_VERSION),
    }
}

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Engine {
    Postgres,
    Sqlite,
}

/// How long an account that somebody else has is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum LockWait {
    /// Seconds.
    Long,
    /// A part of a second.
    Short,
}

/// Whose fault a failed statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Fault {
    /// The database, the disk, another process: whatever we would write fails.
    Engine,
    /// What we tried to write: without it the rest goes on.
    Rows,
}

/// Tells by its code whether the rows or the engine are to blame.
pub(in crate::store) fn fault(error: &sqlx::Error) -> Fault {
    if let sqlx::Error::Database(database) = error {
        return match database.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => postgres::fault(error),
            None => sqlite::fault(error),
        };
    }
    let is_about_values =
        matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_));
    if is_about_values { Fault::Rows } else { Fault::Engine }
}

/// Whether what was read is not what was written.
pub(in crate::store) fn is_damage(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Database(database) = error {
        return match database.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => postgres::is_damage(error),
            None => sqlite::is_damage(error),
        };
    }
    matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
}

/// Whether the role that we are has not got the right to do it. SQLite has no roles.
pub(in crate::store) fn is_forbidden(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(postgres::is_forbidden)
}

/// Whether a lock that was waited for did not come in time. With SQLite nobody is there when a transaction has begun.
pub(in crate::store) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(postgres::is_lock_timeout)
}

/// Whether the same may work when it is tried again, because somebody else was at it at the same time. With SQLite
/// nobody is.
pub(in crate::store) fn is_race(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(postgres::is_race)
}
