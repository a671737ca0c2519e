//! What of a batch is to be tried again, and in which order.
//!
//! Promises that a mail is tried after the earlier ones of its accounts, since it may build on them, and that whatever
//! waits for an account that somebody else has comes after all that need not wait.

use std::collections::HashSet;

use crate::id::AccountId;
use crate::store::writer::Job;

/// Jobs that are to be tried together.
#[derive(Debug)]
pub(in crate::store) struct Piece {
    pub(in crate::store) jobs: Vec<Job>,
    /// Somebody else was at the same rows at the same time, and these were decided anew.
    pub(in crate::store) decided_anew: bool,
    pub(in crate::store) waits: Waits,
}

/// For accounts that somebody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Waits {
    /// What needs one is set aside.
    No,
    /// It was set aside, and waits.
    Yes,
    /// It waited in vain: what needs one is put off.
    InVain,
}

impl Piece {
    /// Takes out what needs one of the accounts that somebody else has, and whatever comes behind that in its accounts,
    /// which are added to them.
    pub(in crate::store) fn take_out(&mut self, busy: &mut HashSet<AccountId>) -> Vec<Job> {
        let (taken, left) = self.jobs.drain(..).partition(|job| {
            let locks = job.locks();
            let needs_one = locks.iter().any(|account| busy.contains(account));
            if needs_one {
                busy.extend(locks);
            }
            needs_one
        });
        self.jobs = left;
        taken
    }
}

/// The next one on top. Never more jobs than a batch has.
#[derive(Debug, Default)]
pub(in crate::store) struct Pieces(Vec<Piece>);

impl Pieces {
    pub(in crate::store) fn push(&mut self, piece: Piece) {
        self.0.push(piece);
    }

    pub(in crate::store) fn pop(&mut self) -> Option<Piece> {
        self.0.pop()
    }

    pub(in crate::store) fn split(&mut self, mut piece: Piece) {
        let later = Piece { jobs: piece.jobs.split_off(piece.jobs.len() / 2), ..piece };
        self.0.extend([later, piece]);
    }

    /// Takes from the piece, and from all that come after it, what needs one of the accounts that somebody else has, and
    /// whatever comes behind that: a piece beneath all others.
    pub(in crate::store) fn set_aside(&mut self, piece: &mut Piece, mut busy: HashSet<AccountId>) {
        if busy.is_empty() {
            return;
        }
        let mut aside = piece.take_out(&mut busy);
        for later in self.0.iter_mut().filter(|piece| piece.waits == Waits::No).rev() {
            aside.extend(later.take_out(&mut busy));
        }
        self.0.retain(|piece| !piece.jobs.is_empty());
        match self.0.first_mut() {
            Some(piece) if piece.waits == Waits::Yes => piece.jobs.extend(aside),
            _ => self.0.insert(0, Piece { jobs: aside, decided_anew: false, waits: Waits::Yes }),
        }
    }

    pub(in crate::store) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.0.iter().flat_map(|piece| &piece.jobs)
    }

    pub(in crate::store) fn into_jobs(self) -> impl Iterator<Item = Job> {
        self.0.into_iter().flat_map(|piece| piece.jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit::Act;
    use crate::store::writer::Work;
    use crate::time::Timestamp;

    fn job(accounts: &[AccountId], number: usize) -> Job {
        let act = |account: &AccountId| Act {
            account: *account,
            at: Timestamp::from_millis(0),
            actor: "test".to_owned(),
            action: "test".to_owned(),
            object: number.to_string(),
            detail: None,
        };
        Job::new(Work::Note(accounts.iter().map(act).collect())).0
    }

    fn numbers(jobs: &[Job]) -> Vec<usize> {
        let number = |job: &Job| match &job.work {
            Work::Note(acts) => acts[0].object.parse().unwrap(),
            Work::File(_) | Work::Record(_) => usize::MAX,
        };
        jobs.iter().map(number).collect()
    }

    fn piece(jobs: Vec<Job>) -> Piece {
        Piece { jobs, decided_anew: false, waits: Waits::No }
    }

    #[test]
    fn what_waits_comes_last_in_its_order_with_all_that_comes_behind_it() {
        let [busy, free, shared, late] = [(); 4].map(|()| AccountId::generate());
        let mut pieces = Pieces::default();
        pieces.push(piece(vec![job(&[busy], 7), job(&[free], 8), job(&[late], 9)]));
        let jobs = [(free, 0), (busy, 1), (shared, 2)].map(|(account, number)| job(&[account], number));
        let mut first = piece(jobs.into());
        first.jobs.extend([job(&[shared, busy], 3), job(&[shared], 4), job(&[free], 5)]);
        pieces.set_aside(&mut first, HashSet::from([busy]));
        assert_eq!(numbers(&first.jobs), [0, 2, 5]);
        let mut second = pieces.pop().unwrap();
        assert_eq!((numbers(&second.jobs), second.waits), (vec![8, 9], Waits::No));
        pieces.set_aside(&mut second, HashSet::from([late]));
        assert_eq!(numbers(&second.jobs), [8]);
        let mut aside = pieces.pop().unwrap();
        assert_eq!((numbers(&aside.jobs), aside.waits), (vec![1, 3, 4, 7, 9], Waits::Yes));
        assert!(pieces.pop().is_none());
        let put_off = aside.take_out(&mut HashSet::from([shared]));
        assert_eq!((numbers(&put_off), numbers(&aside.jobs)), (vec![3, 4, 7], vec![1, 9]));
    }
}
