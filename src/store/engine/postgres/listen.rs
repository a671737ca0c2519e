//! Hears of changes that other nodes made (LISTEN), and of having been deaf.
//!
//! Promises that `changed` is called within a second of another node's commit, and after each time that the
//! connection was lost: what was said meanwhile nobody heard.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;
use crate::store::engine::postgres::{PostgresUrl, explain};

/// Says that remembered addresses or keys may be wrong: to be sent in the transaction that changes them.
pub(in crate::store) const CHANGED: &str = "NOTIFY syncmx_changed";

/// Listens from now on, until it is stopped.
pub(in crate::store) async fn listen(
    url: PostgresUrl,
    changed: impl Fn() + Send + Sync + 'static,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    let mut listener = connect(&url).await.map_err(|error| explain(error, &url))?;
    let hearing = async move {
        loop {
            // It ends when the connection does: the database is away, and each look-up says so.
            let _lost = hear(listener, &changed).await;
            listener = loop {
                tokio::time::sleep(RETRY).await;
                if let Ok(listener) = connect(&url).await {
                    break listener;
                }
            };
            changed();
        }
    };
    tokio::spawn(stop.run_until_cancelled_owned(Box::pin(hearing)));
    Ok(())
}

async fn connect(url: &PostgresUrl) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER_LIMIT);
    let mut listener = PgListener::connect_with(&pool.connect_lazy_with((*url.options).clone())).await?;
    listener.eager_reconnect(false);
    within(listener.listen(CHANNEL)).await?;
    Ok(listener)
}

async fn hear(mut listener: PgListener, changed: &impl Fn()) -> Result<(), sqlx::Error> {
    loop {
        match tokio::time::timeout(PROBE_AFTER, listener.try_recv()).await {
            Ok(Ok(Some(_))) => changed(),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            // A peer that is gone without a word would never be missed.
            Err(_) => {
                within(async { sqlx::Executor::execute(&mut listener, "SELECT 1").await.map(|_| ()) })
                    .await?;
            }
        }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_LIMIT, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

const CHANNEL: &str = "syncmx_changed";
const RETRY: Duration = Duration::from_secs(1);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const PROBE_AFTER: Duration = Duration::from_secs(10);
