//! What one network may do at once and over time: connections, new connections, recipients that do not exist.
//!
//! Counts by the networks of [`prefix`]. Promises bounded memory whatever addresses an attacker has: a full shard
//! forgets networks that were seen once before those that come back, and never one that is connected. What it does not
//! know, it lets in. What the neighbours of a client have tried out turns nobody away who writes to addresses that are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::smtp::Noting;
use crate::smtp::prefix::{self, LEVELS, Prefix, counted, is_counted};
use crate::smtp::session::{Load, Room};

/// New connections a minute from one address, its /26, its /21 (IPv6: /64, /48, /32). Loopback is not counted.
const CONNECTS_A_MINUTE: [f64; LEVELS] = [600.0, 2400.0, 9600.0];
/// Unknown recipients an hour, likewise (row S15).
const UNKNOWN_AN_HOUR: [f64; LEVELS] = [100.0, 400.0, 1600.0];
/// Who goes on trying beyond its budget is counted up to so many times the budget: an hour later all is forgotten.
const UNKNOWN_AT_MOST: f64 = 2.0;
/// Traces a minute of recipients that are not served, unknown ones apart, likewise. Stress does not make them fewer:
/// they are all that a user learns of mail which was put off, and those of one transaction of a hundred recipients
/// must fit.
const TRACES_A_MINUTE: [f64; LEVELS] = [200.0, 800.0, 3200.0];
/// TLS handshakes a minute, likewise: they cost us more than the client.
const HANDSHAKES_A_MINUTE: [f64; LEVELS] = [300.0, 1200.0, 4800.0];
/// How many times the connections of one address its /26 and its /21 may have.
const OPEN_FACTORS: [usize; LEVELS] = [1, 4, 16];
/// Under stress a network gets this part of its connections.
const STRESS_DIVISOR: usize = 4;
/// And this part of its new connections, unknown recipients and TLS handshakes.
const STRESSED_RATE_DIVISOR: f64 = 4.0;
const SHARDS: usize = 16;
const NETWORKS_PER_SHARD: usize = 8192;
/// So many candidates are looked at to forget one.
const EVICTION_SAMPLE: usize = 16;

/// The table.
#[derive(Debug)]
pub(super) struct Throttle {
    shards: Vec<Mutex<HashMap<Prefix, Record>>>,
    max_open: usize,
    networks_per_shard: usize,
}

/// An admitted connection; gives its place back on drop.
#[derive(Debug)]
pub(super) struct Place {
    throttle: Arc<Throttle>,
    ip: IpAddr,
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Fine,
    Spent,
    /// Not by the client's own address (IPv6: /64), but all in all by a wider network.
    SpentByNeighbours,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    open: usize,
    visits: u32,
    seen: Instant,
    connects: Leak,
    unknown: Leak,
    traces: Leak,
    handshakes: Leak,
}

/// A bucket that fills by jumps and leaks evenly.
#[derive(Clone, Copy, Debug)]
struct Leak {
    level: f64,
    at: Instant,
}

impl Throttle {
    /// For at most `max_open` connections of one address at once.
    pub(super) fn new(max_open: usize) -> Self {
        Self::with_bound(max_open, NETWORKS_PER_SHARD)
    }

    fn with_bound(max_open: usize, networks_per_shard: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        Self { shards, max_open, networks_per_shard }
    }

    /// A place for a connection; none if one of its networks has used up its share.
    pub(super) fn admit(self: &Arc<Self>, ip: IpAddr, load: Load, now: Instant) -> Option<Place> {
        let divisor = match load {
            Load::Calm => 1,
            Load::Stressed => STRESS_DIVISOR,
        };
        for network in prefix::all(ip) {
            let allowed = (self.max_open.saturating_mul(factor(network.level)) / divisor).max(1);
            if self.with(network, now, |record| record.is_over(network.level, allowed, load, ip, now)) {
                return None;
            }
        }
        for network in prefix::all(ip) {
            self.with(network, now, |record| {
                record.open += 1;
                record.visits = record.visits.saturating_add(1);
                record.connects.add(1.0, MINUTE, limit(CONNECTS_A_MINUTE, network.level), now);
            });
        }
        Some(Place { throttle: Arc::clone(self), ip })
    }

    /// A recipient asked for from there does not exist.
    pub(super) fn unknown_recipient(&self, ip: IpAddr, load: Load) -> Standing {
        self.unknown_recipient_at(ip, load, Instant::now())
    }

    fn unknown_recipient_at(&self, ip: IpAddr, load: Load, now: Instant) -> Standing {
        let standings = counted(ip).map(|network| {
            let most = limit(UNKNOWN_AN_HOUR, network.level);
            let level = self.with(network, now, |record| {
                record.unknown.add_up_to(UNKNOWN_AT_MOST * most, 1.0, HOUR, most, now)
            });
            match (level > shrunk(most, load), network.level) {
                (false, _) => Standing::Fine,
                (true, 0) => Standing::Spent,
                (true, _) => Standing::SpentByNeighbours,
            }
        });
        // Each of them counts it.
        standings.fold(Standing::Fine, |narrow, wide| if narrow == Standing::Fine { wide } else { narrow })
    }

    /// Which refusals of recipients may still leave a trace for a client there: what the next one counts against has room.
    pub(super) fn noting(&self, ip: IpAddr, load: Load) -> Noting {
        self.noting_at(ip, load, Instant::now())
    }

    fn noting_at(&self, ip: IpAddr, load: Load, now: Instant) -> Noting {
        let room = |limits, span, load, bucket: fn(&mut Record) -> &mut Leak| {
            let has_room = counted(ip).all(|network| {
                let most = limit(limits, network.level);
                self.with(network, now, |record| {
                    bucket(record).now(span, most, now) + 1.0 <= shrunk(most, load)
                })
            });
            if has_room { Room::Enough } else { Room::Scarce }
        };
        Noting {
            guesses: room(UNKNOWN_AN_HOUR, HOUR, load, |record| &mut record.unknown),
            others: room(TRACES_A_MINUTE, MINUTE, Load::Calm, |record| &mut record.traces),
        }
    }

    /// So many traces are to be written for a client there.
    pub(super) fn traces(&self, ip: IpAddr, count: usize) -> Standing {
        self.traces_at(ip, count, Instant::now())
    }

    fn traces_at(&self, ip: IpAddr, count: usize, now: Instant) -> Standing {
        let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
        let has_room = counted(ip).all(|network| {
            let most = limit(TRACES_A_MINUTE, network.level);
            self.with(network, now, |record| record.traces.now(MINUTE, most, now) + count <= most)
        });
        if !has_room {
            return Standing::Spent;
        }
        for network in counted(ip) {
            let most = limit(TRACES_A_MINUTE, network.level);
            self.with(network, now, |record| record.traces.add(count, MINUTE, most, now));
        }
        Standing::Fine
    }

    /// Whether a client there may begin with TLS (row X11).
    pub(super) fn handshakes(&self, ip: IpAddr, load: Load) -> Standing {
        self.handshakes_at(ip, load, Instant::now())
    }

    fn handshakes_at(&self, ip: IpAddr, load: Load, now: Instant) -> Standing {
        let is_spent = counted(ip).any(|network| {
            let most = limit(HANDSHAKES_A_MINUTE, network.level);
            self.with(network, now, |record| record.handshakes.now(MINUTE, most, now) >= shrunk(most, load))
        });
        if is_spent { Standing::Spent } else { Standing::Fine }
    }

    /// A client there begins with TLS.
    pub(super) fn handshake(&self, ip: IpAddr) {
        self.handshake_at(ip, Instant::now());
    }

    fn handshake_at(&self, ip: IpAddr, now: Instant) {
        for network in prefix::all(ip) {
            let most = limit(HANDSHAKES_A_MINUTE, network.level);
            self.with(network, now, |record| record.handshakes.add(1.0, MINUTE, most, now));
        }
    }

    fn with<T>(&self, network: Prefix, now: Instant, act: impl FnOnce(&mut Record) -> T) -> T {
        let mut scratch = Record::new(now);
        let Some(mut shard) = self.shard(network) else { return act(&mut scratch) };
        if !shard.contains_key(&network) && shard.len() >= self.networks_per_shard {
            forget_one(&mut shard);
            if shard.len() >= self.networks_per_shard {
                // Full of connected networks: it is not counted, and so let in.
                return act(&mut scratch);
            }
        }
        let record = shard.entry(network).or_insert(scratch);
        record.seen = now;
        act(record)
    }

    fn shard(&self, network: Prefix) -> Option<MutexGuard<'_, HashMap<Prefix, Record>>> {
        let mixed = network.bits.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 64;
        let number = usize::try_from(mixed).unwrap_or_default() % SHARDS;
        Some(self.shards.get(number)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for network in prefix::all(self.ip) {
            if let Some(mut shard) = self.throttle.shard(network)
                && let Some(record) = shard.get_mut(&network)
            {
                record.open = record.open.saturating_sub(1);
            }
        }
    }
}

impl Record {
    const fn new(now: Instant) -> Self {
        let empty = Leak { level: 0.0, at: now };
        Self {
            open: 0,
            visits: 0,
            seen: now,
            connects: empty,
            unknown: empty,
            traces: empty,
            handshakes: empty,
        }
    }

    fn is_over(&mut self, level: usize, allowed: usize, load: Load, ip: IpAddr, now: Instant) -> bool {
        if !is_counted(ip, level) {
            return false;
        }
        let connects = limit(CONNECTS_A_MINUTE, level);
        let unknown = limit(UNKNOWN_AN_HOUR, level);
        self.open >= allowed
            || (!ip.is_loopback() && self.connects.now(MINUTE, connects, now) >= shrunk(connects, load))
            // Row S15: what a neighbour has tried out is seen to when somebody asks for an address that is not. Nor does
            // stress make old lists of addresses a reason to turn away good mail.
            || (level == 0 && self.unknown.now(HOUR, unknown, now) >= unknown)
    }
}

impl Leak {
    /// The level now, when a full bucket of `most` leaks away in `span`.
    fn now(&mut self, span: Duration, most: f64, now: Instant) -> f64 {
        if most.is_finite() {
            let leaked = now.saturating_duration_since(self.at).as_secs_f64() / span.as_secs_f64() * most;
            self.level = (self.level - leaked).max(0.0);
        }
        // Two threads may come with their readings the wrong way round.
        self.at = self.at.max(now);
        self.level
    }

    /// The same, and never beyond `bound`.
    fn add_up_to(&mut self, bound: f64, amount: f64, span: Duration, most: f64, now: Instant) -> f64 {
        self.level = self.add(amount, span, most, now).min(bound);
        self.level
    }

    fn add(&mut self, amount: f64, span: Duration, most: f64, now: Instant) -> f64 {
        self.level = self.now(span, most, now) + amount;
        self.level
    }
}

/// Forgets the least known network that is not connected, of a handful.
fn forget_one(shard: &mut HashMap<Prefix, Record>) {
    let idle = shard.iter().filter(|(_, record)| record.open == 0).take(EVICTION_SAMPLE);
    let least = idle.min_by_key(|(_, record)| (record.visits, record.seen)).map(|(network, _)| *network);
    if let Some(network) = least {
        shard.remove(&network);
    }
}

fn limit(limits: [f64; LEVELS], level: usize) -> f64 {
    limits.get(level).copied().unwrap_or(f64::INFINITY)
}

/// What is left of a rate now.
fn shrunk(most: f64, load: Load) -> f64 {
    match load {
        Load::Calm => most,
        Load::Stressed => most / STRESSED_RATE_DIVISOR,
    }
}

fn factor(level: usize) -> usize {
    OPEN_FACTORS.get(level).copied().unwrap_or(1)
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    fn admitted(throttle: &Arc<Throttle>, ips: impl IntoIterator<Item = IpAddr>, now: Instant) -> Vec<Place> {
        ips.into_iter().filter_map(|ip| throttle.admit(ip, Load::Calm, now)).collect()
    }

    #[test]
    fn an_address_has_so_many_connections_at_once_and_its_networks_four_and_sixteen_times_as_many() {
        let (throttle, now) = (Arc::new(Throttle::new(3)), Instant::now());
        let mut places = admitted(&throttle, [v4(1); 5], now);
        assert_eq!(places.len(), 3);
        places.pop();
        assert!(throttle.admit(v4(1), Load::Calm, now).is_some(), "a place is given back");
        drop(places);
        let places = admitted(&throttle, (0..64).map(v4), now);
        assert_eq!(places.len(), 12, "a /26");
        assert!(throttle.admit(v4(64), Load::Calm, now).is_some(), "the next /26");
        let wide = (0..=255_u8).flat_map(|third| (0..4).map(move |sub| (third, sub * 64)));
        let wide = wide.map(|(third, last)| IpAddr::V4(Ipv4Addr::new(198, 51, third & 7, last)));
        assert_eq!(admitted(&throttle, wide, now).len(), 48, "a /21");
        drop(places);
    }

    #[test]
    fn ipv6_counts_by_64_48_and_32() {
        let (throttle, now) = (Arc::new(Throttle::new(3)), Instant::now());
        let ip =
            |net: u16, sub: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, sub, 0, 0, 0, host));
        let _one_64 = admitted(&throttle, (0..10).map(|host| ip(0, 0, host)), now);
        assert_eq!(_one_64.len(), 3);
        let _one_48 = admitted(&throttle, (1..100).map(|sub| ip(0, sub, 1)), now);
        assert_eq!(_one_48.len(), 12 - 3);
        let _one_32 = admitted(&throttle, (1..1000).map(|net| ip(net, 0, 1)), now);
        assert_eq!(_one_32.len(), 48 - 12);
    }

    #[test]
    fn under_stress_a_network_gets_a_quarter() {
        let (throttle, now) = (Arc::new(Throttle::new(8)), Instant::now());
        let places: Vec<_> = (0..8).filter_map(|_| throttle.admit(v4(1), Load::Stressed, now)).collect();
        assert_eq!(places.len(), 2);
    }

    #[test]
    fn new_connections_have_a_rate_that_recovers() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let admit = |now| throttle.admit(v4(1), Load::Calm, now).is_some();
        assert_eq!((0..1000).filter(|_| admit(now)).count(), 600);
        assert!(!admit(now));
        assert!(admit(now + Duration::from_secs(1)));
    }

    #[test]
    fn under_stress_a_network_gets_a_quarter_of_its_new_connections() {
        let (throttle, now) = (Arc::new(Throttle::new(50)), Instant::now());
        let admit = || throttle.admit(v4(1), Load::Stressed, now).is_some();
        assert_eq!((0..1000).filter(|_| admit()).count(), 150);
        assert!(throttle.admit(v4(1), Load::Calm, now).is_some());
    }

    #[test]
    fn s15_unknown_recipients_have_a_budget_that_recovers_and_spares_the_neighbours() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let fine = (0..200)
            .filter(|_| throttle.unknown_recipient_at(v4(1), Load::Calm, now) == Standing::Fine)
            .count();
        assert_eq!(fine, 100);
        assert!(throttle.admit(v4(1), Load::Calm, now).is_none());
        assert!(throttle.admit(v4(2), Load::Calm, now).is_some());
        assert!(throttle.admit(v4(1), Load::Calm, now + Duration::from_secs(2 * 60 * 60)).is_some());
    }

    #[test]
    fn s15_a_thousand_64s_of_one_32_share_a_budget() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let asked = |net: u16, now| {
            let ip = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 1));
            throttle.unknown_recipient_at(ip, Load::Calm, now)
        };
        let fine = (0..1000).map(|net| (0..10).filter(|_| asked(net, now) == Standing::Fine).count());
        assert_eq!(fine.sum::<usize>(), 1600, "each in a /48 of its own");
        assert_eq!(asked(5000, now), Standing::SpentByNeighbours);
        // Ten thousand were asked for, and twice the budget is remembered.
        assert_eq!(asked(5001, now + HOUR + Duration::from_secs(60)), Standing::Fine);
    }

    #[test]
    fn s15_a_network_that_is_spent_turns_away_only_the_address_that_spent_its_own() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let ask = |last| throttle.unknown_recipient_at(v4(last), Load::Calm, now);
        for last in 1..=4 {
            assert!((0..100).all(|_| ask(last) == Standing::Fine));
        }
        assert_eq!(ask(5), Standing::SpentByNeighbours, "a /26 has four hundred");
        assert_eq!(ask(1), Standing::Spent);
        assert!(throttle.admit(v4(1), Load::Calm, now).is_none());
        assert!(throttle.admit(v4(5), Load::Calm, now).is_some(), "it may have good mail");
    }

    #[test]
    fn under_stress_a_network_gets_a_quarter_of_its_guesses_and_handshakes() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let fine = (0..200).filter(|_| {
            throttle.noting_at(v4(1), Load::Stressed, now).guesses == Room::Enough
                && throttle.unknown_recipient_at(v4(1), Load::Stressed, now) == Standing::Fine
        });
        assert_eq!(fine.count(), 25);
        assert!(throttle.admit(v4(1), Load::Stressed, now).is_some(), "old lists do not shut out good mail");
        let shaken = (0..200).filter(|_| {
            let standing = throttle.handshakes_at(v4(1), Load::Stressed, now);
            throttle.handshake_at(v4(1), now);
            standing == Standing::Fine
        });
        assert_eq!(shaken.count(), 75);
        let traces = (0..300).filter(|_| {
            throttle.noting_at(v4(1), Load::Stressed, now).others == Room::Enough
                && throttle.traces_at(v4(1), 1, now) == Standing::Fine
        });
        assert_eq!(traces.count(), 200, "as ever");
    }

    #[test]
    fn x11_tls_handshakes_have_a_budget_that_recovers_and_spares_connections_in_clear() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let shake = |ip, now| {
            let standing = throttle.handshakes_at(ip, Load::Calm, now);
            if standing == Standing::Fine {
                throttle.handshake_at(ip, now);
            }
            standing
        };
        assert_eq!((0..1000).filter(|_| shake(v4(1), now) == Standing::Fine).count(), 300);
        assert!(throttle.admit(v4(1), Load::Calm, now).is_some(), "without TLS it is served");
        let spent = (0..64).map(|_| (0..300).filter(|_| shake(v4(2), now) == Standing::Fine).count());
        assert_eq!(spent.sum::<usize>(), 300, "a neighbour has its own");
        let rest = (3..64).map(|host| (0..300).filter(|_| shake(v4(host), now) == Standing::Fine).count());
        assert_eq!(rest.sum::<usize>(), 600, "a /26 has four times as many");
        assert_eq!(shake(v4(1), now + Duration::from_secs(1)), Standing::Fine);
    }

    #[test]
    fn r3_traces_of_a_flood_have_a_budget_that_recovers() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let written = (0..1000).filter(|_| throttle.traces_at(v4(1), 1, now) == Standing::Fine).count();
        assert_eq!(written, 200);
        assert_eq!(throttle.traces_at(v4(2), 200, now), Standing::Fine, "all recipients of a transaction");
        assert_eq!(throttle.traces_at(v4(3), 201, now), Standing::Spent);
        assert_eq!(throttle.traces_at(v4(1), 1, now + Duration::from_secs(1)), Standing::Fine);
    }

    #[test]
    fn r3_s15_a_refusal_may_leave_a_trace_as_often_as_its_budget_says_and_not_once_more() {
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now());
        let noting = |guesses, others| Noting { guesses, others };
        for _ in 0..100 {
            assert_eq!(throttle.noting_at(v4(1), Load::Calm, now), noting(Room::Enough, Room::Enough));
            assert_eq!(throttle.unknown_recipient_at(v4(1), Load::Calm, now), Standing::Fine);
        }
        assert_eq!(throttle.noting_at(v4(1), Load::Calm, now), noting(Room::Scarce, Room::Enough));
        assert_eq!(throttle.noting_at(v4(2), Load::Calm, now), noting(Room::Enough, Room::Enough));
        for _ in 0..200 {
            assert_eq!(throttle.noting_at(v4(1), Load::Calm, now).others, Room::Enough);
            assert_eq!(throttle.traces_at(v4(1), 1, now), Standing::Fine);
        }
        assert_eq!(throttle.noting_at(v4(1), Load::Calm, now), noting(Room::Scarce, Room::Scarce));
        let later = now + Duration::from_secs(1);
        assert_eq!(throttle.noting_at(v4(1), Load::Calm, later), noting(Room::Scarce, Room::Enough));
    }

    #[test]
    fn x18_a_clock_that_is_set_moves_no_window() {
        // Time comes in as `Instant`, which no clock setting moves; a reading from before the last one leaks nothing.
        let (throttle, now) = (Arc::new(Throttle::new(5)), Instant::now() + HOUR);
        let spend = |now| {
            let fine =
                (0..200).filter(|_| throttle.unknown_recipient_at(v4(1), Load::Calm, now) == Standing::Fine);
            fine.count()
        };
        assert_eq!((spend(now), spend(now - HOUR), spend(now)), (100, 0, 0));
    }

    #[test]
    fn an_attacker_with_many_networks_evicts_its_own_and_not_ours() {
        let throttle = Arc::new(Throttle::with_bound(5, 64));
        let mut now = Instant::now();
        let ours = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 1, 0, 0, 0, 1));
        for _ in 0..20 {
            drop(throttle.admit(ours, Load::Calm, now));
        }
        let connected = throttle.admit(v4(9), Load::Calm, now).unwrap();
        for number in 0..20_000_u32 {
            now += Duration::from_millis(1);
            let [high, low] = [number >> 16, number & 0xffff].map(|half| u16::try_from(half).unwrap());
            let ip = IpAddr::V6(Ipv6Addr::new(0x2a00, low, high, low, 0, 0, 0, 1));
            drop(throttle.admit(ip, Load::Calm, now));
        }
        let size: usize = throttle.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(size <= 64 * SHARDS, "{size}");
        let visits = |ip| throttle.with(prefix::all(ip)[0], now, |record| (record.visits, record.open));
        assert_eq!(visits(ours), (20, 0), "ours is remembered");
        assert_eq!(visits(v4(9)), (1, 1), "a connected one, too");
        drop(connected);
    }
}
