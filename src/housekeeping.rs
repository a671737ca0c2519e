//! Once an hour: what has had its time ends (R3, R35, R36, R61), and blobs that no row names are swept. At the start,
//! every minute, and whenever one is left over: purges under way go on (R60). After an upgrade: older messages are
//! indexed for the search.
//!
//! What fails is said and tried again an hour later; nothing here is urgent, and nothing depends on its hour. A clock that
//! has jumped ends nothing until it has gone evenly for a day: by then somebody has set it right, or it is right.

use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::id::AccountId;
use crate::store::directory::Expired;
use crate::store::search::Piece;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Runs until the server drains.
pub(crate) async fn run(store: Store, draining: CancellationToken) {
    let mut hours = tokio::time::interval(HOUR);
    hours.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clock = Clock::default();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            _ = hours.tick() => {}
        }
        if !clock.is_steady(Instant::now(), Timestamp::now()) {
            warn!("the clock has jumped: nothing is ended or swept until it has gone evenly for a day");
            continue;
        }
        tokio::select! {
            () = draining.cancelled() => return,
            () = tidy(&store) => {}
        }
    }
}

/// R60: takes up purges until the server drains; a drain waits for no more than the piece at hand.
pub(crate) async fn run_purges(store: Store, draining: CancellationToken) {
    // At the start nobody is at work on any of them.
    let mut begun_before = Timestamp::now();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            () = purge(&store, begun_before) => {}
        }
        tokio::select! {
            () = draining.cancelled() => return,
            () = store.purge_wanted() => {}
            () = tokio::time::sleep(MINUTE) => {}
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

/// The wall clock, as it goes beside the one that never jumps.
#[derive(Debug, Default)]
struct Clock {
    seen: Option<(Instant, Timestamp)>,
    jumped: Option<Instant>,
}

impl Clock {
    /// A machine that slept has jumped, too.
    fn is_steady(&mut self, at: Instant, now: Timestamp) -> bool {
        if let Some((before, then)) = self.seen.replace((at, now)) {
            let passed = i64::try_from(at.saturating_duration_since(before).as_millis()).unwrap_or(i64::MAX);
            let expected = then.as_millis().saturating_add(passed);
            if now.as_millis().abs_diff(expected) > JUMP_MILLIS {
                self.jumped = Some(at);
            }
        }
        self.jumped.is_none_or(|jumped| at.saturating_duration_since(jumped) >= DAY)
    }
}

async fn purge(store: &Store, begun_before: Timestamp) {
    match store.finish_purges(begun_before).await {
        Ok(0) => {}
        Ok(finished) => info!(finished, "purge.finished"),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "purge.waits"),
    }
}

/// Indexes what was filed: at once where no mail is coming in, else a little now and then.
pub(crate) async fn run_search_index(store: Store, draining: CancellationToken) {
    let (mut last, mut load) = (None, Load::default());
    let mut shown: Option<Instant> = None;
    loop {
        let pause = index_some(&store, &mut last, &mut load).await;
        if shown.is_none_or(|shown| shown.elapsed() >= SHOWN_PAUSE) {
            shown = Some(Instant::now());
            show_waiting(&store).await;
        }
        tokio::select! {
            () = draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How much is written besides.
#[derive(Debug, Default)]
struct Load {
    /// When counting began anew, and at how many jobs of the writer.
    since: Option<(Instant, u64)>,
    is_busy: bool,
}

impl Load {
    /// Whether mail is coming in: from [`BUSY_JOBS`] within a second on, until a second has gone by with fewer.
    fn is_busy(&mut self, now: Instant, jobs: u64) -> bool {
        let (since, before) = *self.since.get_or_insert((now, jobs));
        let has_many = jobs.saturating_sub(before) >= BUSY_JOBS;
        if has_many || now.saturating_duration_since(since) >= SECOND {
            (self.since, self.is_busy) = (Some((now, jobs)), has_many);
        }
        self.is_busy
    }
}

/// While mail is coming in: indexing has a tenth of the time, and always its turn.
fn busy_pause(took: Duration) -> Duration {
    took.saturating_mul(9).clamp(BUSY_PAUSE_LEAST, BUSY_PAUSE_MOST)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no last digit")]
async fn show_waiting(store: &Store) {
    match store.waiting_for_search().await {
        Ok(waiting) => metrics::gauge!("syncmx_search_waiting").set(waiting as f64),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "search.waiting_not_counted"),
    }
}

/// How long to wait before the next piece.
async fn index_some(store: &Store, last: &mut Option<AccountId>, load: &mut Load) -> Duration {
    let began = Instant::now();
    let is_busy = load.is_busy(began, store.batches().jobs);
    let piece = if is_busy { Piece::SMALL } else { Piece::WHOLE };
    let indexed = store.index_some(last, piece).await;
    if let Err(error) = store.sort_terms_in().await {
        warn!(error = &error as &dyn std::error::Error, "search.terms_not_sorted_in");
    }
    pause_after(&indexed, is_busy.then(|| began.elapsed()))
}

/// `took` is how long the piece took while mail was coming in; none if there was none.
fn pause_after(indexed: &Result<bool, StoreError>, took: Option<Duration>) -> Duration {
    match indexed {
        Ok(true) => took.map_or(Duration::ZERO, busy_pause),
        Ok(false) => SECOND,
        Err(error) => {
            warn!(error = error as &dyn std::error::Error, "search.waits");
            FAILED_PAUSE
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

/// Blobs that could not be removed at once, and purges that a store away has stopped.
const MINUTE: Duration = Duration::from_secs(60);
/// Filings, refusals and notes of reads in a second; fewer are no rush.
const BUSY_JOBS: u64 = 8;
/// Between pieces of the index while mail is coming in.
const BUSY_PAUSE_LEAST: Duration = Duration::from_millis(100);
const BUSY_PAUSE_MOST: Duration = Duration::from_millis(500);
/// Between counts of what waits.
const SHOWN_PAUSE: Duration = Duration::from_secs(10);
/// After a piece that could not be indexed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
/// As long as a request works on the purge that it has begun.
pub(crate) const PURGE_PATIENCE_MILLIS: i64 = 10_000;
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// More than time servers ever set right at once, less than what a blob may lie without its row.
const JUMP_MILLIS: u64 = 10 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_comes_in_from_eight_filings_a_second_on_and_until_a_second_with_fewer() {
        let (began, mut load) = (Instant::now(), Load::default());
        let mut look = |millis, jobs| load.is_busy(began + Duration::from_millis(millis), jobs);
        assert!(!look(0, 1_000), "whatever there was before");
        assert!(!look(25, 1_001) && !look(900, 1_007));
        // Slowed down by the index itself, one between two pieces of it.
        assert!(look(999, 1_008));
        assert!(look(1_500, 1_009) && look(1_990, 1_015));
        assert!(!look(2_000, 1_015), "a second with fewer");
        assert!(!look(2_999, 1_022) && !look(3_000, 1_022));
        assert!(look(3_001, 1_500) && look(4_000, 1_507) && !look(4_001, 1_507));
    }

    #[test]
    fn while_mail_comes_in_indexing_has_a_tenth_of_the_time() {
        for (took, pause) in [(1, 100), (11, 100), (12, 108), (40, 360), (55, 495), (60, 500), (10_000, 500)]
        {
            assert_eq!(busy_pause(Duration::from_millis(took)), Duration::from_millis(pause), "{took}");
        }
        assert_eq!(busy_pause(Duration::MAX), BUSY_PAUSE_MOST);
    }

    #[test]
    fn a_clock_that_has_jumped_is_not_believed_until_it_has_gone_evenly_for_a_day() {
        let (began, mut clock) = (Instant::now(), Clock::default());
        let mut look = |hours: u32, off_millis: i64| {
            let at = HOUR * hours;
            let shown = i64::try_from(at.as_millis()).unwrap() + off_millis;
            clock.is_steady(began + at, Timestamp::from_millis(shown))
        };
        let limit = i64::try_from(JUMP_MILLIS).unwrap();
        assert!(look(0, 0) && look(1, 0));
        assert!(look(2, limit), "as much as time servers do");
        assert!(!look(3, 2 * limit + 1) && !look(4, 2 * limit + 1));
        assert!(!look(26, 2 * limit + 1));
        assert!(look(27, 2 * limit + 1), "a day after the jump");
        assert!(!look(28, limit), "back is a jump, too");
        assert!(!look(51, 0) && look(52, 0));
    }
}
