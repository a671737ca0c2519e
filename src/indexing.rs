//! Indexes for the search what was filed: at once where no mail is coming in, else a little now and then, so that no
//! filing waits for it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::id::AccountId;
use crate::store::search::Piece;
use crate::store::{Store, StoreError};

/// Runs until the server drains.
pub(crate) async fn run(store: Store, draining: CancellationToken) {
    let (mut last, mut load, mut sorter) = (None, Load::default(), Sorter::default());
    let mut shown: Option<Instant> = None;
    loop {
        let (indexed, pause) = index_some(&store, &mut last, &mut load).await;
        if sorter.is_due(indexed, Instant::now()) {
            let sorted = store.sort_terms_in().await;
            sorter.hear(sorted);
        }
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

/// Whether there was anything to be indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indexed {
    Nothing,
    Some,
}

/// Also says how long to wait before the next piece.
async fn index_some(store: &Store, last: &mut Option<AccountId>, load: &mut Load) -> (Indexed, Duration) {
    let began = Instant::now();
    let is_busy = load.is_busy(began, store.batches().jobs);
    let piece = if is_busy { Piece::SMALL } else { Piece::WHOLE };
    match store.index_some(last, piece).await {
        Ok(true) if is_busy => (Indexed::Some, busy_pause(began.elapsed())),
        Ok(true) => (Indexed::Some, Duration::ZERO),
        Ok(false) => (Indexed::Nothing, SECOND),
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "search.waits");
            (Indexed::Nothing, FAILED_PAUSE)
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

/// While mail is coming in: indexing has a twentieth of the time, and always its turn.
fn busy_pause(took: Duration) -> Duration {
    took.saturating_mul(19).clamp(BUSY_PAUSE_LEAST, BUSY_PAUSE_MOST)
}

/// Sorts terms into the index after each piece, and now and then what others have added: a search indexes the newest
/// messages itself.
#[derive(Debug, Default)]
struct Sorter {
    last: Option<Instant>,
    is_forbidden: bool,
}

impl Sorter {
    fn is_due(&mut self, indexed: Indexed, now: Instant) -> bool {
        let is_old = self.last.is_none_or(|last| now.saturating_duration_since(last) >= MINUTE);
        let is_due = !self.is_forbidden && (indexed == Indexed::Some || is_old);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// What the role may not do is not asked for again.
    fn hear(&mut self, sorted: Result<(), StoreError>) {
        match sorted {
            Ok(()) => {}
            Err(error) if error.is_forbidden() => {
                self.is_forbidden = true;
                warn!(
                    "the role of store.url does not own the search index: terms wait in its list until PostgreSQL sorts \
                     them in, and searches are slower meanwhile"
                );
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "search.terms_not_sorted_in");
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no last digit")]
async fn show_waiting(store: &Store) {
    match store.waiting_for_search().await {
        Ok(waiting) => metrics::gauge!("syncmx_search_waiting").set(waiting as f64),
        Err(error) => warn!(error = &error as &dyn std::error::Error, "search.waiting_not_counted"),
    }
}

/// Filings, refusals and notes of reads in a second; fewer are no rush.
const BUSY_JOBS: u64 = 8;
/// Between pieces of the index while mail is coming in.
const BUSY_PAUSE_LEAST: Duration = Duration::from_millis(200);
const BUSY_PAUSE_MOST: Duration = Duration::from_secs(1);
/// Between counts of what waits.
const SHOWN_PAUSE: Duration = Duration::from_secs(10);
/// After a piece that could not be indexed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

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
    fn while_mail_comes_in_indexing_has_a_twentieth_of_the_time() {
        for (took, pause) in [(1, 200), (10, 200), (11, 209), (40, 760), (53, 1_000), (10_000, 1_000)] {
            assert_eq!(busy_pause(Duration::from_millis(took)), Duration::from_millis(pause), "{took}");
        }
        assert_eq!(busy_pause(Duration::MAX), BUSY_PAUSE_MOST);
    }

    #[test]
    fn terms_are_sorted_in_after_each_piece_and_once_a_minute_until_it_is_forbidden() {
        let (start, mut sorter) = (Instant::now(), Sorter::default());
        let seconds = |sorter: &mut Sorter, range: std::ops::Range<u32>| -> Vec<u32> {
            let indexed = |n: &u32| if *n % 100 == 7 { Indexed::Some } else { Indexed::Nothing };
            range.filter(|n| sorter.is_due(indexed(n), start + SECOND * *n)).collect()
        };
        assert_eq!(seconds(&mut sorter, 0..200), [0, 7, 67, 107, 167]);
        sorter.hear(Err(StoreError::Closed));
        assert_eq!(seconds(&mut sorter, 200..300), [207, 267]);
        sorter.is_forbidden = true;
        assert_eq!(seconds(&mut sorter, 300..500), [0; 0]);
    }
}
