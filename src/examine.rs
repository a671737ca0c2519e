//! What a message says and how far it is proven: the same for `serve`, `explain` and `inspect`.
//!
//! Promises that a message which makes the reader fail, or takes it too long, ends in an [`ExamineError`] and nothing
//! else: no session, no other message. Large messages are read where they keep nobody waiting. Reading and asking the
//! DNS share one time (SMTP.md M10).

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::address::{EmailAddress, Mailbox};
use crate::auth::{Authenticator, MAX_WALL, Original, Subject, Verdict};
use crate::filing::{Step, tell_message, tell_verdict};
use crate::message::{self, Email, TooComplex};
use crate::smtp::{Envelope, Received};

/// See the top of the file.
pub struct Examined {
    /// The parsed message.
    pub email: Email,
    /// What authentication found.
    pub verdict: Verdict,
    /// R33: the octets of the message, where it was taken out of a journal report.
    pub inner: Option<Vec<u8>>,
    /// What SMTP and authentication have to say in the trace.
    pub steps: Vec<Step>,
}

/// Why a message could not be examined.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// A defect of ours that this message brings to light.
    #[error("the reader of messages has failed on it")]
    Failed,
    /// No thread was free to read it.
    #[error("there was no time to read it")]
    NotBegun,
    /// It is over a structural limit.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
    /// Reading it takes longer than a message may take in all, 20 s.
    #[error("reading it takes too long")]
    TooSlow,
}

/// Where a message comes from, owned.
#[derive(Clone, Debug)]
pub struct SubjectParts {
    /// The client's address.
    pub client_ip: IpAddr,
    /// The EHLO or HELO argument.
    pub helo: String,
    /// The reverse-path.
    pub mail_from: Option<EmailAddress>,
    /// Whether a journal report is opened (R33); mail for the postmaster alone is kept as it came.
    pub opens_journals: bool,
    /// Whether the postmaster is among the recipients, who reads mail whoever wrote it.
    pub is_for_postmaster: bool,
}

impl SubjectParts {
    pub(crate) fn of(envelope: &Envelope) -> Self {
        Self {
            client_ip: envelope.client.ip,
            helo: envelope.client.helo.clone(),
            mail_from: envelope.reverse_path.clone(),
            opens_journals: envelope.recipients.iter().any(|to| to.mailbox != Mailbox::Postmaster),
            is_for_postmaster: envelope.recipients.iter().any(|to| to.mailbox == Mailbox::Postmaster),
        }
    }

    fn with_author<'a>(&'a self, email: &'a Email, original: Option<&'a Inner>) -> Subject<'a> {
        Subject {
            client_ip: self.client_ip,
            helo: &self.helo,
            mail_from: self.mail_from.as_ref(),
            from: email.from.address(),
            original: original.map(|(raw, from)| Original { raw, from }),
        }
    }
}

/// Parses and authenticates one message.
///
/// # Errors
/// If the message breaks a structural limit, or the reader.
pub async fn examine(
    authenticator: &Authenticator,
    subject: &SubjectParts,
    raw: &Arc<Received>,
) -> Result<Examined, ExamineError> {
    examine_while(authenticator, subject, raw, std::future::pending()).await
}

/// The same. From when `crowded` returns, the DNS is waited for no longer: what it has not said by then is a failure
/// that may pass. It is asked only from when the DNS is waited for.
pub(crate) async fn examine_while(
    authenticator: &Authenticator,
    subject: &SubjectParts,
    raw: &Arc<Received>,
    crowded: impl Future<Output = ()>,
) -> Result<Examined, ExamineError> {
    guarded(async {
        let started = Instant::now();
        let deadline = started + MAX_WALL;
        let Read { email, journaled, original } = read(Arc::clone(raw), deadline).await?;
        let parsed = started.elapsed();
        // R33: of a journal report it is the reporter who is judged.
        let subject_of_it = subject.with_author(&email, original.as_ref());
        // SMTP.md S14: refused whatever anybody proves, so nobody is asked. (What a journal reports has another author.)
        let is_refused = subject_of_it.from.is_none() && journaled.is_none() && !subject.is_for_postmaster;
        let (verdict, told) = if is_refused {
            (
                Verdict::unchecked(),
                "nothing was looked up: it has no author of whom anything could be proven".to_owned(),
            )
        } else {
            let hurry = CancellationToken::new();
            let verifying =
                authenticator.verify_while(deadline, hurry.clone(), subject_of_it, raw.as_bytes());
            let verdict = hurried(Box::pin(verifying), crowded, &hurry).await;
            let told = tell_verdict(&verdict);
            (verdict, told)
        };
        let (email, inner) = match journaled.filter(|_| subject.opens_journals) {
            Some((inner, octets)) => (inner, Some(octets)),
            None => (email, None),
        };
        let steps = vec![
            timed("MESSAGE", tell_message(&email), parsed),
            timed("AUTH", told, started.elapsed() - parsed),
        ];
        Ok(Examined { email, verdict, inner, steps })
    })
    .await
}

async fn hurried<T>(
    mut work: impl Future<Output = T> + Unpin,
    crowded: impl Future<Output = ()>,
    hurry: &CancellationToken,
) -> T {
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = crowded => {}
    }
    metrics::counter!("syncmx_dns_waits_cut_short_total").increment(1);
    hurry.cancel();
    work.await
}

/// A panic is an answer. Nothing of the work is looked at after one.
async fn guarded<T>(work: impl Future<Output = Result<T, ExamineError>>) -> Result<T, ExamineError> {
    Box::pin(AssertUnwindSafe(work).catch_unwind()).await.unwrap_or(Err(ExamineError::Failed))
}

/// A message with those inside it that matter.
struct Read {
    email: Email,
    /// R33: what a journal reports.
    journaled: Option<(Email, Vec<u8>)>,
    /// R28: what was forwarded whole.
    original: Option<Inner>,
}

/// The octets of a message inside another, and its author.
type Inner = (Vec<u8>, EmailAddress);

/// `raw` goes along, and with it what it holds of memory budgets: a reading that nobody waits for any more still takes
/// memory until it really ends.
async fn read(raw: Arc<Received>, deadline: Instant) -> Result<Read, ExamineError> {
    if raw.as_bytes().len() <= READ_IN_PLACE_OCTETS {
        return read_now(&raw);
    }
    if Instant::now() >= deadline {
        return Err(ExamineError::NotBegun);
    }
    let (beginning, begun) = oneshot::channel();
    let reading = tokio::task::spawn_blocking(move || {
        // Nobody may be waiting any more.
        beginning.send(()).map_err(|()| ExamineError::NotBegun)?;
        read_now(&raw)
    });
    // A machine with too much to do says nothing of this message.
    let _ended_at_once = timeout_at(deadline, begun).await.map_err(|_| ExamineError::NotBegun)?;
    let has_time = deadline.saturating_duration_since(Instant::now()) >= READING_TIME;
    let late = if has_time { ExamineError::TooSlow } else { ExamineError::NotBegun };
    let read = timeout_at(deadline, reading).await.map_err(|_| late)?;
    read.unwrap_or(Err(ExamineError::Failed))
}

fn read_now(raw: &Received) -> Result<Read, ExamineError> {
    message::check_header(raw.as_bytes())?;
    let email = message::parse(raw.as_bytes())?;
    let journaled = message::open_journal(raw.as_bytes(), &email)?;
    let original = original_of(&email, raw.as_bytes());
    Ok(Read { email, journaled, original })
}

/// R28: the attached original, and its one author as the message itself says (not the mail that carries it).
fn original_of(email: &Email, raw: &[u8]) -> Option<Inner> {
    let forwarded = email.forwarded.as_ref()?;
    let octets = message::open_attachment(raw, forwarded.attachment?)?;
    let author = message::author(&octets)?;
    let is_the_same = forwarded.from.as_ref().is_some_and(|from| from.address == author);
    is_the_same.then_some((octets, author))
}

fn timed(rule: &'static str, said: String, took: Duration) -> Step {
    Step { rule, said: said.into(), took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) }
}

/// Of a message that has had less time, nobody can say that it is to blame.
const READING_TIME: Duration = Duration::from_secs(10);
/// Up to this size reading takes well under a millisecond, and nobody needs to be kept from waiting for it.
pub(crate) const READ_IN_PLACE_OCTETS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_and_no_end_of_the_session() {
        let failed = guarded::<()>(async { panic!("as asked") }).await;
        assert_eq!(failed, Err(ExamineError::Failed));
        assert_eq!(guarded(async { Ok(7) }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_message_is_read_alike_whatever_its_size() {
        for lines in [1, READ_IN_PLACE_OCTETS / 10] {
            let raw = format!("From: a@x.test\r\n\r\n{}", "a line..\r\n".repeat(lines));
            let raw = Arc::new(Received::from(raw.into_bytes()));
            let read = read(raw, Instant::now() + MAX_WALL).await.unwrap();
            assert_eq!((read.email.text.trim_end().len(), read.journaled.is_none()), (lines * 9 - 1, true));
        }
    }

    #[tokio::test]
    async fn m10_a_large_message_that_has_no_time_left_is_not_waited_for() {
        let raw = format!("From: a@x.test\r\n\r\n{}", "a line..\r\n".repeat(16 * READ_IN_PLACE_OCTETS));
        let raw = Arc::new(Received::from(raw.into_bytes()));
        // None, and too little to say that the message is to blame.
        for left in [Duration::ZERO, Duration::from_millis(1)] {
            let read = read(Arc::clone(&raw), Instant::now() + left).await;
            assert!(matches!(read.err(), Some(ExamineError::NotBegun)), "{left:?}");
        }
    }
}
