//! The schema: brought up to date, or found to be.
//!
//! One text for both engines, but for what only one of them has; migrations only add. SQLite's file belongs to the
//! program that opens it and is brought up to date there. A PostgreSQL database may have other nodes at work, so that
//! somebody says when.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    ConnectOptions as _, Database, Executor, FromRow, IntoArguments, PgPool, Postgres, Sqlite, SqlitePool,
};

use crate::config::StoreUrl;
use crate::store::StoreError;
use crate::store::engine::postgres::{self, PostgresUrl};
use crate::store::engine::{self, Engine, sqlite};

/// The latest version, once the schema has it.
pub(in crate::store) fn latest(url: &StoreUrl) -> i64 {
    migrator(engine_of(url)).iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// What an engine's schema is made of, in order of version. A version is common, or stands in the folder of each engine
/// that it is for.
pub(in crate::store) fn migrator(engine: Engine) -> Migrator {
    let common = sqlx::migrate!("src/store/migrations/common");
    let own = match engine {
        Engine::Postgres => sqlx::migrate!("src/store/migrations/postgres"),
        Engine::Sqlite => sqlx::migrate!("src/store/migrations/sqlite"),
    };
    Migrator::with_migrations(common.iter().chain(own.iter()).cloned().collect())
}

const fn engine_of(url: &StoreUrl) -> Engine {
    match url {
        StoreUrl::Postgres(_) => Engine::Postgres,
        StoreUrl::Sqlite(_) => Engine::Sqlite,
    }
}

/// Brings the schema up to date. Nodes that start together do it one after another: whoever comes second finds it done.
pub(in crate::store) async fn run(url: &StoreUrl) -> Result<(), StoreError> {
    match url {
        StoreUrl::Postgres(url) => {
            // The migrator takes an advisory lock of the database.
            let mut connection = postgres::connect_alone(url).await?;
            migrator(Engine::Postgres)
                .run(&mut connection)
                .await
                .map_err(|error| explain(error, url.to_string(), |error| postgres::explain(error, url)))
        }
        StoreUrl::Sqlite(path) => sqlite::connect(path, || {}).await.map(|_| ()),
    }
}

/// The same with SQLite, where no lock is needed: the second try finds what another process has done.
pub(super) async fn run_sqlite(write: &SqlitePool, path: &std::path::Path) -> Result<(), StoreError> {
    let migrator = migrator(Engine::Sqlite);
    let first = migrator.run(write).await;
    let done = if first.is_err() { migrator.run(write).await } else { first };
    done.map_err(|error| explain(error, path.display().to_string(), |error| sqlite::explain(error, path)))
}

/// Refuses a schema that is behind or ahead of this program.
pub(super) async fn check(pool: &PgPool, url: &PostgresUrl) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await.map_err(|error| postgres::explain(error, url))?;
    let applied = applied::<Postgres>(&mut *connection, POSTGRES_HAS_MIGRATIONS).await;
    let applied = applied.map_err(|error| postgres::explain(error, url))?.unwrap_or_default();
    let (migrator, database) = (migrator(Engine::Postgres), url.to_string());
    if let Some(version) = applied.iter().copied().find(|version| !migrator.version_exists(*version)) {
        return Err(StoreError::SchemaNewer { database, version });
    }
    match migrator.iter().find(|migration| !applied.contains(&migration.version)) {
        Some(missing) => Err(StoreError::SchemaBehind { database, version: missing.version }),
        None => Ok(()),
    }
}

/// How the schema stands to this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// There is no database yet, or nothing in it.
    Absent,
    /// So many migrations are still to be made.
    Behind(usize),
    /// The same.
    Current,
    /// It is of a later program; the first version that is unknown here.
    Newer(i64),
}

/// Looks at a database without creating or changing it.
pub(in crate::store) async fn survey(url: &StoreUrl) -> Result<Schema, StoreError> {
    let applied = match url {
        StoreUrl::Postgres(url) => {
            let mut connection = postgres::connect_alone(url).await?;
            applied::<Postgres>(&mut connection, POSTGRES_HAS_MIGRATIONS).await
        }
        StoreUrl::Sqlite(path) if !path.exists() => return Ok(Schema::Absent),
        StoreUrl::Sqlite(path) => {
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            match options.disable_statement_logging().connect().await {
                Ok(mut connection) => {
                    let exists = "SELECT count(*) > 0 FROM sqlite_master WHERE name = '_sqlx_migrations'";
                    applied::<Sqlite>(&mut connection, exists).await
                }
                Err(error) => Err(error),
            }
        }
    };
    let Some(applied) = applied.map_err(|error| engine::explain(error, url))? else {
        return Ok(Schema::Absent);
    };
    let migrator = migrator(engine_of(url));
    if let Some(later) = applied.iter().find(|version| !migrator.version_exists(**version)) {
        return Ok(Schema::Newer(*later));
    }
    match migrator.iter().filter(|migration| !applied.contains(&migration.version)).count() {
        0 => Ok(Schema::Current),
        missing => Ok(Schema::Behind(missing)),
    }
}

/// Whether accounts are in it, whose keys are sealed. A schema alone needs no key.
pub(in crate::store) async fn is_sealed(url: &StoreUrl) -> Result<bool, StoreError> {
    if survey(url).await? == Schema::Absent {
        return Ok(false);
    }
    let any = "SELECT count(*) > 0 FROM accounts";
    let asked: Result<(bool,), sqlx::Error> = match url {
        StoreUrl::Postgres(url) => {
            let mut connection = postgres::connect_alone(url).await?;
            sqlx::query_as(any).fetch_one(&mut connection).await
        }
        StoreUrl::Sqlite(path) => {
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            match options.disable_statement_logging().connect().await {
                Ok(mut connection) => sqlx::query_as(any).fetch_one(&mut connection).await,
                Err(error) => Err(error),
            }
        }
    };
    asked.map(|(is_sealed,)| is_sealed).map_err(|error| engine::explain(error, url))
}

/// The versions that a database has; none without the table of them.
async fn applied<DB: Database>(
    connection: &mut DB::Connection,
    exists: &'static str,
) -> Result<Option<Vec<i64>>, sqlx::Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    (bool,): for<'r> FromRow<'r, DB::Row>,
    (i64,): for<'r> FromRow<'r, DB::Row>,
{
    let (exists,): (bool,) = sqlx::query_as(exists).fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(None);
    }
    let rows: Vec<(i64,)> =
        sqlx::query_as("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(&mut *connection)
            .await?;
    Ok(Some(rows.into_iter().map(|(version,)| version).collect()))
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

const POSTGRES_HAS_MIGRATIONS: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
