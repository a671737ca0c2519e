//! Everything that differs between database engines: how to connect, how to begin, which error means what.
//!
//! The rest of the store writes one SQL text for both (`query`), and never asks which engine runs it.

mod connection;
mod postgres;
mod query;
mod sqlite;
mod value;

use sqlx::postgres::PgDatabaseError;

pub(in crate::store) use connection::{Connection, Pool, Transaction};
pub(in crate::store) use query::{Builder, Fetched, query, query_as, query_scalar, query_with};
pub(in crate::store) use sqlite::{connect, explain};
pub(in crate::store) use value::Value;

/// Readers and writers.
#[derive(Debug)]
pub(in crate::store) struct Pools {
    pub(in crate::store) read: Pool,
    pub(in crate::store) write: Pool,
}

/// Appends the placeholder of the value with this number, from 1.
pub(in crate::store) fn push_placeholder(text: &mut String, engine: Engine, number: usize) {
    match engine {
        Engine::Postgres => {
            text.push('$');
            text.push_str(&number.to_string());
        }
        // SQLite looks up numbered ones one by one, which makes statements of a thousand values slow; it counts
        // plain ones itself.
        Engine::Sqlite => text.push('?'),
    }
}

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Engine {
    Postgres,
    Sqlite,
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
