//! Once an hour: what has had its time ends (R3, R35, R36, R61). Once a day, first an hour after the start: blobs that
//! no row names are swept. At the start, every minute, and whenever one is left over: purges under way go on (R60).
//!
//! What fails is said and tried again an hour later; nothing here is urgent, and nothing depends on its hour. A clock
//! that cannot be believed ([`Clock`]) ends nothing, and where the store says that it was believed stays as it is.

use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::store::directory::Expired;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Runs until the server drains.
pub(crate) async fn run(store: Store, draining: CancellationToken) {
    let mut hours = tokio::time::interval(HOUR);
    hours.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut started = None;
    let mut sweeps = Sweeps::default();
    for hour in 0.. {
        tokio::select! {
            () = draining.cancelled() => return,
            _ = hours.tick() => {}
        }
        // A command beside us may have erased something, and been killed before the log was emptied.
        // At the start it has been emptied.
        if hour > 0 {
            store.suspect_log();
        }
        let (at, now) = (Instant::now(), Timestamp::now());
        match draining.run_until_cancelled(believe(&store, &mut started, at, now)).await {
            None => return,
            Some(Ok(true)) => {}
            Some(Ok(false)) => continue,
            Some(Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "housekeeping.failed");
                continue;
            }
        }
        // Ends with the piece at hand, and reports what it has done.
        expire(&store, now, &draining).await;
        let tidied = async {
            tidy_outbox(&store, now).await;
            if sweeps.is_due(hour) {
                sweeps.end(hour, store.sweep_blobs().await);
            }
        };
        tokio::select! {
            () = draining.cancelled() => return,
            () = tidied => {}
        }
    }
}

/// R60: takes up purges, and what still stands in the database's log, until the server drains; a drain waits for no
/// more than the piece at hand.
pub(crate) async fn run_purges(store: Store, draining: CancellationToken) {
    // At the start nobody is at work on any of them.
    let mut begun_before = Timestamp::now();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            () = erase(&store, begun_before) => {}
        }
        let minute = tokio::time::sleep(MINUTE);
        tokio::select! {
            () = draining.cancelled() => return,
            () = store.purge_wanted() => {}
            () = minute => {}
            () = clear_log(&store) => {}
        }
        begun_before = Timestamp::from_millis(Timestamp::now().as_millis() - PURGE_PATIENCE_MILLIS);
    }
}

/// Erases account keys that nothing needs any more; once a minute until the server drains, a piece at a time.
pub(crate) async fn run_rotations(store: Store, draining: CancellationToken) {
    let mut minutes = tokio::time::interval(MINUTE);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let finish = async {
            minutes.tick().await;
            match store.finish_rotations(Timestamp::now()).await {
                Ok(0) => {}
                Ok(accounts) => info!(accounts, "keys.retired_keys_erased"),
                Err(error) => warn!(error = &error as &dyn std::error::Error, "keys.rotation_waits"),
            }
        };
        tokio::select! {
            () = draining.cancelled() => return,
            () = finish => {}
        }
    }
}

/// When blobs are swept: a bucket is listed whole for it, and it is hardly ever needed.
#[derive(Debug, Default)]
struct Sweeps {
    last: Option<u64>,
}

impl Sweeps {
    const fn is_due(&self, hour: u64) -> bool {
        match self.last {
            None => hour >= 1,
            Some(last) => hour >= last + 24,
        }
    }

    fn end(&mut self, hour: u64, swept: Result<usize, StoreError>) {
        match swept {
            Ok(swept) => {
                self.last = Some(hour);
                info!(swept, "housekeeping.blobs_swept");
            }
            Err(error) => warn!(error = &error as &dyn std::error::Error, "housekeeping.blobs_not_swept"),
        }
    }
}

/// Never ends.
async fn clear_log(store: &Store) {
    loop {
        tokio::time::sleep(LOG_PAUSE).await;
        store.clear_log().await;
    }
}

async fn erase(store: &Store, begun_before: Timestamp) {
    store.clear_log().await;
    match store.finish_purges(begun_before).await {
        Ok(0) => {}
        Ok(finished) => info!(finished, "purge.finished"),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "purge.waits"),
    }
}

/// Whether something may end by the clock: if so, the store knows of it before anything does.
async fn believe(
    store: &Store,
    started: &mut Option<Clock>,
    at: Instant,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let clock = match started {
        Some(clock) => clock,
        None => started.insert(Clock::start(at, now, store.clock_mark().await?)),
    };
    let doubt = clock.doubt(at, now);
    metrics::gauge!("syncmx_clock_doubted").set(if doubt.is_some() { 1.0 } else { 0.0 });
    match doubt {
        Some(doubt) => {
            tell_doubt(now);
            store.doubt_clock(doubt).await?;
        }
        None => store.believe_clock(now).await?,
    }
    Ok(doubt.is_none())
}

fn tell_doubt(now: Timestamp) {
    warn!(
        clock = now.to_rfc3339(),
        "the clock has jumped, or is far from where it was before the start: nothing is ended or swept until the server has run with it evenly for a day"
    );
}

async fn expire(store: &Store, now: Timestamp, draining: &CancellationToken) {
    match store.expire_until(now, draining).await {
        Ok(Expired { held, traces, messages, marks, tombstones, released }) => {
            info!(held, traces, messages, marks, tombstones, released, "housekeeping.done");
        }
        Err(error) => warn!(error = &error as &dyn std::error::Error, "housekeeping.failed"),
    }
}

async fn tidy_outbox(store: &Store, now: Timestamp) {
    match store.tidy_outbox(now).await {
        Ok(events) => info!(events, "housekeeping.events_ended"),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "housekeeping.events_not_ended"),
    }
}

/// Blobs that could not be removed at once, purges that a store away has stopped.
const MINUTE: Duration = Duration::from_secs(60);
/// A log that somebody has just read from.
const LOG_PAUSE: Duration = Duration::from_secs(2);
/// As long as a request works on the purge that it has begun.
pub(crate) const PURGE_PATIENCE_MILLIS: i64 = 10_000;
const HOUR: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_swept_an_hour_after_the_start_and_then_once_a_day() {
        let (mut sweeps, mut tried) = (Sweeps::default(), Vec::new());
        // What fails is tried an hour later.
        for hour in (0..60).filter(|hour| *hour != 25) {
            if sweeps.is_due(hour) {
                tried.push(hour);
                sweeps.end(hour, if hour == 1 { Err(StoreError::TimedOut) } else { Ok(0) });
            }
        }
        assert_eq!(tried, [1, 2, 26, 50]);
    }
}
