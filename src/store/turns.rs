//! In which order waiting jobs are written: the accounts take turns, and within an account first come is first served.
//!
//! Promises that an account which floods us waits for itself, and others hardly for it (SMTP.md X27), and that a mail
//! is never written before an earlier one of its account: it may build on it.

use std::collections::{HashMap, VecDeque};

use crate::id::AccountId;

/// Jobs by account. Bounded by whoever fills it.
#[derive(Debug)]
pub(in crate::store) struct Turns<T> {
    lanes: HashMap<AccountId, VecDeque<T>>,
    /// The accounts that have something waiting, the next one first.
    order: VecDeque<AccountId>,
    len: usize,
}

impl<T> Turns<T> {
    pub(in crate::store) fn new() -> Self {
        Self { lanes: HashMap::new(), order: VecDeque::new(), len: 0 }
    }

    pub(in crate::store) const fn len(&self) -> usize {
        self.len
    }

    pub(in crate::store) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(in crate::store) fn push(&mut self, account: AccountId, job: T) {
        let lane = self.lanes.entry(account).or_default();
        if lane.is_empty() {
            self.order.push_back(account);
        }
        lane.push_back(job);
        self.len += 1;
    }

    /// The next one; its account then waits behind all others.
    pub(in crate::store) fn pop(&mut self) -> Option<T> {
        let account = self.order.pop_front()?;
        let lane = self.lanes.get_mut(&account)?;
        let job = lane.pop_front();
        if lane.is_empty() {
            self.lanes.remove(&account);
        } else {
            self.order.push_back(account);
        }
        self.len -= usize::from(job.is_some());
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x27_an_account_that_floods_waits_for_itself() {
        let (flood, quiet, other) = (AccountId::generate(), AccountId::generate(), AccountId::generate());
        let mut turns = Turns::new();
        for number in 0..1000 {
            turns.push(flood, ("flood", number));
        }
        turns.push(quiet, ("quiet", 0));
        turns.push(other, ("other", 0));
        turns.push(quiet, ("quiet", 1));
        assert_eq!(turns.len(), 1003);
        let first: Vec<_> = (0..6).filter_map(|_| turns.pop()).collect();
        let expected = [("flood", 0), ("quiet", 0), ("other", 0), ("flood", 1), ("quiet", 1), ("flood", 2)];
        assert_eq!(first, expected);
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert!(rest.iter().map(|(_, number)| *number).eq(3..1000), "in their order, and all of them");
        assert!(turns.is_empty() && turns.lanes.is_empty() && turns.order.is_empty());
    }
}
