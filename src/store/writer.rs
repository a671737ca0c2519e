//! The writers (with SQLite there is one): each takes what is waiting, the accounts in turns, decides and writes it in
//! one transaction, commits once, answers all.
//!
//! There is no artificial delay: while one batch is written, the next one gathers. Nobody else writes to the accounts
//! of a batch from its first read to its commit, so that two messages at once cannot miss each other. What needs an
//! account that somebody else has is waited for when the rest is written. A batch that fails because of what it holds
//! is split until the bad filing fails alone; one that was beaten by somebody else is decided anew, once. A job that
//! its session gave up is never written.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{self, Runtime, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use crate::id::AccountId;
use crate::keys::Keys;
use crate::store::StoreError;
use crate::store::audit::Act;
use crate::store::batch::{Failure, Written};
use crate::store::bell::Bell;
use crate::store::engine::{self, Fault, LockWait, Pool, Transaction};
use crate::store::keyring::Keyring;
use crate::store::mailbox::Addresses;
use crate::store::pieces::{Piece, Pieces, Waits};
use crate::store::queue::{Queue, Seat};
use crate::store::row_keyring::RowVault;
use crate::store::submission::{Filed, Prepared, Refusal};

/// What the writer works with.
#[derive(Debug)]
pub(in crate::store) struct Desk {
    pub(in crate::store) filing: Pool,
    pub(in crate::store) rows: RowVault,
    pub(in crate::store) keys: Arc<Keys>,
    pub(in crate::store) served_domains: Vec<String>,
    /// Where there is a relay: the domain of its Message-IDs.
    pub(in crate::store) relay_domain: Option<String>,
    pub(in crate::store) addresses: Arc<Addresses>,
    pub(in crate::store) keyring: Arc<Keyring>,
    pub(in crate::store) bell: Bell,
    /// As last seen; another process has committed when it changes.
    pub(in crate::store) data_version: AtomicI64,
    pub(in crate::store) counters: Arc<Counters>,
    pub(in crate::store) patience: Patience,
}

/// How long a writer waits for accounts that somebody else has. Everybody waits with it: where it was in vain a moment
/// ago, no longer than a healthy node needs for a batch.
#[derive(Debug, Default)]
pub(in crate::store) struct Patience {
    lost: Mutex<Option<Instant>>,
}

impl Patience {
    fn now(&self) -> LockWait {
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_none_or(|at| at.elapsed() > REGAINED_AFTER) { LockWait::Long } else { LockWait::Short }
    }

    fn lose(&self) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
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
    begun: AtomicU64,
    committed: AtomicU64,
    jobs: AtomicU64,
}

impl Counters {
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn add(&self, jobs: usize) {
        self.committed.fetch_add(1, Ordering::Relaxed);
        self.jobs.fetch_add(jobs as u64, Ordering::Relaxed);
    }
}

/// The sessions' end.
#[derive(Debug)]
pub(in crate::store) struct Handle {
    counters: Arc<Counters>,
    queue: Arc<Queue<Job>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    threads: Option<Runtime>,
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
    File(Arc<Prepared>),
    /// R64.
    Note(Vec<Act>),
    Record(Vec<Refusal>),
}

impl Work {
    /// Whose it is; the first recipient's, where there are several.
    fn account(&self) -> AccountId {
        let first = match self {
            Self::File(prepared) => {
                prepared.envelope.recipients.first().map(|recipient| recipient.mailbox.account())
            }
            Self::Note(acts) => acts.first().map(|act| act.account),
            Self::Record(refusals) => refusals.first().map(|refusal| refusal.account),
        };
        first.unwrap_or(AccountId::OPERATOR)
    }
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
pub(in crate::store) struct Ticket(AtomicU8);

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
    /// With threads of their own: a writer that waited for its turn among the sessions would wait several times for
    /// each batch, and all of them with it. Where everything else has one thread, so has this.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(in crate::store) fn start(desk: Desk) -> io::Result<Self> {
        let is_alone = runtime::Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        let threads = if is_alone { None } else { Some(threads(desk.filing.writers())?) };
        let (queue, seats) = Queue::new(MAX_WAITING, desk.filing.writers());
        let (counters, desk) = (desk.counters.clone(), Arc::new(desk));
        let write = |seat| match &threads {
            Some(threads) => threads.spawn(desk.clone().run(seat)),
            None => tokio::spawn(desk.clone().run(seat)),
        };
        let tasks = seats.into_iter().map(write).collect();
        Ok(Self { counters, queue, tasks: Mutex::new(tasks), threads })
    }

    pub(in crate::store) fn batches(&self) -> Batches {
        Batches {
            committed: self.counters.committed.load(Ordering::Relaxed),
            jobs: self.counters.jobs.load(Ordering::Relaxed),
        }
    }

    pub(in crate::store) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Hands a job over and waits for its answer. A job that is taken before the deadline is waited for.
    pub(in crate::store) async fn ask(&self, work: Work, deadline: Instant) -> Result<Answer, StoreError> {
        let (job, ticket, mut answered) = Job::new(work);
        let place = tokio::time::timeout_at(deadline, self.queue.place()).await;
        let place = place.map_err(|_| StoreError::TimedOut)?.ok_or(StoreError::Closed)?;
        if !self.queue.push(job.account(), job, place) {
            return Err(StoreError::Closed);
        }
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
        self.queue.close();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            let _ = task.await;
        }
    }
}

fn threads(count: usize) -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread()
        .worker_threads(count)
        .thread_name("store-writer")
        .enable_all()
        .build()
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl Desk {
    async fn run(self: Arc<Self>, mut seat: Seat<Job>) {
        let mut idle = tokio::time::interval(IDLE_LOOK);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                jobs = seat.next(self.filing.batch()) => match jobs {
                    Some(jobs) => self.turn(&mut seat, jobs).await,
                    None => break,
                },
                _ = idle.tick() => self.look_for_changes().await,
            }
        }
    }

    /// One batch. Its jobs may be given up by their sessions until a transaction is ours.
    async fn turn(&self, seat: &mut Seat<Job>, mut jobs: Vec<Job>) {
        let plans_are_old = plans_are_old(self.counters.begin());
        if plans_are_old {
            // For speed alone: without it the first minute is slower.
            let _looked = self.filing.look_at_small_tables().await;
        }
        let mut transaction = match self.filing.begin_writing().await {
            Ok(transaction) => transaction,
            Err(error) => return answer_all(jobs, &Arc::new(error)),
        };
        if plans_are_old && let Err(error) = transaction.plan_anew().await {
            return answer_all(jobs, &Arc::new(error));
        }
        jobs.extend(seat.more(self.filing.batch().saturating_sub(jobs.len())));
        jobs.retain(|job| job.ticket.take());
        if jobs.is_empty() {
            return;
        }
        let ends = Instant::now() + TURN_LIMIT;
        let mut pieces = Pieces::default();
        let first = Piece { jobs, decided_anew: false, waits: Waits::No };
        self.write(transaction, first, &mut pieces, ends).await;
        while let Some(piece) = pieces.pop() {
            // Whoever has been answered waits for no other's second try.
            let unanswered = pieces.jobs().chain(&piece.jobs);
            seat.keep(&unanswered.map(Job::account).collect());
            if Instant::now() >= ends {
                let rest = piece.jobs.into_iter().chain(pieces.into_jobs());
                return rest.for_each(|job| job.send(Err(StoreError::TimedOut)));
            }
            match self.filing.begin_writing().await {
                Ok(transaction) => self.write(transaction, piece, &mut pieces, ends).await,
                Err(error) => {
                    // It is away: the rest need not find out one by one.
                    let rest = piece.jobs.into_iter().chain(pieces.into_jobs());
                    return answer_all(rest, &Arc::new(error));
                }
            }
        }
    }

    /// Writes all jobs or none, but for those that are set aside. Everything up to the commit is bounded. Answers what is
    /// done, and puts what is to be tried again on `pieces`.
    async fn write(
        &self,
        mut transaction: Transaction,
        mut piece: Piece,
        pieces: &mut Pieces,
        ends: Instant,
    ) {
        let deadline = ends.min(Instant::now() + WORK_LIMIT);
        let writing = async {
            self.lock(&mut transaction, &mut piece, pieces).await?;
            self.decide_and_write(&mut transaction, &piece.jobs).await
        };
        let written = tokio::time::timeout_at(deadline, writing).await.unwrap_or(Err(Failure::TimedOut));
        let written = match written {
            Ok(written) => self.commit(transaction, written).await,
            Err(failure) => {
                // The second try is not to find the accounts locked by the first.
                transaction.roll_back().await;
                Err(failure)
            }
        };
        self.settle(piece, written, pieces, ends);
    }

    /// However long it takes: nobody could tell what became of it.
    async fn commit(&self, transaction: Transaction, written: Written) -> Result<Vec<Answer>, Failure> {
        transaction.commit().await?;
        self.bell.ring(written.with_events);
        Ok(written.answers)
    }

    /// Keeps others out of the accounts until the transaction ends. What somebody else has is set aside, then waited for,
    /// then put off.
    async fn lock(
        &self,
        transaction: &mut Transaction,
        piece: &mut Piece,
        pieces: &mut Pieces,
    ) -> Result<(), Failure> {
        // All at once: two writers that took them one after the other would wait for each other.
        let accounts: Vec<AccountId> = piece.jobs.iter().flat_map(Job::locks).collect();
        match piece.waits {
            Waits::No => pieces.set_aside(piece, transaction.try_lock_accounts(&accounts).await?),
            Waits::Yes => match transaction.wait_for_accounts(&accounts, self.patience.now()).await {
                Err(error) if engine::is_lock_timeout(&error) => return Err(Failure::Locked),
                locked => locked?,
            },
            Waits::InVain => {
                let put_off = piece.take_out(&mut transaction.try_lock_accounts(&accounts).await?);
                put_off.into_iter().for_each(|job| job.send(Err(StoreError::TimedOut)));
            }
        }
        if piece.jobs.is_empty() { Err(Failure::Locked) } else { Ok(()) }
    }

    /// Answers what is done, and puts what is to be tried again on `pieces`, the earlier on top: a later mail may
    /// build on an earlier one.
    fn settle(
        &self,
        mut piece: Piece,
        written: Result<Vec<Answer>, Failure>,
        pieces: &mut Pieces,
        ends: Instant,
    ) {
        let may_split = piece.jobs.len() > 1 && Instant::now() < ends;
        match written {
            Ok(answers) => {
                self.counters.add(answers.len());
                for (job, answer) in piece.jobs.into_iter().zip(answers) {
                    job.send(Ok(answer));
                }
            }
            Err(Failure::Job(index, answer)) => {
                if index < piece.jobs.len() {
                    piece.jobs.remove(index).send(answer);
                }
                if !piece.jobs.is_empty() {
                    pieces.push(piece);
                }
            }
            Err(Failure::Statement(error)) if engine::is_race(&error) && !piece.decided_anew => {
                pieces.push(Piece { decided_anew: true, ..piece });
            }
            Err(Failure::Locked) if piece.waits == Waits::Yes => {
                self.patience.lose();
                pieces.push(Piece { waits: Waits::InVain, ..piece });
            }
            Err(Failure::Statement(error)) if may_split && engine::fault(&error) == Fault::Rows => {
                pieces.split(piece);
            }
            Err(Failure::Statement(error)) => answer_all(piece.jobs, &Arc::new(error)),
            // One slow filing must not fail its neighbours; a slow disk fails them all, when the turn ends.
            Err(Failure::TimedOut) if may_split => pieces.split(piece),
            Err(Failure::Locked | Failure::TimedOut) => {
                piece.jobs.into_iter().for_each(|job| job.send(Err(StoreError::TimedOut)));
            }
        }
    }

    /// Once a second when there is nothing to write.
    async fn look_for_changes(&self) {
        if self.filing.has_data_version()
            && let Ok(mut connection) = self.filing.acquire().await
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
            self.bell.ring_all();
        }
    }
}

impl Job {
    /// With what withdraws it, and what waits for its answer.
    pub(in crate::store) fn new(
        work: Work,
    ) -> (Self, Arc<Ticket>, oneshot::Receiver<Result<Answer, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        (Self { work, ticket: ticket.clone(), answer }, ticket, answered)
    }

    /// Under which it waits.
    pub(in crate::store) fn account(&self) -> AccountId {
        self.work.account()
    }

    /// The session may be gone; what was written stays, and a retry is a duplicate (R70).
    fn send(self, answer: Result<Answer, StoreError>) {
        let _ = self.answer.send(answer);
    }
}

/// Each time that there have been twice as many batches, on every connection: the engine may have planned for tables
/// that were all but empty.
fn plans_are_old(batch: u64) -> bool {
    batch.checked_ilog2().is_some_and(|power| batch - (1 << power) < CONNECTIONS)
}

fn answer_all(jobs: impl IntoIterator<Item = Job>, error: &Arc<sqlx::Error>) {
    for job in jobs {
        job.send(Err(StoreError::Commit(error.clone())));
    }
}

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Of the engine's filing pool, and more.
const CONNECTIONS: u64 = 4;
/// Sessions beyond this many wait in front of the queue.
const MAX_WAITING: usize = 2048;
/// For everything between begin and commit; a healthy batch takes a hundredth of it.
const WORK_LIMIT: Duration = Duration::from_secs(4);
/// For a batch and the pieces it is split into: well before the sessions give up.
const TURN_LIMIT: Duration = Duration::from_secs(20);
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// A server that hangs in the middle of a batch gives its accounts back after 15 seconds.
const REGAINED_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn desk_without_writer() -> (Handle, Seat<Job>) {
        let (queue, mut seats) = Queue::new(1, 1);
        let handle = Handle { counters: Arc::default(), queue, tasks: Mutex::default(), threads: None };
        (handle, seats.remove(0))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn plans_are_made_anew_whenever_there_have_been_twice_as_many_batches() {
        let old: Vec<u64> = (0..40).filter(|batch| plans_are_old(*batch)).collect();
        assert_eq!(old, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 32, 33, 34, 35]);
    }

    #[tokio::test]
    async fn a_job_that_was_given_up_can_no_longer_be_taken() {
        let (handle, mut seat) = desk_without_writer();
        let answer = handle.ask(Work::Record(Vec::new()), soon()).await;
        assert!(matches!(answer, Err(StoreError::TimedOut)));
        let job = seat.next(1).await.unwrap().remove(0);
        assert!(!job.ticket.take(), "it must not enter a batch any more");
    }

    #[tokio::test]
    async fn a_job_that_was_taken_in_time_is_waited_for() {
        let (handle, mut seat) = desk_without_writer();
        let deadline = soon();
        let late_writer = async {
            let job = seat.next(1).await.unwrap().remove(0);
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
