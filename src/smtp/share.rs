//! How much of the budget for bodies each network holds.
//!
//! Promises that one address (IPv6: /64), and each wider network that it lies in, leaves a part of the budget to all
//! others, whatever it sends; and that the table has an entry for those alone who hold something.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::smtp::prefix::{self, LEVELS, Prefix};

/// What one address, its /26 and its /21 (IPv6: /64, /48, /32) may hold, in quarters of the budget. The widest leaves
/// twice as much as is left when everybody is put off.
const QUARTERS: [u64; LEVELS] = [1, 2, 3];

/// The table.
#[derive(Debug)]
pub(super) struct Shares {
    held: Mutex<HashMap<Prefix, u64>>,
    most: [u64; LEVELS],
}

impl Shares {
    /// Of a budget of so many octets.
    pub(super) fn of(octets: u64) -> Self {
        Self { held: Mutex::default(), most: QUARTERS.map(|quarters| octets / 4 * quarters) }
    }

    /// Takes so many octets for an address, if each of its networks may have them.
    pub(super) fn take(&self, ip: IpAddr, octets: u64) -> Option<()> {
        let mut held = self.table();
        let fits = |prefix: Prefix| held_by(&held, prefix).saturating_add(octets) <= self.most(prefix);
        if !prefix::counted(ip).all(fits) {
            return None;
        }
        for prefix in prefix::counted(ip) {
            *held.entry(prefix).or_default() += octets;
        }
        Some(())
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, ip: IpAddr, octets: u64) {
        if octets == 0 {
            return;
        }
        let mut held = self.table();
        for prefix in prefix::counted(ip) {
            let left = held_by(&held, prefix).saturating_sub(octets);
            if left == 0 {
                held.remove(&prefix);
            } else {
                held.insert(prefix, left);
            }
        }
    }

    /// Whether one of its networks has an eighth of its share left, or less: another message should not even begin.
    pub(super) fn is_low(&self, ip: IpAddr) -> bool {
        let held = self.table();
        prefix::counted(ip).any(|prefix| {
            let most = self.most(prefix);
            held_by(&held, prefix) > most - most / 8
        })
    }

    fn most(&self, prefix: Prefix) -> u64 {
        self.most.get(prefix.level).copied().unwrap_or_default()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Prefix, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held_by(held: &HashMap<Prefix, u64>, prefix: Prefix) -> u64 {
    held.get(&prefix).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(third: u8, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, third, last))
    }

    /// How many octets an address gets, one after the other.
    fn got(shares: &Shares, ip: IpAddr) -> usize {
        (0..1000).take_while(|_| shares.take(ip, 1).is_some()).count()
    }

    #[test]
    fn s16_an_address_gets_a_quarter_its_26_a_half_and_its_21_three_quarters() {
        let shares = Shares::of(80);
        assert_eq!([v4(0, 1), v4(0, 2), v4(0, 3)].map(|ip| got(&shares, ip)), [20, 20, 0]);
        assert_eq!([v4(1, 1), v4(2, 1)].map(|ip| got(&shares, ip)), [20, 0]);
        assert_eq!(got(&shares, v4(8, 1)), 20, "another /21");
        let six = |net: u16, sub: u16, host: u16| {
            got(&shares, IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, sub, 0, 0, 0, host)))
        };
        assert_eq!([six(0, 0, 1), six(0, 0, 2), six(0, 1, 1), six(0, 2, 1)], [20, 0, 20, 0]);
        assert_eq!([six(1, 0, 1), six(2, 0, 1)], [20, 0]);
    }

    #[test]
    fn s16_what_is_given_back_leaves_no_entry_and_what_was_refused_took_nothing() {
        let shares = Shares::of(80);
        assert_eq!(shares.take(v4(0, 1), 21), None);
        assert!(shares.take(v4(0, 1), 20).is_some() && shares.is_low(v4(0, 1)));
        assert!(!shares.is_low(v4(0, 2)), "a neighbour is not put off for it");
        shares.give_back(v4(0, 1), 3);
        assert!(!shares.is_low(v4(0, 1)));
        shares.give_back(v4(0, 1), 17);
        assert!(shares.table().is_empty());
    }

    #[test]
    fn of_this_machine_each_address_has_a_share_and_all_of_them_together_have_none() {
        let shares = Shares::of(80);
        let all = (1..=9).map(|last| got(&shares, IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))));
        assert!(all.into_iter().all(|octets| octets == 20));
    }
}
