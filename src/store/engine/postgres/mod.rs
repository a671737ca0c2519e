//! PostgreSQL: how to connect, and which error means what.
//!
//! Promises that nothing waits for ever: a server that hangs, a lock that is never given back and a peer that is gone
//! all end in an error within seconds.

mod held;
mod listen;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

pub(super) use held::PgHeld;
pub(in crate::store) use listen::{CHANGED, listen};

use crate::store::StoreError;
use crate::store::engine::{Fault, Pool, Pools, migrations};

/// `postgres://user@host/db`, as libpq writes it; `?host=/folder` for a socket, `?sslmode=`.
#[derive(Clone)]
pub struct PostgresUrl {
    shown: String,
    options: Box<PgConnectOptions>,
}

/// Why a text is no such URL.
#[derive(Debug, thiserror::Error)]
#[error("is not postgres://USER@HOST/DATABASE")]
pub struct BadPostgresUrl;

impl FromStr for PostgresUrl {
    type Err = BadPostgresUrl;

    fn from_str(text: &str) -> Result<Self, BadPostgresUrl> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or(BadPostgresUrl)?;
        let options: PgConnectOptions = text.parse().map_err(|_| BadPostgresUrl)?;
        // What stands behind `?` may hold a password too.
        let bare = rest.split_once('?').map_or(rest, |(bare, _)| bare);
        let shown = match bare.rsplit_once('@') {
            Some((user, place)) => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                format!("postgres://{name}@{place}")
            }
            None => format!("postgres://{bare}"),
        };
        // Our own errors and metrics tell what matters.
        let options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
        Ok(Self { shown, options: Box::new(options) })
    }
}

/// Without the password.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Opens a database whose schema is up to date.
pub(super) async fn connect(url: &PostgresUrl) -> Result<Pools, StoreError> {
    let read = pool(url, READERS, READER_WAIT, &[("statement_timeout", "30s")]);
    check_server(url, &read).await?;
    let packing = if packs_fast(url, &read).await? { PACKED_FAST } else { &[] };
    let write = pool(url, CHANGES, CHANGE_WAIT, &[WRITING, packing].concat());
    let filing = trusting(url, FILERS, FILER_WAIT, &[FILING, packing].concat());
    migrations::check(&filing, url).await?;
    let [read, write, filing] = [read, write, filing].map(Pool::Postgres);
    Ok(Pools { read, write, filing })
}

/// A 250 must be on disk, and texts are UTF-8.
async fn check_server(url: &PostgresUrl, pool: &PgPool) -> Result<(), StoreError> {
    let settings: (String, String, String) = sqlx::query_as(
        "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('server_encoding')",
    )
    .fetch_one(pool)
    .await
    .map_err(|error| explain(error, url))?;
    let wrong = match settings {
        (fsync, ..) if fsync != "on" => "its fsync is off: what was answered 250 could be lost",
        (_, commit, _) if commit == "off" => {
            "its synchronous_commit is off: what was answered 250 could be lost"
        }
        (.., encoding) if encoding != "UTF8" => "its encoding is not UTF8",
        _ => return Ok(()),
    };
    Err(StoreError::Unfit { database: url.to_string(), detail: wrong.to_owned() })
}

/// Whether the server is built with LZ4 (most are, from version 14).
async fn packs_fast(url: &PostgresUrl, pool: &PgPool) -> Result<bool, StoreError> {
    let text = "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'";
    let found: Option<bool> =
        sqlx::query_scalar(text).fetch_optional(pool).await.map_err(|error| explain(error, url))?;
    Ok(found.unwrap_or(false))
}

/// A connection for the schema alone: what it does may take long.
pub(super) async fn connect_alone(url: &PostgresUrl) -> Result<PgConnection, StoreError> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, url.options.connect());
    let connected = connecting.await.map_err(|_| StoreError::TimedOut)?;
    connected.map_err(|error| explain(error, url))
}

/// Each connection is asked whether it is still there before it is used: nobody sees that the server went away and came
/// back.
fn pool(url: &PostgresUrl, size: u32, wait: Duration, settings: &[(&str, &str)]) -> PgPool {
    pool_options(size, wait).connect_lazy_with(options(url, settings))
}

/// One that was in use a moment ago is not asked: a filing that fails is split, put off and comes again.
fn trusting(url: &PostgresUrl, size: u32, wait: Duration, settings: &[(&str, &str)]) -> PgPool {
    pool_options(size, wait)
        .test_before_acquire(false)
        .before_acquire(|connection, idle| {
            Box::pin(async move {
                if idle.idle_for > TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options(url, settings))
}

fn pool_options(size: u32, wait: Duration) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(size).acquire_timeout(wait).idle_timeout(IDLE_LIMIT)
}

fn options(url: &PostgresUrl, settings: &[(&str, &str)]) -> PgConnectOptions {
    let mut options = (*url.options).clone().options(ALWAYS.iter().copied().chain(settings.iter().copied()));
    if !is_socket(&url.options) {
        options = options.options(OVER_TCP.iter().copied());
    }
    options
}

fn is_socket(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

/// `data_corrupted`, `index_corrupted` (PostgreSQL, appendix A).
pub(super) fn is_damage(error: &PgDatabaseError) -> bool {
    matches!(error.code(), DATA_CORRUPTED | INDEX_CORRUPTED)
}

/// One clear line.
pub(super) fn explain(error: sqlx::Error, url: &PostgresUrl) -> StoreError {
    StoreError::Away { database: url.to_string(), source: error }
}

/// Tells by its code (PostgreSQL, appendix A) whether the rows or the server are to blame.
pub(super) fn fault(error: &PgDatabaseError) -> Fault {
    match error.code() {
        // Somebody else has the account, or a statement took too long: others may go through.
        LOCK_NOT_AVAILABLE | QUERY_CANCELED => Fault::Rows,
        // A damaged page fails whoever needs it, again and again: others are filed. Where all need it, all are put off.
        DATA_CORRUPTED | INDEX_CORRUPTED => Fault::Rows,
        code => match code.get(..2) {
            Some("08" | "25" | "28" | "3D" | "53" | "55" | "57" | "58" | "F0" | "XX") | None => Fault::Engine,
            // What is left is about a value, a constraint, a race, or a statement of ours.
            Some(_) => Fault::Rows,
        },
    }
}

/// Whether the same may work when it is tried again, because somebody else was at it at the same time.
pub(super) fn is_race(error: &PgDatabaseError) -> bool {
    matches!(error.code(), UNIQUE_VIOLATION | SERIALIZATION_FAILURE | DEADLOCK_DETECTED)
}

/// Of a statement that only locks: for one lock, or for all of them, it took too long.
pub(super) fn is_lock_timeout(error: &PgDatabaseError) -> bool {
    matches!(error.code(), LOCK_NOT_AVAILABLE | QUERY_CANCELED)
}

pub(super) fn is_forbidden(error: &PgDatabaseError) -> bool {
    error.code() == INSUFFICIENT_PRIVILEGE
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";
const UNIQUE_VIOLATION: &str = "23505";
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const QUERY_CANCELED: &str = "57014";
const DATA_CORRUPTED: &str = "XX001";
const INDEX_CORRUPTED: &str = "XX002";

/// Of every connection: one whose other end hangs in the middle of a transaction gives its locks back. Each statement
/// goes by its keys, also where the server takes a table for small or an account for all of it.
const ALWAYS: &[(&str, &str)] =
    &[("idle_in_transaction_session_timeout", "15s"), ("enable_seqscan", "off"), ("jit", "off")];
/// Of an export, which holds no lock that anybody waits for.
pub(super) const ALLOW_PAUSES: &str = "SET LOCAL idle_in_transaction_session_timeout = '10min'";
const WRITING: &[(&str, &str)] = &[("statement_timeout", "10s"), ("lock_timeout", "2s")];
/// Of a batch, which takes milliseconds: when it is given up in the middle of a statement, the server keeps its accounts
/// from the second try no longer than that waits (a commit has no such limit). Each statement is planned once.
const FILING: &[(&str, &str)] = &[
    ("statement_timeout", "2s"),
    ("lock_timeout", "2s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];
/// Has the server count what is in the small tables that filing reads, if they have grown since it last did. Of a table
/// that it knows nothing about it takes any index that begins with the account, and for each mail reads all contacts of
/// that; where one is large, it guesses well enough, and in one of a page there is little to read. The server's own look
/// may be a minute away. In a transaction of its own: half of what is counted stays when that is rolled back.
pub(super) const LOOK_AT_SMALL_TABLES: &str = "DO $$
DECLARE
    page bigint := current_setting('block_size');
    small record;
BEGIN
    PERFORM set_config('client_min_messages', 'error', true);
    FOR small IN SELECT c.oid::regclass AS name, c.reltuples, c.relpages, pg_relation_size(c.oid) AS octets FROM pg_class c
        WHERE c.relnamespace = (SELECT a.relnamespace FROM pg_class a WHERE a.oid = to_regclass('accounts'))
        AND c.relname IN ('contacts', 'conversations', 'daily_filings', 'held', 'messages', 'relay_jobs',
                          'remembered_signers', 'sync_marks', 'thread_ids', 'tombstones', 'user_emails', 'users')
        AND c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        CONTINUE WHEN small.octets <= page;
        CONTINUE WHEN small.reltuples <= 0 AND small.octets > 32 * page;
        CONTINUE WHEN small.reltuples > 0 AND (small.relpages > 32 OR small.octets > 1024 * page);
        CONTINUE WHEN small.octets <= small.relpages * page;
        BEGIN
            EXECUTE format('ANALYZE (SKIP_LOCKED) %s', small.name);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
END $$";
/// How the server packs long values: its own way of old takes longer than everything else about a row.
const PACKED_FAST: &[(&str, &str)] = &[("default_toast_compression", "lz4")];
/// The server's end of a connection whose client is gone without a word.
const OVER_TCP: &[(&str, &str)] = &[
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20000"),
];

const READERS: u32 = 8;
/// RCPT must be answered within 5 seconds.
const READER_WAIT: Duration = Duration::from_secs(4);
/// Changes to the directory at once.
const CHANGES: u32 = 4;
const CHANGE_WAIT: Duration = Duration::from_secs(10);
/// Each has accounts of its own: a filing that waits for a lock holds up one of them, once it has written the rest.
pub(super) const PG_WRITERS: usize = 2;
/// As many as there are writers, and one for the start.
const FILERS: u32 = 3;
const FILER_WAIT: Duration = Duration::from_secs(5);
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);
const TRUSTED: Duration = Duration::from_secs(1);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Prepared statements a connection keeps: every text of every size of batch.
const STATEMENTS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgres://ana:secret@db.test:5433/mail",
            "postgresql://ana:se@secret@db.test:5433/mail",
            "postgres://ana@db.test:5433/mail?password=secret",
        ] {
            let url: PostgresUrl = url.parse().unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (SHOWN.to_owned(), SHOWN.to_owned()));
        }
        assert!("mysql://u@h/d".parse::<PostgresUrl>().is_err());
        assert!("postgres://u@h:port/d".parse::<PostgresUrl>().is_err());
    }

    const SHOWN: &str = "postgres://ana@db.test:5433/mail";
}
