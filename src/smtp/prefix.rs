//! The networks of an address that limits are counted by: /32, /26 and /21 of IPv4, /64, /48 and /32 of IPv6.

use std::net::IpAddr;

/// How many networks an address is counted in.
pub(super) const LEVELS: usize = 3;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prefix {
    pub(super) bits: u128,
    /// 0 is the narrowest.
    pub(super) level: usize,
}

/// The three networks of an address, narrow to wide. IPv4 and IPv6 cannot be mistaken for each other: IPv4 stands
/// where IPv6 maps it.
pub(super) fn all(ip: IpAddr) -> [Prefix; LEVELS] {
    let (bits, widths) = match ip {
        IpAddr::V4(v4) => (u128::from(v4.to_ipv6_mapped()), [128, 122, 117]),
        IpAddr::V6(v6) => (u128::from(v6), [64, 48, 32]),
    };
    let [narrow, middle, wide] = widths.map(|width: u32| bits & (u128::MAX << (128 - width)));
    [Prefix { bits: narrow, level: 0 }, Prefix { bits: middle, level: 1 }, Prefix { bits: wide, level: 2 }]
}

/// Those that have limits.
pub(super) fn counted(ip: IpAddr) -> impl Iterator<Item = Prefix> {
    all(ip).into_iter().filter(move |prefix| is_counted(ip, prefix.level))
}

/// Loopback is this machine, not a network that somebody holds: only its single addresses are counted.
pub(super) const fn is_counted(ip: IpAddr, level: usize) -> bool {
    !ip.is_loopback() || level == 0
}
