//! The one writer: takes what is waiting, decides and writes it in one transaction, commits once, answers all.
//!
//! There is no artificial delay: while one batch is written, the next one gathers. A batch that fails because of
//! what it holds is split until the bad filing fails alone. A job that its session gave up is never written.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::keys::Keys;
use crate::store::StoreError;
use crate::store::audit::Act;
use crate::store::batch::Failure;
use crate::store::engine::{self, Fault, Pool};
use crate::store::keyring::Keyring;
use crate::store::mailbox::Addresses;
use crate::store::submission::{Filed, Prepared, Refusal};

/// What the writer works with.
#[derive(Debug)]
pub(in crate::store) struct Desk {
    pub(in crate::store) write: Pool,
    pub(in crate::store) keys: Arc<Keys>,
    pub(in crate::store) served_domains: Vec<String>,
    pub(in crate::store) addresses: Arc<Addresses>,
    pub(in crate::store) keyring: Arc<Keyring>,
    /// As last seen; another process has committed when it changes.
    pub(in crate::store) data_version: AtomicI64,
    pub(in crate::store) counters: Arc<Counters>,
}

/// How the writer has grouped its work since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Transactions committed.
    pub committed: u64,
    /// Filings and records of refusals in them.
    pub jobs: u64,
}

#[derive(Debug, Default)]
pub(in crate::store) struct Counters {
    committed: AtomicU64,
    jobs: AtomicU64,
}

impl Counters {
    fn add(&self, jobs: usize) {
        self.committed.fetch_add(1, Ordering::Relaxed);
        self.jobs.fetch_add(jobs as u64, Ordering::Relaxed);
    }
}

/// The sessions' end.
#[derive(Debug)]
pub(in crate::store) struct Handle {
    counters: Arc<Counters>,
    jobs: mpsc::Sender<Job>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// One thing to write, whole or not at all.
#[derive(Debug)]
pub(in crate::store) struct Job {
    pub(in crate::store) work: Work,
    ticket: Arc<Ticket>,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
}

#[derive(Debug)]
pub(in crate::store) enum Work {
    File(Box<Prepared>),
    /// R64.
    Note(Vec<Act>),
    Record(Vec<Refusal>),
}

#[derive(Debug)]
pub(in crate::store) enum Answer {
    /// With the ids of the sealed copies that rows now hold or name.
    Filed(Filed, Vec<Uuid>),
    /// Nothing was written: more than one recipient of an account needs a sealed copy of its own.
    NeedsCopies,
    Recorded,
}

/// Whose turn it is: the session may withdraw a job until the writer takes it, and never after.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

impl Ticket {
    fn take(&self) -> bool {
        self.0.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn withdraw(&self) -> bool {
        self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A session that goes away takes its job with it, if nobody has begun it.
struct WithdrawnOnDrop(Arc<Ticket>);

impl Drop for WithdrawnOnDrop {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

impl Handle {
    pub(in crate::store) fn start(desk: Desk) -> Self {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let stop = CancellationToken::new();
        let counters = desk.counters.clone();
        let task = tokio::spawn(desk.run(waiting, stop.clone()));
        Self { counters, jobs, stop, task: Mutex::new(Some(task)) }
    }

    pub(in crate::store) fn batches(&self) -> Batches {
        Batches {
            committed: self.counters.committed.load(Ordering::Relaxed),
            jobs: self.counters.jobs.load(Ordering::Relaxed),
        }
    }

    pub(in crate::store) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Hands a job over and waits for its answer. A job that is taken before the deadline is waited for.
    pub(in crate::store) async fn ask(&self, work: Work, deadline: Instant) -> Result<Answer, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let place = tokio::time::timeout_at(deadline, self.jobs.reserve()).await;
        let place = place.map_err(|_| StoreError::TimedOut)?.map_err(|_| StoreError::Closed)?;
        place.send(Job { work, ticket: ticket.clone(), answer });
        let withdrawn_on_drop = WithdrawnOnDrop(ticket);
        let in_time = tokio::time::timeout_at(deadline, &mut answered).await;
        let answer = match in_time {
            Ok(answer) => answer,
            Err(_) if withdrawn_on_drop.0.withdraw() => return Err(StoreError::TimedOut),
            Err(_) => answered.await,
        };
        answer.map_err(|_| StoreError::Closed)?
    }

    /// Writes what is waiting and stops.
    pub(in crate::store) async fn close(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

impl Desk {
    async fn run(self, mut waiting: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut idle = tokio::time::interval(IDLE_LOOK);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !waiting.is_closed() => waiting.close(),
                taken = waiting.recv_many(&mut batch, MAX_BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    self.turn(&mut waiting, &mut batch).await;
                }
                _ = idle.tick() => self.look_for_changes().await,
            }
        }
    }

    /// One batch. Jobs are taken only when the write lock is ours: until then their sessions may give up.
    async fn turn(&self, waiting: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>) {
        let transaction = match self.write.begin_writing().await {
            Ok(transaction) => transaction,
            Err(error) => return answer_all(std::mem::take(batch), &Arc::new(error)),
        };
        while batch.len() < MAX_BATCH
            && let Ok(job) = waiting.try_recv()
        {
            batch.push(job);
        }
        batch.retain(|job| job.ticket.take());
        if batch.is_empty() {
            return;
        }
        let ends = Instant::now() + TURN_LIMIT;
        let jobs = std::mem::take(batch);
        let written = self.write_batch(transaction, &jobs, work_deadline(ends)).await;
        let mut pieces = Vec::new();
        self.settle(jobs, written, &mut pieces, ends);
        while let Some(jobs) = pieces.pop() {
            let written = match self.write.begin_writing().await {
                Ok(transaction) => self.write_batch(transaction, &jobs, work_deadline(ends)).await,
                Err(error) => Err(Failure::Statement(error)),
            };
            self.settle(jobs, written, &mut pieces, ends);
        }
    }

    /// Answers what is done, and puts what is to be tried again on `pieces`, the earlier on top: a later mail may
    /// build on an earlier one.
    fn settle(
        &self,
        mut jobs: Vec<Job>,
        written: Result<Vec<Answer>, Failure>,
        pieces: &mut Vec<Vec<Job>>,
        ends: Instant,
    ) {
        match written {
            Ok(answers) => {
                self.counters.add(answers.len());
                for (job, answer) in jobs.into_iter().zip(answers) {
                    job.send(Ok(answer));
                }
            }
            Err(Failure::Job(index, answer)) => {
                if index < jobs.len() {
                    jobs.remove(index).send(answer);
                }
                if !jobs.is_empty() {
                    pieces.push(jobs);
                }
            }
            Err(Failure::Statement(error)) if jobs.len() > 1 && engine::fault(&error) == Fault::Rows => {
                let later = jobs.split_off(jobs.len() / 2);
                pieces.extend([later, jobs]);
            }
            Err(Failure::Statement(error)) => answer_all(jobs, &Arc::new(error)),
            // One slow filing must not fail its neighbours; a slow disk fails them all, when the turn ends.
            Err(Failure::TimedOut) if jobs.len() > 1 && Instant::now() < ends => {
                let later = jobs.split_off(jobs.len() / 2);
                pieces.extend([later, jobs]);
            }
            Err(Failure::TimedOut) => jobs.into_iter().for_each(|job| job.send(Err(StoreError::TimedOut))),
        }
    }

    /// Once a second when there is nothing to write.
    async fn look_for_changes(&self) {
        if let Ok(mut connection) = self.write.acquire().await
            && let Ok(version) = connection.data_version().await
        {
            self.see_version(version);
        }
    }

    /// Another process has written: what we remember may be wrong.
    pub(in crate::store) fn see_version(&self, version: Option<i64>) {
        if version.is_some_and(|version| self.data_version.swap(version, Ordering::AcqRel) != version) {
            self.addresses.forget();
            self.keyring.forget();
        }
    }
}

impl Job {
    /// The session may be gone; what was written stays, and a retry is a duplicate (R70).
    fn send(self, answer: Result<Answer, StoreError>) {
        let _ = self.answer.send(answer);
    }
}

fn work_deadline(ends: Instant) -> Instant {
    ends.min(Instant::now() + WORK_LIMIT)
}

fn answer_all(jobs: Vec<Job>, error: &Arc<sqlx::Error>) {
    for job in jobs {
        job.send(Err(StoreError::Commit(error.clone())));
    }
}

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Filings of one transaction.
pub(in crate::store) const MAX_BATCH: usize = 64;
/// Sessions that wait for a place beyond this many wait in front of the queue.
const MAX_WAITING: usize = 1024;
/// For everything between begin and commit; a healthy batch takes a hundredth of it.
const WORK_LIMIT: Duration = Duration::from_secs(4);
/// For a batch and the pieces it is split into: well before the sessions give up.
const TURN_LIMIT: Duration = Duration::from_secs(20);
const IDLE_LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn desk_without_writer() -> (Handle, mpsc::Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel(1);
        let handle =
            Handle { counters: Arc::default(), jobs, stop: CancellationToken::new(), task: Mutex::new(None) };
        (handle, waiting)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn a_job_that_was_given_up_can_no_longer_be_taken() {
        let (handle, mut waiting) = desk_without_writer();
        let answer = handle.ask(Work::Record(Vec::new()), soon()).await;
        assert!(matches!(answer, Err(StoreError::TimedOut)));
        let job = waiting.recv().await.unwrap();
        assert!(!job.ticket.take(), "it must not enter a batch any more");
    }

    #[tokio::test]
    async fn a_job_that_was_taken_in_time_is_waited_for() {
        let (handle, mut waiting) = desk_without_writer();
        let deadline = soon();
        let late_writer = async {
            let job = waiting.recv().await.unwrap();
            assert!(job.ticket.take());
            tokio::time::sleep_until(deadline + Duration::from_millis(20)).await;
            assert!(!job.ticket.withdraw(), "nobody can take it back");
            job.send(Ok(Answer::Recorded));
        };
        let (answer, ()) = tokio::join!(handle.ask(Work::Record(Vec::new()), deadline), late_writer);
        assert!(matches!(answer, Ok(Answer::Recorded)));
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_until_the_deadline_and_no_longer() {
        let (handle, _waiting) = desk_without_writer();
        let first = handle.ask(Work::Record(Vec::new()), soon());
        let second = handle.ask(Work::Record(Vec::new()), soon());
        let (first, second) = tokio::join!(first, second);
        assert!(matches!((first, second), (Err(StoreError::TimedOut), Err(StoreError::TimedOut))));
    }
}
