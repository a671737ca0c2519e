//! How much mail to postmaster and abuse is kept in a day: those addresses everybody knows, and everybody may write to.
//!
//! Promises that the operator's review queue cannot be used to fill the disk. Counted since this process started, on a
//! clock that nobody sets; what is over is put off until the day is over, with `452 4.7.1`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Mails of a day.
const MAILS_A_DAY: u32 = 1000;
/// Octets of a day, all in all. Held for the operator's `held_days`, 30 days of it are 7.5 GiB at most.
const OCTETS_A_DAY: u64 = 256 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What of the day's share is used.
#[derive(Debug)]
pub(crate) struct Allowance(Mutex<Used>);

#[derive(Debug)]
struct Used {
    since: Instant,
    mails: u32,
    octets: u64,
}

impl Allowance {
    pub(crate) const fn new(now: Instant) -> Self {
        Self(Mutex::new(Used { since: now, mails: 0, octets: 0 }))
    }

    /// Whether there is room for a mail of that size (0: of any).
    pub(crate) fn has_room(&self, octets: u64, now: Instant) -> bool {
        self.with(now, |used| used.has_room(octets))
    }

    /// Takes a mail in, if there is room for it.
    pub(crate) fn take(&self, octets: u64, now: Instant) -> bool {
        self.with(now, |used| {
            let has_room = used.has_room(octets);
            if has_room {
                used.count(octets);
            }
            has_room
        })
    }

    /// Counts a mail that is kept whether there is room or not, since it has other recipients.
    pub(crate) fn overdraw(&self, octets: u64, now: Instant) {
        self.with(now, |used| used.count(octets));
    }

    fn with<T>(&self, now: Instant, act: impl FnOnce(&mut Used) -> T) -> T {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(used.since) >= DAY {
            *used = Used { since: now, mails: 0, octets: 0 };
        }
        act(&mut used)
    }
}

impl Used {
    const fn has_room(&self, octets: u64) -> bool {
        self.mails < MAILS_A_DAY && self.octets.saturating_add(octets) <= OCTETS_A_DAY
    }

    const fn count(&mut self, octets: u64) {
        self.mails = self.mails.saturating_add(1);
        self.octets = self.octets.saturating_add(octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_beyond_the_share_counts() {
        let now = Instant::now();
        let allowance = Allowance::new(now);
        assert!(allowance.take(OCTETS_A_DAY - 1, now) && allowance.has_room(1, now));
        assert!(!allowance.take(2, now) && allowance.has_room(1, now), "what is put off does not count");
        allowance.overdraw(2, now);
        assert!(!allowance.has_room(0, now));
    }

    #[test]
    fn a_day_has_so_many_mails_and_the_next_day_as_many_again() {
        let now = Instant::now();
        let allowance = Allowance::new(now);
        assert!((0..MAILS_A_DAY).all(|_| allowance.take(1, now)));
        assert!(!allowance.has_room(0, now) && !allowance.take(1, now));
        assert!(!allowance.has_room(0, now + DAY - Duration::from_secs(1)));
        assert!(allowance.take(1, now + DAY));
    }

    #[test]
    fn a_day_has_so_many_octets() {
        let now = Instant::now();
        let allowance = Allowance::new(now);
        assert!(allowance.take(OCTETS_A_DAY - 10, now));
        assert!(!allowance.take(11, now), "one octet too many");
        assert!(allowance.take(10, now) && allowance.has_room(0, now) && !allowance.has_room(1, now));
    }
}
