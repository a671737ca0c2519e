//! In which order waiting jobs are written: the accounts take turns, and within an account first come is first served.
//!
//! Promises that an account which floods us waits for itself, and others hardly for it (SMTP.md X27), and that a mail
//! is never written before an earlier one of its account, nor beside it: it may build on it. A job has one account
//! here; where it has others too, the engine's locks keep it from theirs.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::id::AccountId;

/// Jobs by account. Bounded by whoever fills it.
#[derive(Debug)]
pub(in crate::store) struct Turns<T> {
    lanes: HashMap<AccountId, VecDeque<T>>,
    /// The accounts that have something waiting and are not with a writer, the next one first.
    order: VecDeque<AccountId>,
    taken: HashSet<AccountId>,
}

/// The accounts that are with one writer.
#[derive(Debug, Default)]
pub(in crate::store) struct Taken(Vec<AccountId>);

impl<T> Turns<T> {
    pub(in crate::store) fn new() -> Self {
        Self { lanes: HashMap::new(), order: VecDeque::new(), taken: HashSet::new() }
    }

    /// Whether there is something that a writer who has nothing could take.
    pub(in crate::store) fn has_any(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether its account is not with a writer.
    pub(in crate::store) fn push(&mut self, account: AccountId, job: T) -> bool {
        let is_free = !self.taken.contains(&account);
        let lane = self.lanes.entry(account).or_default();
        if lane.is_empty() && is_free {
            self.order.push_back(account);
        }
        lane.push_back(job);
        is_free
    }

    /// The next ones, at most `limit`, one of each account in turn; of accounts that are with another writer, none.
    pub(in crate::store) fn take(&mut self, limit: usize, by: &mut Taken) -> Vec<T> {
        self.queue_up(&by.0);
        let mut jobs = Vec::new();
        while jobs.len() < limit
            && let Some(account) = self.order.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&account) else { continue };
            jobs.extend(lane.pop_front());
            if self.taken.insert(account) {
                by.0.push(account);
            }
            if lane.is_empty() {
                self.lanes.remove(&account);
            } else {
                self.order.push_back(account);
            }
        }
        self.order.retain(|account| !self.taken.contains(account));
        jobs
    }

    /// The writer is done with all but these; they wait behind all others.
    pub(in crate::store) fn give_back(&mut self, by: &mut Taken, but: &HashSet<AccountId>) {
        let (kept, done) = by.0.drain(..).partition(|account| but.contains(account));
        by.0 = kept;
        self.taken.retain(|account| !done.contains(account));
        self.queue_up(&done);
    }

    fn queue_up(&mut self, accounts: &[AccountId]) {
        self.order.extend(accounts.iter().filter(|account| self.lanes.contains_key(account)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x27_an_account_that_floods_waits_for_itself() {
        let (flood, quiet, other) = (AccountId::generate(), AccountId::generate(), AccountId::generate());
        let (mut turns, mut writer) = (Turns::new(), Taken::default());
        for number in 0..1000 {
            turns.push(flood, ("flood", number));
        }
        turns.push(quiet, ("quiet", 0));
        turns.push(other, ("other", 0));
        turns.push(quiet, ("quiet", 1));
        let first = turns.take(6, &mut writer);
        let expected = [("flood", 0), ("quiet", 0), ("other", 0), ("flood", 1), ("quiet", 1), ("flood", 2)];
        assert_eq!(first, expected);
        turns.give_back(&mut writer, &HashSet::new());
        turns.push(other, ("other", 1));
        assert_eq!(turns.take(2, &mut writer), [("flood", 3), ("other", 1)]);
        turns.give_back(&mut writer, &HashSet::new());
        let rest = turns.take(2000, &mut writer);
        assert!(rest.iter().map(|(_, number)| *number).eq(4..1000), "in their order, and all of them");
        turns.give_back(&mut writer, &HashSet::new());
        assert!(turns.lanes.is_empty() && turns.order.is_empty() && turns.taken.is_empty());
    }

    #[test]
    fn an_account_is_with_one_writer_at_a_time() {
        let (busy, quiet) = (AccountId::generate(), AccountId::generate());
        let (mut turns, mut one, mut two) = (Turns::new(), Taken::default(), Taken::default());
        turns.push(busy, 0);
        turns.push(busy, 1);
        assert_eq!(turns.take(1, &mut one), [0]);
        turns.push(busy, 2);
        assert!(!turns.has_any() && turns.take(9, &mut two).is_empty());
        turns.push(quiet, 10);
        assert_eq!(turns.take(9, &mut two), [10]);
        assert_eq!(turns.take(1, &mut one), [1], "whoever has it may take more of it");
        turns.give_back(&mut one, &HashSet::new());
        assert_eq!(turns.take(9, &mut two), [2]);
        turns.give_back(&mut two, &HashSet::new());
        turns.push(busy, 3);
        turns.push(quiet, 11);
        assert_eq!(turns.take(9, &mut one), [3, 11]);
        for job in [12, 13] {
            turns.push(quiet, job);
            turns.push(busy, job);
        }
        turns.give_back(&mut one, &HashSet::from([busy]));
        assert_eq!(turns.take(9, &mut two), [12, 13], "what is done with is free, though the rest goes on");
        turns.give_back(&mut one, &HashSet::new());
        assert_eq!(turns.take(9, &mut one), [12, 13]);
    }
}
