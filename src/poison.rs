//! Messages on which our reader has failed before, by their digest (SMTP.md section 6, rule 6).
//!
//! A failure is our trouble: 451, and the sender keeps the message. After the second on the very same octets it is not
//! read again, so that no mail makes us fail over and over; a restart, with a mended reader, tries it anew. A reading
//! that took too long counts half: it may have been the machine that was slow, yet no mail may burn a processor at each
//! retry. The table is bounded, in memory alone, and costs nothing while it is empty.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

/// Failures after which a message is not read again, where all are of one kind.
pub(crate) const TRIES: u32 = 2;
/// The same for readings that took too long.
pub(crate) const SLOW_TRIES: u32 = 4;
/// Messages that are remembered; the oldest is forgotten first.
const REMEMBERED: usize = 1024;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Poison(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What each weighs: at one it is over.
    failures: HashMap<Key, Weight>,
    /// In the order of their first failure.
    oldest_first: VecDeque<Key>,
}

/// Length and SHA-256 of the octets as received.
type Key = (usize, [u8; 32]);

/// How the reader has failed on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It has broken off.
    Failed,
    /// It was not done in time.
    Slow,
}

/// In parts of [`FULL`].
type Weight = u32;
const FULL: Weight = TRIES * SLOW_TRIES;

impl Failure {
    const fn weight(self) -> Weight {
        match self {
            Self::Failed => FULL / TRIES,
            Self::Slow => FULL / SLOW_TRIES,
        }
    }
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is tried, or may be tried again.
    Again,
    /// It has failed too often.
    Over,
}

impl Poison {
    /// Whether to try this message at all.
    pub(crate) fn judge(&self, raw: &[u8]) -> Attempt {
        // Most messages have the length of none of them, and are not digested for it.
        if !self.known().oldest_first.iter().any(|(length, _)| *length == raw.len()) {
            return Attempt::Again;
        }
        let key = key(raw);
        attempt(self.known().failures.get(&key).copied().unwrap_or_default())
    }

    /// The reader has failed on this message.
    pub(crate) fn failed(&self, raw: &[u8], failure: Failure) {
        let key = key(raw);
        let mut known = self.known();
        let Known { failures, oldest_first } = &mut *known;
        let weight = failures.entry(key).or_insert_with(|| {
            oldest_first.push_back(key);
            0
        });
        *weight = weight.saturating_add(failure.weight());
        while oldest_first.len() > REMEMBERED
            && let Some(oldest) = oldest_first.pop_front()
        {
            failures.remove(&oldest);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn attempt(failures: Weight) -> Attempt {
    if failures < FULL { Attempt::Again } else { Attempt::Over }
}

fn key(raw: &[u8]) -> Key {
    let mut octets = [0; 32];
    octets.iter_mut().zip(digest(&SHA256, raw).as_ref()).for_each(|(to, from)| *to = *from);
    (raw.len(), octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_tried_twice_and_then_no_more() {
        let poison = Poison::default();
        assert_eq!(poison.judge(b"bad"), Attempt::Again);
        poison.failed(b"bad", Failure::Failed);
        assert_eq!(poison.judge(b"bad"), Attempt::Again, "the retry is tried");
        poison.failed(b"bad", Failure::Failed);
        assert_eq!(poison.judge(b"bad"), Attempt::Over);
        assert_eq!(poison.judge(b"dab"), Attempt::Again, "another of the same length");
        assert_eq!(poison.judge(b"good"), Attempt::Again);
    }

    #[test]
    fn m10_a_message_that_takes_too_long_is_tried_four_times_and_then_no_more() {
        let poison = Poison::default();
        for _ in 0..SLOW_TRIES {
            assert_eq!(poison.judge(b"slow"), Attempt::Again);
            poison.failed(b"slow", Failure::Slow);
        }
        assert_eq!(poison.judge(b"slow"), Attempt::Over);
        poison.failed(b"both", Failure::Slow);
        poison.failed(b"both", Failure::Failed);
        assert_eq!(poison.judge(b"both"), Attempt::Again);
        poison.failed(b"both", Failure::Slow);
        assert_eq!(poison.judge(b"both"), Attempt::Over);
    }

    #[test]
    fn the_table_forgets_the_oldest_at_its_limit() {
        let poison = Poison::default();
        for number in 0..REMEMBERED {
            let raw = number.to_be_bytes();
            poison.failed(&raw, Failure::Failed);
            poison.failed(&raw, Failure::Failed);
        }
        assert_eq!(poison.judge(&0_usize.to_be_bytes()), Attempt::Over, "at the limit all are known");
        poison.failed(b"one more", Failure::Failed);
        assert_eq!(poison.judge(&0_usize.to_be_bytes()), Attempt::Again);
        assert_eq!(poison.judge(&1_usize.to_be_bytes()), Attempt::Over);
        let known = poison.known();
        assert_eq!((known.failures.len(), known.oldest_first.len()), (REMEMBERED, REMEMBERED));
    }
}
