//! Once an hour: what has had its time ends (R3, R35, R36, R61), and blobs that no row names are swept.
//!
//! What fails is said and tried again an hour later; nothing here is urgent, and nothing depends on its hour.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::Store;
use crate::store::directory::Expired;
use crate::time::Timestamp;

/// Runs until the server drains.
pub(crate) async fn run(store: Store, draining: CancellationToken) {
    let mut hours = tokio::time::interval(HOUR);
    hours.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            _ = hours.tick() => {}
        }
        tokio::select! {
            () = draining.cancelled() => return,
            () = tidy(&store) => {}
        }
    }
}

async fn tidy(store: &Store) {
    expire(store).await;
    tidy_outbox(store).await;
    sweep(store).await;
}

async fn expire(store: &Store) {
    match store.expire(Timestamp::now()).await {
        Ok(Expired { held, traces, messages, marks, released }) => {
            info!(held, traces, messages, marks, released, "housekeeping.done");
        }
        Err(error) => warn!(error = &error as &dyn std::error::Error, "housekeeping.failed"),
    }
}

async fn tidy_outbox(store: &Store) {
    match store.tidy_outbox(Timestamp::now()).await {
        Ok(events) => info!(events, "housekeeping.events_ended"),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "housekeeping.events_not_ended"),
    }
}

async fn sweep(store: &Store) {
    match store.sweep_blobs().await {
        Ok(swept) => info!(swept, "housekeeping.blobs_swept"),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "housekeeping.blobs_not_swept"),
    }
}

const HOUR: Duration = Duration::from_secs(60 * 60);
