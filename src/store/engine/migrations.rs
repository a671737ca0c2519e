//! The schema: brought up to date, or found to be.
//!
//! One text for both engines; migrations only add. SQLite's file belongs to the program that opens it and is brought
//! up to date there. A PostgreSQL database may have other nodes at work, so that somebody says when.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{PgPool, SqlitePool};

use crate::config::StoreUrl;
use crate::store::StoreError;
use crate::store::engine::postgres::{self, PostgresUrl};
use crate::store::engine::sqlite;

/// The latest version, once the schema has it.
pub(in crate::store) fn latest() -> i64 {
    migrator().iter().map(|migration| migration.version).max().unwrap_or_default()
}

fn migrator() -> Migrator {
    sqlx::migrate!("src/store/migrations/common")
}

/// Brings the schema up to date. Nodes that start together do it one after another: whoever comes second finds it done.
pub(in crate::store) async fn run(url: &StoreUrl) -> Result<(), StoreError> {
    match url {
        StoreUrl::Postgres(url) => {
            // The migrator takes an advisory lock of the database.
            let mut connection = postgres::connect_alone(url).await?;
            migrator()
                .run(&mut connection)
                .await
                .map_err(|error| explain(error, url.to_string(), |error| postgres::explain(error, url)))
        }
        StoreUrl::Sqlite(path) => sqlite::connect(path, || {}).await.map(|_| ()),
    }
}

/// The same with SQLite, where no lock is needed: the second try finds what another process has done.
pub(super) async fn run_sqlite(write: &SqlitePool, path: &std::path::Path) -> Result<(), StoreError> {
    let first = migrator().run(write).await;
    let done = if first.is_err() { migrator().run(write).await } else { first };
    done.map_err(|error| explain(error, path.display().to_string(), |error| sqlite::explain(error, path)))
}

/// Refuses a schema that is behind or ahead of this program.
pub(super) async fn check(pool: &PgPool, url: &PostgresUrl) -> Result<(), StoreError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await
        .map_err(|error| postgres::explain(error, url))?;
    let mut applied: Vec<i64> = Vec::new();
    if there {
        applied = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(pool)
            .await
            .map_err(|error| postgres::explain(error, url))?;
    }
    let (migrator, database) = (migrator(), url.to_string());
    if let Some(version) = applied.iter().copied().find(|version| !migrator.version_exists(*version)) {
        return Err(StoreError::SchemaNewer { database, version });
    }
    match migrator.iter().find(|migration| !applied.contains(&migration.version)) {
        Some(missing) => Err(StoreError::SchemaBehind { database, version: missing.version }),
        None => Ok(()),
    }
}

fn explain(
    error: MigrateError,
    database: String,
    of_engine: impl FnOnce(sqlx::Error) -> StoreError,
) -> StoreError {
    if let MigrateError::VersionMissing(version) = error {
        StoreError::SchemaNewer { database, version }
    } else if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        of_engine(error)
    } else {
        StoreError::Migration(error)
    }
}
