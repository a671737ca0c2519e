//! How much of large messages is judged at once: read whole into memory, parsed, sealed.
//!
//! Promises that all of them together hold at most [`OCTETS`] of raw message, and that a place is given back when the
//! last copy of the message is gone, a reading that nobody waits for included. Who finds no place waits, with the message
//! sealed on disk, for as long as a message may take at all.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Each octet of a message takes two to three of memory while it is judged: itself, what is decoded of it, what is
/// sealed. Four of the largest messages that come with default settings.
pub(crate) const OCTETS: u64 = 144 << 20;
/// A body of this size is in memory already, and needs no place.
const SMALL_OCTETS: u64 = 256 * 1024;
const OCTETS_A_PERMIT: u64 = 4096;

/// The bench.
#[derive(Clone, Debug)]
pub(crate) struct Workbench {
    places: Arc<Semaphore>,
    all: u32,
}

impl Workbench {
    pub(crate) fn new(octets: u64) -> Self {
        let all = permits(octets).max(1);
        Self { places: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(1))), all }
    }

    /// A place for a message of that size; one that is larger than the bench gets all of it. None is needed for a small
    /// one.
    pub(crate) async fn place(&self, size_bytes: u64) -> Option<OwnedSemaphorePermit> {
        if size_bytes <= SMALL_OCTETS {
            return None;
        }
        let wanted = permits(size_bytes).min(self.all);
        // The semaphore is never closed.
        Arc::clone(&self.places).acquire_many_owned(wanted).await.ok()
    }
}

fn permits(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(OCTETS_A_PERMIT)).unwrap_or(u32::MAX >> 4)
}

#[cfg(test)]
mod tests {
    use futures_of::now_or_never;

    use super::*;

    mod futures_of {
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};

        /// What a future gives at its first poll.
        pub(super) fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
            match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            }
        }
    }

    #[test]
    fn large_messages_share_the_bench_and_small_ones_need_no_place() {
        let bench = Workbench::new(1 << 20);
        let half = now_or_never(bench.place(1 << 19)).flatten().unwrap();
        let other = now_or_never(bench.place(1 << 19)).flatten().unwrap();
        assert!(now_or_never(bench.place(SMALL_OCTETS + 1)).is_none(), "no room for another");
        assert!(now_or_never(bench.place(SMALL_OCTETS)).unwrap().is_none(), "a small one goes on");
        drop(half);
        let third = now_or_never(bench.place(SMALL_OCTETS + 1)).flatten();
        assert!(third.is_some());
        drop((third, other));
        let whole = now_or_never(bench.place(1 << 30)).flatten();
        assert!(whole.is_some(), "one that is larger than the bench has it alone");
        assert!(now_or_never(bench.place(SMALL_OCTETS + 1)).is_none());
    }
}
