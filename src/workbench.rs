//! How much of large messages is worked on at once: read whole into memory, parsed, sealed, filed.
//!
//! Promises that all of them together are at most [`OCTETS`] of raw message, and that a place is given back when the
//! message is filed and the last copy of it gone, a reading that nobody waits for included. Who finds no place waits,
//! with the message sealed on disk, for as long as a message may take at all. One network has at most half of the
//! bench: a message is there while the DNS is asked, and how long that takes is for whoever answers. Where others wait,
//! it is asked for little more than [`DNS_PATIENCE`]: who would keep them waiting has to send as much as is worked on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::smtp::Place;

/// Each octet of a message takes three to five of memory while it is worked on: itself, what is decoded of it, what is
/// sealed, what goes into rows. Of one network one of the largest messages of the default settings, or two of 20 MB:
/// enough for two processors.
pub(crate) const OCTETS: u64 = 96 << 20;
/// A body of this size is in memory already, and needs no place.
const SMALL_OCTETS: u64 = 256 * 1024;
const OCTETS_A_PERMIT: u64 = 4096;
/// How long a message that has a place waits for the DNS at least, whoever waits for the place. Nearly all that is ever
/// answered is answered within it.
pub(crate) const DNS_PATIENCE: Duration = Duration::from_secs(2);

/// The bench.
#[derive(Clone, Debug)]
pub(crate) struct Workbench {
    places: Arc<Semaphore>,
    all: u32,
    /// The shares of networks that have messages here or wait for a place.
    shares: Arc<Mutex<HashMap<IpAddr, Arc<Share>>>>,
    /// How many wait for a place with their network's share in hand.
    waiting: Arc<watch::Sender<usize>>,
    patience: Duration,
}

/// What one network may have.
#[derive(Debug)]
struct Share {
    places: Arc<Semaphore>,
    /// How many wait for it.
    waiting: watch::Sender<usize>,
}

/// One of those who wait.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Workbench {
    pub(crate) fn new(octets: u64) -> Self {
        Self::with_patience(octets, DNS_PATIENCE)
    }

    fn with_patience(octets: u64, patience: Duration) -> Self {
        let all = permits(octets).max(2);
        Self { places: semaphore(all), all, shares: Arc::default(), waiting: Arc::default(), patience }
    }

    /// A place for a message of that size from that client; one that is larger than the bench gets all of it, and one
    /// that is larger than its network's share is the only one from there. None is needed for a small one.
    pub(crate) async fn place(&self, client: IpAddr, size_bytes: u64) -> Option<Place> {
        if size_bytes <= SMALL_OCTETS {
            return None;
        }
        let wanted = permits(size_bytes);
        // Neither semaphore is ever closed. Who waits for his network's share holds nothing of the bench.
        let share = self.share(network(client));
        let of_share = acquire(&share.places, wanted.min(self.share_of_one()), &share.waiting).await?;
        let place = acquire(&self.places, wanted.min(self.all), &self.waiting).await?;
        Some(Arc::new((of_share, place, share)))
    }

    /// Returns when a message of that client that has a place is to wait for the DNS no longer: after [`DNS_PATIENCE`],
    /// and not before somebody waits for a place, or another message for that network's share.
    pub(crate) async fn crowded(&self, client: IpAddr) {
        tokio::time::sleep(self.patience).await;
        let share = self.share(network(client));
        let (mut of_all, mut of_share) = (self.waiting.subscribe(), share.waiting.subscribe());
        // Their senders are ours: there is no other end.
        tokio::select! {
            _ = of_all.wait_for(|waiting| *waiting > 0) => {}
            _ = of_share.wait_for(|waiting| *waiting > 0) => {}
        }
    }

    fn share(&self, network: IpAddr) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // A share that is held or waited for is known outside of the table, too.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        let fresh =
            || Arc::new(Share { places: semaphore(self.share_of_one()), waiting: watch::Sender::new(0) });
        Arc::clone(shares.entry(network).or_insert_with(fresh))
    }

    const fn share_of_one(&self) -> u32 {
        self.all / 2
    }
}

impl<'a> Waiting<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Counted as one who waits, where there is something to wait for.
async fn acquire(
    places: &Arc<Semaphore>,
    wanted: u32,
    waiting: &watch::Sender<usize>,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_many_owned(wanted) {
        return Some(place);
    }
    let _waiting = Waiting::new(waiting);
    Arc::clone(places).acquire_many_owned(wanted).await.ok()
}

fn semaphore(permits: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(1)))
}

fn permits(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(OCTETS_A_PERMIT)).unwrap_or(u32::MAX >> 4)
}

/// An IPv4 address; of IPv6 what one customer is given, a /48.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 80).into(),
    }
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

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn place(bench: &Workbench, client: IpAddr, size_bytes: u64) -> Option<Place> {
        now_or_never(bench.place(client, size_bytes)).flatten()
    }

    #[test]
    fn large_messages_share_the_bench_and_small_ones_need_no_place() {
        let bench = Workbench::new(1 << 20);
        let half = place(&bench, HERE, 1 << 19).unwrap();
        let other = place(&bench, THERE, 1 << 19).unwrap();
        let third: IpAddr = [192, 0, 2, 3].into();
        assert!(now_or_never(bench.place(third, SMALL_OCTETS + 1)).is_none(), "no room for another");
        assert!(now_or_never(bench.place(third, SMALL_OCTETS)).unwrap().is_none(), "a small one goes on");
        drop(half);
        let next = place(&bench, third, SMALL_OCTETS + 1);
        assert!(next.is_some());
        drop((next, other));
        let whole = place(&bench, HERE, 1 << 30);
        assert!(whole.is_some(), "one that is larger than the bench has it alone");
        assert!(now_or_never(bench.place(THERE, SMALL_OCTETS + 1)).is_none());
    }

    #[test]
    fn one_network_has_half_of_the_bench_and_keeps_nobody_else_waiting() {
        let bench = Workbench::new(1 << 20);
        let half = place(&bench, HERE, 1 << 19).unwrap();
        assert!(place(&bench, HERE, SMALL_OCTETS + 1).is_none(), "its share is taken");
        let other = place(&bench, THERE, 1 << 19);
        assert!(other.is_some(), "whoever else comes has the other half");
        drop(half);
        let again = place(&bench, HERE, 1 << 19);
        assert!(again.is_some(), "what was given back can be had again");
        drop((other, again));
        assert!(place(&bench, THERE, SMALL_OCTETS + 1).is_some());
        assert_eq!(bench.shares.lock().unwrap().len(), 1, "nothing is remembered of who is gone");
    }

    #[test]
    fn who_waits_for_his_share_holds_nothing_of_the_bench() {
        let bench = Workbench::new(1 << 20);
        let half = place(&bench, HERE, 1 << 19).unwrap();
        let mut waiting = Box::pin(bench.place(HERE, 1 << 19));
        assert!(now_or_never(waiting.as_mut()).is_none());
        let other = place(&bench, THERE, 1 << 19);
        assert!(other.is_some());
        drop(half);
        assert!(now_or_never(waiting.as_mut()).flatten().is_some(), "and has it when it is free");
    }

    #[tokio::test]
    async fn x6_who_waits_for_the_dns_hurries_only_while_somebody_waits_for_the_place() {
        let bench = Workbench::with_patience(1 << 20, Duration::ZERO);
        let here = place(&bench, HERE, 1 << 19).unwrap();
        let mut of_one = Box::pin(bench.place(HERE, 1 << 19));
        assert!(now_or_never(of_one.as_mut()).is_none(), "its network's share is taken");
        let there = place(&bench, THERE, 1 << 19).unwrap();
        assert!(place(&bench, [192, 0, 2, 3].into(), 1 << 20).is_none(), "this one waits no more");
        let soon = |client| tokio::time::timeout(Duration::from_millis(50), bench.crowded(client));
        assert!(soon(THERE).await.is_err(), "who waits for his own network's share hurries no other");
        tokio::time::timeout(Duration::from_secs(60), bench.crowded(HERE)).await.expect("its own waits");
        let mut third = Box::pin(bench.place([192, 0, 2, 3].into(), SMALL_OCTETS + 1));
        assert!(now_or_never(third.as_mut()).is_none());
        tokio::time::timeout(Duration::from_secs(60), bench.crowded(THERE)).await.expect("somebody waits");
        drop(there);
        assert!(now_or_never(third).flatten().is_some());
        assert!(soon(THERE).await.is_err(), "nobody waits any more");
        drop((here, of_one));
        assert_eq!(Workbench::new(1 << 20).patience, DNS_PATIENCE);
    }

    #[test]
    fn a_network_is_an_address_of_ipv4_and_a_48_of_ipv6() {
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:1::1", "2001:db8:1:ffff::2", true),
            ("2001:db8:1::1", "2001:db8:2::1", false),
        ] {
            let of = |text: &str| network(text.parse().unwrap());
            assert_eq!(of(one) == of(other), is_same, "{one} {other}");
        }
    }
}
