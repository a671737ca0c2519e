//! Where jobs wait: sessions bring them, each writer takes what it can write together.
//!
//! Promises that no two writers have jobs that came under one account, that no more wait than there are places, and that a job which
//! was let in is taken, or dropped with the last writer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::id::AccountId;
use crate::store::turns::{Taken, Turns};

/// For sessions.
#[derive(Debug)]
pub(in crate::store) struct Queue<T> {
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    turns: Turns<(T, Place)>,
    writers: usize,
}

/// Room for one job.
pub(in crate::store) type Place = OwnedSemaphorePermit;

/// A writer's end. When it goes, whatever became of the writer, others may take its accounts.
#[derive(Debug)]
pub(in crate::store) struct Seat<T> {
    queue: Arc<Queue<T>>,
    taken: Taken,
}

impl<T> Queue<T> {
    /// With the writers' ends.
    pub(in crate::store) fn new(places: usize, writers: usize) -> (Arc<Self>, Vec<Seat<T>>) {
        let queue = Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: Mutex::new(Waiting { turns: Turns::new(), writers }),
            changed: Notify::new(),
        });
        let seat = |_| Seat { queue: queue.clone(), taken: Taken::default() };
        let seats = (0..writers).map(seat).collect();
        (queue, seats)
    }

    /// None once it is closed.
    pub(in crate::store) async fn place(&self) -> Option<Place> {
        self.places.clone().acquire_owned().await.ok()
    }

    /// False if there is no writer any more.
    pub(in crate::store) fn push(&self, account: AccountId, job: T, place: Place) -> bool {
        let mut waiting = self.waiting();
        if waiting.writers == 0 {
            return false;
        }
        let is_free = waiting.turns.push(account, (job, place));
        drop(waiting);
        // Else whoever has the account looks again when it is done.
        if is_free {
            self.changed.notify_one();
        }
        true
    }

    /// What waits is still taken.
    pub(in crate::store) fn close(&self) {
        self.places.close();
        self.changed.notify_waiters();
    }

    pub(in crate::store) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Seat<T> {
    /// Gives back the accounts of the jobs before, and waits for the next ones, at most `limit`. None once the queue is
    /// closed and has nothing for this writer.
    pub(in crate::store) async fn next(&mut self, limit: usize) -> Option<Vec<T>> {
        self.keep(&HashSet::new());
        loop {
            let queue = self.queue.clone();
            let mut changed = std::pin::pin!(queue.changed.notified());
            changed.as_mut().enable();
            let jobs = self.more(limit);
            if !jobs.is_empty() {
                return Some(jobs);
            }
            if queue.is_closed() {
                return None;
            }
            changed.await;
        }
    }

    /// Gives back the accounts of all jobs but those of these.
    pub(in crate::store) fn keep(&mut self, accounts: &HashSet<AccountId>) {
        let mut waiting = self.queue.waiting();
        waiting.turns.give_back(&mut self.taken, accounts);
        if !accounts.is_empty() && waiting.turns.has_any() {
            self.queue.changed.notify_one();
        }
    }

    /// What could be written together with them.
    pub(in crate::store) fn more(&mut self, limit: usize) -> Vec<T> {
        let mut waiting = self.queue.waiting();
        let jobs = waiting.turns.take(limit, &mut self.taken);
        if waiting.turns.has_any() {
            self.queue.changed.notify_one();
        }
        jobs.into_iter().map(|(job, _place)| job).collect()
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting();
        waiting.turns.give_back(&mut self.taken, &HashSet::new());
        waiting.writers -= 1;
        if waiting.writers == 0 {
            waiting.turns = Turns::new();
            self.queue.close();
        }
        drop(waiting);
        self.queue.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_let_in_is_taken_and_then_nothing_more() {
        let account = AccountId::generate();
        let (queue, mut seats) = Queue::new(2, 1);
        let mut seat = seats.remove(0);
        for job in 0..2 {
            let place = queue.place().await.unwrap();
            assert!(queue.push(account, job, place));
        }
        assert!(queue.places.clone().try_acquire_owned().is_err(), "both places are taken");
        assert_eq!(seat.next(1).await, Some(vec![0]));
        let late = queue.place().await.unwrap();
        queue.close();
        assert!(queue.place().await.is_none());
        assert_eq!(seat.more(1), [1]);
        assert!(queue.push(account, 2, late), "it had its place before");
        assert_eq!(seat.next(9).await, Some(vec![2]));
        assert_eq!(seat.next(9).await, None);
    }

    #[tokio::test]
    async fn a_writer_that_goes_leaves_its_accounts_to_the_others_and_the_last_one_closes() {
        let account = AccountId::generate();
        let (queue, mut seats) = Queue::new(8, 2);
        let (mut one, mut two) = (seats.remove(0), seats.remove(0));
        for job in 0..2 {
            let place = queue.place().await.unwrap();
            assert!(queue.push(account, job, place));
        }
        assert_eq!(one.next(1).await, Some(vec![0]));
        let waits = tokio::spawn(async move { (two.next(9).await, two) });
        tokio::task::yield_now().await;
        drop(one);
        let (jobs, two) = waits.await.unwrap();
        assert_eq!(jobs, Some(vec![1]));
        let late = queue.place().await.unwrap();
        drop(two);
        assert!(queue.is_closed() && !queue.push(account, 2, late));
    }
}
