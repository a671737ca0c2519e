//! A connection of another process to the server's database, on either engine, and what stands in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};
use syncmx::message::base64;

use crate::app::{files_below, postgres};

pub(crate) enum Beside {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Beside {
    /// The database of the server whose configuration and data lie in this folder.
    pub(crate) async fn of(folder: &Path) -> Self {
        if let Some(url) = postgres_url(folder) {
            return Self::Postgres(postgres::connect(&url).await);
        }
        let options = SqliteConnectOptions::new()
            .filename(folder.join("data/syncmx.db"))
            .busy_timeout(Duration::from_secs(30));
        Self::Sqlite(options.connect().await.unwrap())
    }

    /// How many rows it was.
    pub(crate) async fn run(&mut self, text: &str) -> u64 {
        match self {
            Self::Postgres(one) => {
                sqlx::query(AssertSqlSafe(text)).execute(one).await.unwrap().rows_affected()
            }
            Self::Sqlite(one) => sqlx::query(AssertSqlSafe(text)).execute(one).await.unwrap().rows_affected(),
        }
    }

    /// The same with an id for `$1`.
    pub(crate) async fn run_for(&mut self, text: &'static str, id: Uuid) -> u64 {
        match self {
            Self::Postgres(one) => sqlx::query(text).bind(id).execute(one).await.unwrap().rows_affected(),
            Self::Sqlite(one) => sqlx::query(text).bind(id).execute(one).await.unwrap().rows_affected(),
        }
    }

    pub(crate) async fn count(&mut self, text: &'static str) -> i64 {
        match self {
            Self::Postgres(one) => sqlx::query_scalar(text).fetch_one(one).await.unwrap(),
            Self::Sqlite(one) => sqlx::query_scalar(text).fetch_one(one).await.unwrap(),
        }
    }
}

/// None for SQLite.
pub(crate) fn postgres_url(folder: &Path) -> Option<String> {
    let config = std::fs::read_to_string(folder.join("syncmx.toml")).unwrap();
    let url = config.lines().find_map(|line| line.strip_prefix("url = \""))?.trim_end_matches('"').to_owned();
    Some(url).filter(|url| url.starts_with("postgres"))
}

/// All that is stored: the files of database and blobs, and what PostgreSQL says that it holds.
pub(crate) async fn stored(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    let files = files_below(&folder.join("data"));
    // The key file holds no words; without it the rest is of no use.
    for file in files.iter().filter(|file| !file.ends_with("keys.toml")) {
        all.extend(octets(file));
    }
    if let Some(url) = postgres_url(folder) {
        all.extend(rows(&url).await);
    }
    assert!(all.len() > 20_000, "{} octets are no store", all.len());
    all
}

/// What nobody but the test does.
pub(crate) async fn change_by_hand(folder: &Path, text: &str) {
    assert!(Beside::of(folder).await.run(text).await > 0, "{text}");
}

/// Of a file; one that goes meanwhile holds nothing.
pub(crate) fn octets(file: &Path) -> Vec<u8> {
    match std::fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.unwrap(),
    }
}

/// Every row of every table of PostgreSQL, as text.
pub(crate) async fn rows(url: &str) -> Vec<u8> {
    let mut connection = postgres::connect(url).await;
    let mut all = Vec::new();
    for table in tables(&mut connection).await {
        let rows: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(format!("SELECT t::text FROM {table} t")))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        rows.iter().for_each(|(row,)| all.extend(row.as_bytes()));
    }
    all
}

/// The files of this database of PostgreSQL's, after its tables are written anew and the old files are gone: what was
/// deleted is in none. The log, which is the cluster's, is not among them.
pub(crate) async fn files_of_postgres(url: &str) -> Vec<PathBuf> {
    let mut connection = postgres::connect(url).await;
    // What columns hold most often is noted in pg_statistic.
    let tables = [&tables(&mut connection).await[..], &["pg_statistic".to_owned()]].concat().join(", ");
    for text in ["ANALYZE".to_owned(), format!("VACUUM FULL {tables}"), "CHECKPOINT".to_owned()] {
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    }
    let folder: String =
        sqlx::query_scalar("SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database WHERE datname = current_database()")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    files_below(Path::new(&folder))
}

async fn tables(connection: &mut PgConnection) -> Vec<String> {
    let wanted = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
    let tables: Vec<String> = sqlx::query_scalar(wanted).fetch_all(connection).await.unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    tables
}

/// Whether a word stands there in any case, in base64, or in hexadecimal digits.
pub(crate) fn stands_in(stored: &[u8], word: &str) -> bool {
    let lower = stored.to_ascii_lowercase();
    let octets = word.to_lowercase().into_bytes();
    let hex: String = word.bytes().map(|octet| format!("{octet:02x}")).collect();
    let in_base64 = (0..3).any(|before| {
        let text = base64(&[vec![0; before], word.as_bytes().to_vec()].concat());
        let whole = (before + word.len()) * 8 / 6;
        let inner = text.get([0, 2, 3][before]..whole).unwrap();
        memchr::memmem::find(stored, inner.as_bytes()).is_some()
    });
    in_base64
        || memchr::memmem::find(&lower, &octets).is_some()
        || memchr::memmem::find(&lower, hex.as_bytes()).is_some()
}
