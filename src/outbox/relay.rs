//! The relay: claims what is due, writes and signs it, hands it to the smarthost, settles (R12, R46, R49).
//!
//! Promises at least once, with the same Message-ID each time; that nothing is sent but to the one address that
//! the store names; that a smarthost that is away costs time and no mail; that every wait ends before the lease.

use std::time::Duration;

use metrics::{counter, gauge};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::auth::signing::{Signer, SigningError};
use crate::config;
use crate::keys::Keys;
use crate::outbox::copy;
use crate::outbox::notice::{self, Frame};
use crate::outbox::schedule::{Next, next_attempt};
use crate::outbox::smarthost::{Broken, Handed, Session};
use crate::store::directory::DirectoryError;
use crate::store::{CopyFacts, RelayJob, RelayKind, Settled, Store, StoreError};
use crate::time::Timestamp;

/// What the relay works with.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    keys: std::sync::Arc<Keys>,
    config: config::Relay,
    /// What EHLO says.
    hostname: String,
    public_url: String,
    /// By the domain of the From address.
    signers: Vec<(String, std::sync::Arc<Signer>)>,
}

/// One message ready to go.
struct Letter {
    /// None is the null reverse-path.
    sender: Option<EmailAddress>,
    recipient: EmailAddress,
    message: Vec<u8>,
}

/// Why there is no letter.
enum NoLetter {
    Gone(&'static str),
    Never(String),
    Later(StoreError),
}

impl From<StoreError> for NoLetter {
    fn from(error: StoreError) -> Self {
        Self::Later(error)
    }
}

impl Relay {
    /// With the key that signs, if there is one.
    ///
    /// # Errors
    /// If the key file cannot be used.
    pub fn new(
        store: Store,
        keys: std::sync::Arc<Keys>,
        config: config::Relay,
        reply_domain: &str,
        hostname: String,
        public_url: String,
    ) -> Result<Self, SigningError> {
        let mut signers = Vec::new();
        if let (Some(path), Some(selector)) = (&config.dkim_key, &config.dkim_selector) {
            for domain in [reply_domain, config.from.domain()] {
                let signer = Signer::load(path, domain, selector)?;
                signers.push((domain.to_lowercase(), std::sync::Arc::new(signer)));
            }
        }
        Ok(Self { store, keys, config, hostname, public_url, signers })
    }

    /// Runs until the server drains; what is being sent then is finished.
    pub async fn run(self, draining: CancellationToken) {
        if let Err(error) = self.store.release_relay_jobs(Timestamp::now()).await {
            warn!(error = &error as &dyn std::error::Error, "relay.leases_kept");
        }
        let mut polls = tokio::time::interval(POLL);
        let mut digests = tokio::time::interval(DIGEST_LOOK);
        for timer in [&mut polls, &mut digests] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => return,
                _ = digests.tick() => self.look_for_digests().await,
                _ = polls.tick() => {
                    failures = self.turn(&draining).await.map_or(failures + 1, |()| 0);
                    let pause = POLL.saturating_mul(1 << failures.min(MAX_DOUBLINGS));
                    if failures > 0 && draining.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn look_for_digests(&self) {
        match self.store.ask_for_digests(Timestamp::now(), DIGESTS_AT_ONCE).await {
            Ok(0) => {}
            Ok(asked) => info!(asked, "relay.digests"),
            Err(error) => warn!(error = &error as &dyn std::error::Error, "relay.no_digests"),
        }
        if let Ok(queue) = self.store.relay_queue().await {
            show(queue);
        }
    }

    /// Everything that is due, over one session. An error means that the smarthost or the store is away.
    async fn turn(&self, draining: &CancellationToken) -> Result<(), ()> {
        loop {
            let now = Timestamp::now();
            let lease = Timestamp::from_millis(now.as_millis() + LEASE_MILLIS);
            let jobs = self.store.claim_relay_jobs(now, lease, JOBS_AT_ONCE).await.map_err(|error| {
                warn!(error = &error as &dyn std::error::Error, "relay.store_away");
            })?;
            if jobs.is_empty() {
                return Ok(());
            }
            self.send_all(jobs, draining).await?;
            if let Ok(queue) = self.store.relay_queue().await {
                show(queue);
            }
            if draining.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Over one session, or a new one behind a mail that ended it: such a mail must not hold up the others.
    async fn send_all(&self, jobs: Vec<RelayJob>, draining: &CancellationToken) -> Result<(), ()> {
        let (mut session, mut away, mut result) = (None, None, Ok(()));
        for job in jobs {
            if session.is_none() && away.is_none() && !draining.is_cancelled() {
                match self.config.smarthost.open(&self.hostname).await {
                    Ok(open) => session = Some(open),
                    Err(broken) => {
                        // No recipient has been named yet: there is nothing personal in it.
                        error!(because = %broken, "relay.smarthost_away");
                        away = Some(broken);
                    }
                }
            }
            let settled = match (&mut session, &away) {
                _ if draining.is_cancelled() => {
                    Settled::Again { at: Timestamp::now(), reply: "the server was stopped".to_owned() }
                }
                (Some(open), _) => match self.send(open, &job).await {
                    Ok(settled) => settled,
                    Err(broken) => {
                        (session, result) = (None, Err(()));
                        again(&job, broken.to_string(), SMARTHOST_PAUSE)
                    }
                },
                (None, away) => {
                    result = Err(());
                    again(&job, away.as_ref().map(Broken::to_string).unwrap_or_default(), SMARTHOST_PAUSE)
                }
            };
            self.settle(&job, &settled).await;
        }
        if let Some(session) = session {
            session.close().await;
        }
        result
    }

    /// One job, up to what the smarthost said.
    async fn send(&self, session: &mut Session, job: &RelayJob) -> Result<Settled, Broken> {
        let letter = match self.write(job).await {
            Ok(letter) => letter,
            Err(NoLetter::Gone(why)) => return Ok(Settled::Cancelled(why)),
            Err(NoLetter::Never(why)) => return Ok(Settled::Failed(why)),
            Err(NoLetter::Later(error)) => {
                warn!(job.id = %job.id, error = &error as &dyn std::error::Error, "relay.unreadable");
                return Ok(again(job, "the message could not be read".to_owned(), RECIPIENT_PAUSE));
            }
        };
        let handed = session.hand_over(letter.sender.as_ref(), &letter.recipient, &letter.message).await?;
        Ok(match handed {
            Handed::Later(said) => again(job, said, RECIPIENT_PAUSE),
            Handed::Refused(said) => Settled::Failed(said),
            Handed::Taken(said) => Settled::Sent(said),
        })
    }

    async fn write(&self, job: &RelayJob) -> Result<Letter, NoLetter> {
        let now = Timestamp::now();
        let message_id = self.store.relay_message_id(job);
        let loop_mark = self.keys.loop_mark(job.account.uuid());
        let frame = Frame {
            from: &self.config.from,
            message_id: &message_id,
            loop_mark: &loop_mark,
            now,
            public_url: &self.public_url,
        };
        match job.kind {
            RelayKind::Contact | RelayKind::Staff => {
                let facts = self.store.copy_facts(job, now).await?.map_err(|gone| NoLetter::Gone(gone.0))?;
                self.copy(job, facts, message_id, loop_mark).await
            }
            RelayKind::Digest => {
                let facts = self.store.digest_facts(job).await?.map_err(|gone| NoLetter::Gone(gone.0))?;
                let message = notice::digest(&frame, &facts);
                self.signed(None, facts.to, message, self.config.from.domain().to_owned()).await
            }
            RelayKind::Confirmation => {
                let token = self.store.confirmation_token(job.account, job.id).await?;
                let (to, token) = token.ok_or(NoLetter::Gone("it is confirmed, gone or over"))?;
                let (account, user) = self.store.names(job.account, job.user).await?;
                let user = user.unwrap_or_default();
                let message = notice::confirmation(&frame, &account, &user, &to, &token);
                self.signed(None, to, message, self.config.from.domain().to_owned()).await
            }
        }
    }

    async fn copy(
        &self,
        job: &RelayJob,
        facts: CopyFacts,
        message_id: String,
        loop_mark: String,
    ) -> Result<Letter, NoLetter> {
        // Not here: a large message would keep other work waiting, and a panic would end the relay.
        let (email, facts) = blocking(move || (crate::message::parse(&facts.raw), facts)).await?;
        let email = email.map_err(|error| NoLetter::Never(error.to_string()))?;
        let ids: Vec<String> = email.references.iter().chain(&email.in_reply_to).cloned().collect();
        let originals = self.store.originals(job.account, &ids).await?;
        let (recipient, sender) = (facts.to.clone(), facts.reply_address.clone());
        let kind = job.kind;
        let writing = move || copy::compose(&facts, &email, kind, &originals, &message_id, &loop_mark);
        let message = blocking(writing).await?.map_err(|error| NoLetter::Never(error.to_string()))?;
        let domain = sender.domain().to_owned();
        self.signed(Some(sender), recipient, message, domain).await
    }

    async fn signed(
        &self,
        sender: Option<EmailAddress>,
        recipient: EmailAddress,
        message: Vec<u8>,
        domain: String,
    ) -> Result<Letter, NoLetter> {
        let signer = self.signers.iter().find(|(signs, _)| signs.eq_ignore_ascii_case(&domain));
        let message = match signer.map(|(_, signer)| signer.clone()) {
            None => message,
            Some(signer) => {
                let signed = blocking(move || signer.sign(&message)).await?;
                signed.map_err(|error| NoLetter::Never(error.to_string()))?
            }
        };
        Ok(Letter { sender, recipient, message })
    }

    async fn settle(&self, job: &RelayJob, settled: &Settled) {
        let outcome = match settled {
            Settled::Again { .. } => "deferred",
            Settled::Cancelled(_) => "cancelled",
            Settled::Failed(_) => "failed",
            Settled::Sent(_) => "sent",
        };
        counter!("syncmx_relay_total", "kind" => job.kind.as_str(), "outcome" => outcome).increment(1);
        info!(job.id = %job.id, kind = job.kind.as_str(), outcome, attempts = job.attempts, "relay.settled");
        if let Err(error) = self.store.settle_relay_job(job, settled).await {
            let error: &DirectoryError = &error;
            // It goes out once more when the lease ends, with the same Message-ID.
            error!(job.id = %job.id, error = error as &dyn std::error::Error, "relay.not_settled");
        }
    }
}

/// Where it cannot keep other work waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Defect("writing a copy panicked"))
}

/// When to try again: as the schedule says, but not later than `longest` from now.
fn again(job: &RelayJob, reply: String, longest: Duration) -> Settled {
    let now = Timestamp::now();
    let [.., high, low] = *Uuid::now_v7().as_bytes();
    match next_attempt(job.created_at, now, job.attempts, u16::from_be_bytes([high, low])) {
        Next::At(at) => {
            let latest =
                now.as_millis().saturating_add(i64::try_from(longest.as_millis()).unwrap_or(i64::MAX));
            Settled::Again { at: at.min(Timestamp::from_millis(latest)), reply }
        }
        Next::Never => Settled::Failed(format!("given up after 3 days: {reply}")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no last digit")]
fn show(queue: crate::store::RelayQueue) {
    gauge!("syncmx_relay_waiting").set(queue.waiting as f64);
    let oldest = queue.oldest.map_or(0, |oldest| Timestamp::now().as_millis() - oldest.as_millis());
    gauge!("syncmx_relay_oldest_seconds").set(oldest.max(0) as f64 / 1000.0);
}

const POLL: Duration = Duration::from_secs(1);
/// The pause after failures: 64 s at most.
const MAX_DOUBLINGS: u32 = 6;
/// Held mail of ten minutes shares a digest.
const DIGEST_LOOK: Duration = Duration::from_secs(10 * 60);
/// Users in one look; the rest with the next.
const DIGESTS_AT_ONCE: u32 = 1_000;
/// A smarthost that is back is used soon.
const SMARTHOST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Greylisting and full mailboxes.
const RECIPIENT_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Messages of one session.
const JOBS_AT_ONCE: u32 = 8;
/// Longer than all of them can take: eight times the limits of [`crate::outbox::smarthost`].
const LEASE_MILLIS: i64 = 90 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AccountId;
    use crate::outbox::smarthost::{DATA_LIMIT, END_LIMIT};

    #[test]
    fn a_session_cannot_outlast_its_lease() {
        let most = (DATA_LIMIT + END_LIMIT + Duration::from_secs(5 * 30)) * JOBS_AT_ONCE;
        assert!(most.as_millis() < u128::try_from(LEASE_MILLIS).unwrap());
    }

    #[test]
    fn a_smarthost_that_is_away_is_asked_again_within_minutes_and_given_up_after_3_days() {
        let job = |age_millis: i64, attempts| RelayJob {
            account: AccountId::OPERATOR,
            id: Uuid::nil(),
            message: None,
            kind: RelayKind::Digest,
            conversation: None,
            user: None,
            email_key: None,
            attempts,
            created_at: Timestamp::from_millis(Timestamp::now().as_millis() - age_millis),
        };
        let Settled::Again { at, .. } = again(&job(86_400_000, 200), String::new(), SMARTHOST_PAUSE) else {
            panic!("given up")
        };
        assert!(at.as_millis() <= Timestamp::now().as_millis() + 300_000);
        let over = again(&job(3 * 86_400_000 + 1, 900), "421 no".to_owned(), SMARTHOST_PAUSE);
        assert_eq!(over, Settled::Failed("given up after 3 days: 421 no".to_owned()));
    }
}
