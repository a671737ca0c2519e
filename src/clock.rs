//! Whether the wall clock can be believed, before anything ends by it.
//!
//! What ends is gone for good, so a clock that may be wrong ends nothing. It may be wrong if it jumped beside the one
//! that never jumps, or if it stands, at the start, far from where it stood when it was last believed, which the store
//! remembers. It is believed again once it has gone evenly for a day of running, restarts included: by then somebody has
//! set it right, or it is right, and a server that was off for long ends everything a day later.

use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// The wall clock, as it goes beside the one that never jumps.
#[derive(Debug)]
pub(crate) struct Clock {
    seen: (Instant, Timestamp),
    /// How long it has gone evenly while it is doubted.
    even: Option<Duration>,
}

/// What the store remembers of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockMark {
    /// What it showed when it was last believed.
    pub believed_at: Timestamp,
    /// Since then it has been doubted.
    pub doubt: Option<ClockDoubt>,
}

/// A clock that is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockDoubt {
    /// What it showed last.
    pub at: Timestamp,
    /// How long it has gone evenly.
    pub even: Duration,
}

/// How a clock stands to when it was last believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distance {
    /// So far ahead that the server was off for long, or the clock is wrong.
    Ahead,
    /// Time has gone back.
    Behind,
    Near,
}

impl Distance {
    pub(crate) fn of(now: Timestamp, believed: Timestamp) -> Self {
        let ahead = now.as_millis().saturating_sub(believed.as_millis());
        if ahead > AHEAD_MILLIS {
            Self::Ahead
        } else if ahead < -BEHIND_MILLIS {
            Self::Behind
        } else {
            Self::Near
        }
    }
}

impl Clock {
    /// At the start of the server. Nothing has ended yet in a store whose clock was never believed.
    pub(crate) fn start(at: Instant, now: Timestamp, mark: Option<ClockMark>) -> Self {
        let far = mark.filter(|mark| Distance::of(now, mark.believed_at) != Distance::Near);
        let even = far.map(|mark| {
            // The same doubtful clock goes on where it was.
            let known = mark.doubt.filter(|doubt| Distance::of(now, doubt.at) == Distance::Near);
            known.map(|doubt| doubt.even).unwrap_or_default()
        });
        Self { seen: (at, now), even }
    }

    /// The doubt, if it is not to be believed. A machine that slept has jumped, too.
    pub(crate) fn doubt(&mut self, at: Instant, now: Timestamp) -> Option<ClockDoubt> {
        let (before, then) = std::mem::replace(&mut self.seen, (at, now));
        let passed = at.saturating_duration_since(before);
        let millis = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        self.even = if now.as_millis().abs_diff(then.as_millis().saturating_add(millis)) > JUMP_MILLIS {
            Some(Duration::ZERO)
        } else {
            self.even.map(|even| even.saturating_add(passed)).filter(|even| *even < GRACE)
        };
        self.even.map(|even| ClockDoubt { at: now, even })
    }
}

/// Of running with a clock that goes evenly, before a doubtful one is believed.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than most repairs take, far shorter than what is kept is kept.
const AHEAD_MILLIS: i64 = 2 * 24 * 60 * 60 * 1000;
/// More than the clocks of two nodes are apart.
const BEHIND_MILLIS: i64 = 60 * 60 * 1000;
/// More than time servers ever set right at once, less than what a blob may lie without its row.
const JUMP_MILLIS: u64 = 10 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const NOON: Timestamp = Timestamp::from_millis(1_795_315_445_120);

    const BELIEVED: ClockMark = ClockMark { believed_at: NOON, doubt: None };

    fn later(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOON.as_millis() + millis)
    }

    #[test]
    fn a_clock_that_has_jumped_is_not_believed_until_it_has_gone_evenly_for_a_day() {
        let began = Instant::now();
        let mut clock = Clock::start(began, NOON, None);
        let mut look = |hours: u32, off_millis: i64| {
            let at = HOUR * hours;
            clock.doubt(began + at, later(i64::try_from(at.as_millis()).unwrap() + off_millis)).is_none()
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

    #[test]
    fn a_start_far_from_the_last_one_is_not_believed_before_it_has_run_for_a_day() {
        let is_believed = |off_millis: i64, hours: u32| {
            let (began, shown) = (Instant::now(), later(off_millis));
            let mut clock = Clock::start(began, shown, Some(BELIEVED));
            (0..=hours).map(|hour| HOUR * hour).fold(false, |_, at| {
                let passed = i64::try_from(at.as_millis()).unwrap();
                clock.doubt(began + at, Timestamp::from_millis(shown.as_millis() + passed)).is_none()
            })
        };
        for near in [0, AHEAD_MILLIS, -BEHIND_MILLIS] {
            assert!(is_believed(near, 0), "{near}");
        }
        for far in [AHEAD_MILLIS + 1, 31 * AHEAD_MILLIS, -BEHIND_MILLIS - 1, -NOON.as_millis()] {
            assert!(!is_believed(far, 0) && !is_believed(far, 23), "{far}");
            assert!(is_believed(far, 24), "{far}");
        }
    }

    #[test]
    fn a_doubtful_clock_that_is_set_right_has_its_day_anew() {
        let began = Instant::now();
        let month = 15 * AHEAD_MILLIS;
        let mut clock = Clock::start(began, later(month), Some(BELIEVED));
        assert!(clock.doubt(began, later(month)).is_some());
        let hours = |hours: u32| i64::try_from((HOUR * hours).as_millis()).unwrap();
        assert!(clock.doubt(began + HOUR * 5, later(hours(5))).is_some());
        assert!(clock.doubt(began + HOUR * 28, later(hours(28))).is_some());
        assert!(clock.doubt(began + HOUR * 29, later(hours(29))).is_none());
    }

    #[test]
    fn a_restart_goes_on_with_the_doubt_of_the_same_clock_and_of_no_other() {
        let month = 15 * AHEAD_MILLIS;
        let doubt = ClockDoubt { at: later(month), even: HOUR * 23 };
        let mark = ClockMark { believed_at: NOON, doubt: Some(doubt) };
        let an_hour_later = |shown: Timestamp| {
            let at = Instant::now();
            let mut clock = Clock::start(at, shown, Some(mark));
            clock.doubt(at + HOUR, Timestamp::from_millis(shown.as_millis() + 60 * 60 * 1000))
        };
        assert_eq!(an_hour_later(later(month)), None, "23 hours, and this one");
        assert_eq!(an_hour_later(later(month + AHEAD_MILLIS)), None);
        for other in [later(month + AHEAD_MILLIS + 1), later(month - BEHIND_MILLIS - 1)] {
            assert_eq!(an_hour_later(other).map(|doubt| doubt.even), Some(HOUR));
        }
        assert_eq!(an_hour_later(NOON), None, "it was set right: nothing was far");
    }

    #[test]
    fn the_first_start_of_all_believes_its_clock_and_any_number_can_be_compared() {
        let at = Instant::now();
        assert_eq!(
            Clock::start(at, Timestamp::from_millis(0), None).doubt(at, Timestamp::from_millis(0)),
            None
        );
        let (least, most) = (Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX));
        assert_eq!(Distance::of(most, least), Distance::Ahead);
        assert_eq!(Distance::of(least, most), Distance::Behind);
    }
}
