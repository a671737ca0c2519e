//! When to try again: pauses that grow threefold from 5 seconds to 12 hours, for 3 days in all. Pure.
//!
//! Promises that the pause of each attempt is longer than the one before (jitter included) until it reaches its
//! longest, that the last attempt stands at the end of the 3 days, and that nothing overflows.

use crate::time::Timestamp;

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again at this time, not before.
    At(Timestamp),
    /// The 3 days are over: a dead letter.
    Never,
}

/// What follows the attempt that failed at `now`. `begun_at` is the time of the first one, `failed` how many there
/// have been (1 or more); `chance` is random: it moves the pause by up to a fifth to either side, so that what failed
/// together does not come back together.
#[must_use]
pub fn next_attempt(begun_at: Timestamp, now: Timestamp, failed: u32, chance: u16) -> Next {
    let ends_at = begun_at.as_millis().saturating_add(GIVE_UP_AFTER_MILLIS);
    if now.as_millis() >= ends_at {
        return Next::Never;
    }
    let at = now.as_millis().saturating_add(jittered(pause_millis(failed), chance));
    Next::At(Timestamp::from_millis(at.min(ends_at)))
}

/// The pause behind the `failed`-th attempt without jitter.
fn pause_millis(failed: u32) -> i64 {
    let steps = failed.saturating_sub(1).min(MAX_STEPS);
    FIRST_PAUSE_MILLIS.saturating_mul(GROWTH.saturating_pow(steps)).min(LONGEST_PAUSE_MILLIS)
}

/// From four to six fifths.
fn jittered(pause_millis: i64, chance: u16) -> i64 {
    let spread = pause_millis / 5 * 2;
    pause_millis - spread / 2 + spread * i64::from(chance) / i64::from(u16::MAX)
}

/// Attempts go on for so long.
pub const GIVE_UP_AFTER_MILLIS: i64 = 3 * 24 * 60 * 60 * 1000;
const FIRST_PAUSE_MILLIS: i64 = 5_000;
const LONGEST_PAUSE_MILLIS: i64 = 12 * 60 * 60 * 1000;
const GROWTH: i64 = 3;
/// Far beyond the longest pause.
const MAX_STEPS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Timestamp = Timestamp::from_millis(1_795_315_445_120);

    fn after(millis: i64) -> Timestamp {
        Timestamp::from_millis(BEGUN.as_millis() + millis)
    }

    #[test]
    fn the_first_pause_is_5_seconds_give_or_take_a_fifth() {
        assert_eq!(next_attempt(BEGUN, BEGUN, 1, 0), Next::At(after(4_000)));
        assert_eq!(next_attempt(BEGUN, BEGUN, 1, u16::MAX), Next::At(after(6_000)));
    }

    #[test]
    fn each_pause_is_longer_than_the_one_before_until_it_is_the_longest() {
        for failed in 1..9 {
            let longest_before = jittered(pause_millis(failed), u16::MAX);
            assert!(longest_before < jittered(pause_millis(failed + 1), 0), "after {failed} failures");
        }
        assert_eq!(pause_millis(u32::MAX), LONGEST_PAUSE_MILLIS);
    }

    #[test]
    fn attempts_end_with_one_at_the_end_of_3_days() {
        for chance in [0, u16::MAX / 2, u16::MAX] {
            let (mut now, mut failed) = (BEGUN, 1);
            while let Next::At(at) = next_attempt(BEGUN, now, failed, chance) {
                assert!(at > now, "attempt {failed}");
                (now, failed) = (at, failed + 1);
            }
            assert_eq!(now, after(GIVE_UP_AFTER_MILLIS));
            assert!((13..=17).contains(&failed), "{failed} attempts");
        }
    }

    #[test]
    fn no_time_or_number_overflows() {
        for extreme in [i64::MIN, 0, i64::MAX] {
            let time = Timestamp::from_millis(extreme);
            for failed in [0, 1, u32::MAX] {
                let _ = next_attempt(time, time, failed, u16::MAX);
            }
        }
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(next_attempt(end, end, 1, 0), Next::Never);
    }
}
