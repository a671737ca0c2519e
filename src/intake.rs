//! The page to read first: what happens to a message between the last byte of DATA and the reply.
//!
//! verdict → email → facts → decide → commit → answer. Promises: the `250` repeats what is on disk (R2); every
//! recipient of every transaction leaves a delivery that explains its outcome (R3); our own trouble is 4yz, never a
//! bounce. The facts are read and the decision is made inside the store's transaction, so that two messages at
//! once cannot miss each other.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::counter;
use tokio::time::timeout;
use tracing::{Instrument, error, info, info_span, warn};

use crate::address::{Asked, EmailAddress, Mailbox, ServedDomains};
use crate::auth::{self, Authenticator, Verdict};
use crate::examine::{READ_IN_PLACE_OCTETS, examine_while};
use crate::filing::{Outcome, Reason, Step};
use crate::id::{AccountId, DeliveryId};
use crate::malware::{Finding, Scanner};
use crate::message::{self, TooComplex};
use crate::poison::{Attempt, Failure, Poison};
use crate::postmaster::Allowance;
use crate::smtp::session::Room;
use crate::smtp::{
    Body, BodyDefect, Client, Envelope, ForwardPath, Handler, Hindrance, Noting, Place, Received, Recipient,
    RecipientAnswer, Reply, Unserved, reply,
};
use crate::store::{Lookup, Refusal, Store, StoreError, Submission};
use crate::time::Timestamp;
use crate::workbench::{self, Workbench};

pub use crate::examine::{ExamineError, Examined, SubjectParts, examine};

/// Judges and files what the SMTP front receives.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    authenticator: Authenticator,
    served: ServedDomains,
    hostname: String,
    workbench: Workbench,
    poison: Arc<Poison>,
    postmaster: Arc<Allowance>,
    scanner: Option<Scanner>,
}

impl Intake {
    /// With the parts it leads through.
    #[must_use]
    pub fn new(store: Store, authenticator: Authenticator, served: ServedDomains, hostname: String) -> Self {
        let (workbench, poison) = (Workbench::new(workbench::OCTETS), Arc::default());
        let postmaster = Arc::new(Allowance::new(Instant::now()));
        Self { store, authenticator, served, hostname, workbench, poison, postmaster, scanner: None }
    }

    /// Nothing is filed which clamd at this address has not called clean.
    #[must_use]
    pub fn scanning(mut self, clamd: Option<SocketAddr>) -> Self {
        self.scanner = clamd.map(Scanner::new);
        self
    }

    async fn file(&self, envelope: &Arc<Envelope>, body: Body) -> Result<Reply, StoreError> {
        let received_at = Timestamp::now();
        let deliveries: Vec<DeliveryId> =
            envelope.recipients.iter().map(|_| DeliveryId::generate()).collect();
        let size_bytes = envelope.received_octets;
        let end = End { envelope, deliveries: &deliveries, at: received_at, size_bytes };
        if let Some(defect) = envelope.defect {
            return self.end(end, refusal_of(defect)).await;
        }
        if !self.postmaster_has_room(envelope, size_bytes) {
            return self.end(end, postmaster_full()).await;
        }
        let place = self.workbench.place(envelope.client.ip, size_bytes).await;
        let received = match body.read(place.clone()).await {
            Ok(received) => received,
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "intake.body_unreadable");
                return self.end(end, unreadable()).await;
            }
        };
        let received = match self.look_over(received).await {
            Ok(received) => Arc::new(received),
            Err(answer) => return self.end(end, answer).await,
        };
        let examined = match self.judge(envelope, &received, place.as_ref()).await {
            Ok(examined) => examined,
            Err(answer) => return self.end(end, answer).await,
        };
        let Some(first) = deliveries.first().copied() else { return Ok(reply::STORE_UNAVAILABLE) };
        let trace_fields =
            auth::trace_fields(envelope, &examined.verdict, &self.hostname, first, received_at);
        let submission = Submission {
            received_at,
            raw: with_trace_fields(&trace_fields, received, examined.inner),
            envelope: Arc::clone(envelope),
            verdict: Arc::new(examined.verdict),
            email: Arc::new(examined.email),
            size_bytes,
            deliveries,
            steps: examined.steps,
        };
        let filed = self.store.file(submission).await?;
        drop(place);
        for (delivery, decision) in &filed.decided {
            announce(*delivery, decision.outcome(), decision.reason(), size_bytes);
        }
        Ok(filed.reply)
    }

    /// Whether mail to postmaster is within its share. Beside other recipients it is kept all the same, and counted.
    fn postmaster_has_room(&self, envelope: &Envelope, size_bytes: u64) -> bool {
        let now = Instant::now();
        let is_for_postmaster = |recipient: &Recipient| recipient.mailbox == Mailbox::Postmaster;
        if !envelope.recipients.iter().any(is_for_postmaster) || self.postmaster.take(size_bytes, now) {
            return true;
        }
        let has_others = !envelope.recipients.iter().all(is_for_postmaster);
        if has_others {
            self.postmaster.overdraw(size_bytes, now);
        }
        has_others
    }

    /// The message as it is judged, unless it ends here. A large one is looked over where it keeps nobody waiting.
    async fn look_over(&self, received: Received) -> Result<Received, Answer> {
        let (hostname, poison) = (self.hostname.clone(), Arc::clone(&self.poison));
        let is_large = received.as_bytes().len() > READ_IN_PLACE_OCTETS;
        let look = move || {
            // It is hostile octets that are read.
            let looked = AssertUnwindSafe(|| looked_over(&received, &hostname, &poison));
            (std::panic::catch_unwind(looked), received)
        };
        let looked = if is_large { tokio::task::spawn_blocking(look).await } else { Ok(look()) };
        match looked {
            Ok((Ok(Ok(None)), received)) => Ok(received),
            Ok((Ok(Ok(Some(cleaned))), received)) => Ok(received.replaced_by(cleaned)),
            Ok((Ok(Err(answer)), _)) => Err(answer),
            Ok((Err(_panic), received)) => {
                Err(self.not_examined(&ExamineError::Failed, &Arc::new(received)).await)
            }
            Err(_) => Err(not_read("looking it over was given up")),
        }
    }

    /// What is known of the message, unless it ends here.
    async fn judge(
        &self,
        envelope: &Envelope,
        received: &Arc<Received>,
        place: Option<&Place>,
    ) -> Result<Examined, Answer> {
        let subject = SubjectParts::of(envelope);
        let crowded = async {
            match place {
                Some(_) => self.workbench.crowded(envelope.client.ip).await,
                None => std::future::pending().await,
            }
        };
        let examining = examine_while(&self.authenticator, &subject, received, crowded);
        let (examined, scanned) = tokio::join!(examining, self.scan(received.as_bytes()));
        let examined = match examined {
            Ok(examined) => examined,
            Err(error) => return Err(self.not_examined(&error, received).await),
        };
        scanned?;
        match refusal_by(&examined.verdict) {
            Some(refusal) => Err(refusal),
            None => Ok(examined),
        }
    }

    /// Whether the scanner, where there is one, lets it pass.
    async fn scan(&self, raw: &[u8]) -> Result<(), Answer> {
        let Some(scanner) = &self.scanner else { return Ok(()) };
        match scanner.scan(raw).await {
            Ok(Finding::Clean) => Ok(()),
            Ok(Finding::Malware(signature)) => {
                let said = format!("clamd found {signature}");
                Err(rejected(Reason::Malware, reply::MALWARE, step("SCAN", said)))
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "scan.failed");
                counter!("syncmx_scans_failed_total").increment(1);
                Err(not_scanned(error.to_string()))
            }
        }
    }

    /// The reader did not get through.
    async fn not_examined(&self, error: &ExamineError, received: &Arc<Received>) -> Answer {
        match error {
            ExamineError::TooComplex(limit) => too_complex(limit),
            // Too much to do is no defect.
            ExamineError::NotBegun => unavailable("there was no time to read the message"),
            ExamineError::TooSlow => self.not_read_by(error, Failure::Slow, received).await,
            ExamineError::Failed => self.not_read_by(error, Failure::Failed, received).await,
        }
    }

    /// The reader's own trouble, which is remembered of this message.
    async fn not_read_by(&self, error: &ExamineError, failure: Failure, received: &Arc<Received>) -> Answer {
        let (poison, raw) = (Arc::clone(&self.poison), Arc::clone(received));
        let noting = tokio::task::spawn_blocking(move || poison.failed(raw.as_bytes(), failure));
        if noting.await.is_err() {
            error!("intake.failure_not_noted");
        }
        not_read(note_unread(error, received))
    }

    /// Mail that was not filed in time, or not at all, by our fault: a trace of it is tried for a moment.
    async fn put_off(&self, envelope: &Envelope, said: &'static str) -> Reply {
        let deliveries: Vec<DeliveryId> =
            envelope.recipients.iter().map(|_| DeliveryId::generate()).collect();
        let end = End { envelope, deliveries: &deliveries, at: Timestamp::now(), size_bytes: 0 };
        self.end(end, unavailable(said)).await.unwrap_or(reply::STORE_UNAVAILABLE)
    }

    /// Ends a whole transaction without a message that is filed.
    async fn end(&self, end: End<'_>, answer: Answer) -> Result<Reply, StoreError> {
        let End { envelope, deliveries, at, size_bytes } = end;
        let Answer { outcome, reason, reply, step } = answer;
        let Some(first) = deliveries.first() else { return Ok(reply) };
        let reply = reply.with_trace(*first);
        let refusals = envelope.recipients.iter().zip(deliveries).map(|(recipient, delivery)| Refusal {
            delivery: *delivery,
            account: recipient.mailbox.account(),
            at,
            client: envelope.client.clone(),
            mail_from: envelope.reverse_path.clone(),
            rcpt: path_text(&recipient.path),
            reason,
            outcome,
            reply: reply.clone(),
            size_bytes,
            steps: vec![step.clone()],
        });
        self.store.record(refusals.collect()).await?;
        announce(*first, outcome, reason, size_bytes);
        Ok(reply)
    }

    /// R3: a trace for each of these recipients that is ours. Who is not is not named in any account.
    async fn leave_trace(&self, client: &Client, unserved: &Unserved) -> Result<Reply, StoreError> {
        let (outcome, reason, said) = hindrance(unserved.cause);
        let mut refusals: Vec<Refusal> = Vec::new();
        for path in &unserved.recipients {
            let account = match self.store.mailbox(&self.served.classify(path)).await? {
                Lookup::Found(mailbox) => mailbox.account(),
                Lookup::Off(account) => account,
                Lookup::Unknown => continue,
            };
            let delivery = DeliveryId::generate();
            let first = refusals.first().map_or(delivery, |first| first.delivery);
            refusals.push(Refusal {
                delivery,
                account,
                at: Timestamp::now(),
                client: client.clone(),
                mail_from: unserved.reverse_path.clone(),
                rcpt: path_text(path),
                reason,
                outcome,
                reply: unserved.reply.clone().with_trace(first),
                size_bytes: 0,
                steps: vec![step("SMTP", said)],
            });
        }
        let Some(reply) = refusals.first().map(|first| first.reply.clone()) else {
            return Ok(unserved.reply.clone());
        };
        for refusal in &refusals {
            announce(refusal.delivery, outcome, reason, 0);
        }
        self.store.record(refusals).await?;
        Ok(reply)
    }

    /// A recipient: ours, or refused with a delivery that says why.
    async fn look_up(
        &self,
        client: &Client,
        reverse_path: Option<&EmailAddress>,
        path: &ForwardPath,
        noting: Noting,
    ) -> Result<RecipientAnswer, StoreError> {
        let asked = self.served.classify(path);
        let (account, answer) = match (&asked, self.store.mailbox(&asked).await?) {
            (_, Lookup::Found(Mailbox::Postmaster)) if !self.postmaster.has_room(0, Instant::now()) => {
                (AccountId::OPERATOR, postmaster_full())
            }
            (_, Lookup::Found(mailbox)) => return Ok(RecipientAnswer::Accepted(mailbox)),
            (_, Lookup::Off(account)) => {
                let said = step("SMTP", "the address was rotated away, disconnected or revoked");
                (account, rejected(Reason::AddressOff, reply::ADDRESS_OFF, said))
            }
            (Asked::Foreign, Lookup::Unknown) => {
                let said = step("SMTP", "the domain of the recipient is not served here");
                (AccountId::OPERATOR, rejected(Reason::RelayDenied, reply::RELAY_DENIED, said))
            }
            (_, Lookup::Unknown) => {
                let said = step("SMTP", "no such address, or a forged token");
                (AccountId::OPERATOR, rejected(Reason::UnknownAddress, reply::UNKNOWN_ADDRESS, said))
            }
        };
        let Answer { outcome, reason, reply, step } = answer;
        let said = outcome.as_str();
        counter!("syncmx_recipients_refused_total", "reason" => reason.as_str()).increment(1);
        let is_guess = matches!(reason, Reason::RelayDenied | Reason::UnknownAddress);
        if Room::Scarce == if is_guess { noting.guesses } else { noting.others } {
            counter!("syncmx_traces_left_out_total").increment(1);
            return Ok(RecipientAnswer::Refused(reply));
        }
        let delivery = DeliveryId::generate();
        let reply = reply.with_trace(delivery);
        let refusal = Refusal {
            delivery,
            account,
            at: Timestamp::now(),
            client: client.clone(),
            mail_from: reverse_path.cloned(),
            rcpt: path_text(path),
            reason,
            outcome,
            reply: reply.clone(),
            size_bytes: 0,
            steps: vec![step],
        };
        self.store.record(vec![refusal]).await?;
        info!(trace.id = %delivery, outcome = said, reason = reason.as_str(), "recipient.refused");
        Ok(RecipientAnswer::Refused(reply))
    }
}

impl Handler for Intake {
    async fn recipient(
        &self,
        client: &Client,
        reverse_path: Option<&EmailAddress>,
        path: &ForwardPath,
        noting: Noting,
    ) -> RecipientAnswer {
        self.look_up(client, reverse_path, path, noting).await.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "store.unavailable");
            RecipientAnswer::Refused(reply::STORE_UNAVAILABLE)
        })
    }

    async fn unserved(&self, client: &Client, unserved: Unserved) -> Reply {
        self.leave_trace(client, &unserved).await.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "store.unavailable");
            unserved.reply
        })
    }

    async fn message(&self, envelope: Envelope, body: Body) -> Reply {
        let span = info_span!("message", recipients = envelope.recipients.len());
        let envelope = Arc::new(envelope);
        async {
            match timeout(FILE_LIMIT, Box::pin(self.file(&envelope, body))).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => {
                    warn!(error = &error as &dyn std::error::Error, "store.unavailable");
                    self.put_off(&envelope, "the store did not take the message").await
                }
                Err(_) => {
                    warn!("filing took too long");
                    self.put_off(&envelope, "judging and filing took too long").await
                }
            }
        }
        .instrument(span)
        .await
    }
}

/// A transaction that ends without a filed message.
#[derive(Clone, Copy)]
struct End<'a> {
    envelope: &'a Envelope,
    /// One for each recipient.
    deliveries: &'a [DeliveryId],
    at: Timestamp,
    size_bytes: u64,
}

/// How it ends.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Reason,
    pub(crate) reply: Reply,
    pub(crate) step: Step,
}

fn announce(delivery: DeliveryId, outcome: Outcome, reason: Reason, size_bytes: u64) {
    let (outcome, reason) = (outcome.as_str(), reason.as_str());
    info!(trace.id = %delivery, outcome, reason, size_bytes, "message.decided");
    counter!("syncmx_messages_total", "outcome" => outcome, "reason" => reason).increment(1);
}

fn note_unread(error: &ExamineError, received: &Received) -> String {
    let size_bytes = received.as_bytes().len();
    error!(error = error as &dyn std::error::Error, size_bytes, "intake.message_not_read");
    counter!("syncmx_messages_not_read_total").increment(1);
    error.to_string()
}

/// What is judged in place of the message, if anything is taken out that only we may write. The limits come first:
/// nothing else reads in a header that is over them.
fn looked_over(received: &Received, hostname: &str, poison: &Poison) -> Result<Option<Vec<u8>>, Answer> {
    may_be_read(received.as_bytes(), poison)?;
    message::check_header(received.as_bytes()).map_err(|limit| too_complex(&limit))?;
    match auth::without_foreign_trace(received.as_bytes(), hostname) {
        Cow::Borrowed(_) => Ok(None),
        Cow::Owned(cleaned) => may_be_read(&cleaned, poison).map(|()| Some(cleaned)),
    }
}

fn may_be_read(octets: &[u8], poison: &Poison) -> Result<(), Answer> {
    match poison.judge(octets) {
        Attempt::Again => Ok(()),
        Attempt::Over => Err(not_read("the reader has failed on it before: it is not tried again")),
    }
}

/// What is stored: our trace fields on top of the message, or of the one inside it.
fn with_trace_fields(trace_fields: &[u8], received: Arc<Received>, inner: Option<Vec<u8>>) -> Bytes {
    match (inner, Arc::try_unwrap(received)) {
        (Some(inner), Ok(received)) => received.replaced_by(inner).with_front(trace_fields),
        (None, Ok(received)) => received.with_front(trace_fields),
        // Somebody still reads it: then, and only then, it is copied.
        (inner, Err(received)) => {
            [trace_fields, inner.as_deref().unwrap_or_else(|| received.as_bytes())].concat().into()
        }
    }
}

fn refusal_of(defect: BodyDefect) -> Answer {
    match defect {
        BodyDefect::BareNewline => rejected(
            Reason::BadSyntax,
            reply::BAD_SYNTAX,
            step("SMTP", "a bare CR or LF inside DATA (RFC 5321 section 2.3.8)"),
        ),
        BodyDefect::Empty => {
            rejected(Reason::BadSyntax, reply::BAD_SYNTAX, step("SMTP", "there is no message"))
        }
        BodyDefect::TooLarge => {
            rejected(Reason::TooLarge, reply::TOO_LARGE, step("SMTP", "the message is over the size limit"))
        }
    }
}

pub(crate) fn too_complex(limit: &TooComplex) -> Answer {
    rejected(Reason::BadSyntax, reply::TOO_COMPLEX, step("SMTP", limit.to_string()))
}

/// What a verdict ends before anybody's rules are asked.
pub(crate) fn refusal_by(verdict: &Verdict) -> Option<Answer> {
    // Row C23.
    let said = "the sender's domain says with a null MX that it takes no mail: nobody writes from it";
    let null_mx = || rejected(Reason::SenderNotAllowed, reply::NULL_MX, step("RFC7505", said));
    verdict.takes_no_mail.then(null_mx)
}

fn postmaster_full() -> Answer {
    let said = "mail to postmaster and abuse has used up its share of the day";
    let answer = rejected(Reason::DailyLimit, reply::DAILY_LIMIT, step("SMTP", said));
    Answer { outcome: Outcome::Deferred, ..answer }
}

fn unreadable() -> Answer {
    unavailable("the temporary file of the message could not be read")
}

fn unavailable(said: &'static str) -> Answer {
    let answer = rejected(Reason::StoreUnavailable, reply::STORE_UNAVAILABLE, step("SMTP", said));
    Answer { outcome: Outcome::Deferred, ..answer }
}

/// Our own trouble, however often it comes: the sender keeps the mail until the reader is mended.
fn not_read(said: impl Into<Cow<'static, str>>) -> Answer {
    Answer { outcome: Outcome::Deferred, ..rejected(Reason::NotRead, reply::NOT_READ, step("MESSAGE", said)) }
}

/// Nothing is filed unseen: the sender keeps the mail until the scanner answers.
fn not_scanned(said: String) -> Answer {
    let answer = rejected(Reason::NotScanned, reply::NOT_SCANNED, step("SCAN", said));
    Answer { outcome: Outcome::Deferred, ..answer }
}

const fn rejected(reason: Reason, reply: Reply, step: Step) -> Answer {
    Answer { outcome: Outcome::Rejected, reason, reply, step }
}

const fn hindrance(cause: Hindrance) -> (Outcome, Reason, &'static str) {
    match cause {
        Hindrance::NeedsSmtputf8 => (
            Outcome::Rejected,
            Reason::BadSyntax,
            "an address with octets beyond ASCII, but MAIL did not say SMTPUTF8 (RFC 6531 section 3.5)",
        ),
        Hindrance::NoRoom => {
            (Outcome::Deferred, Reason::NoRoom, "there was no room for the message, and it is to come again")
        }
        Hindrance::SessionSpent => (
            Outcome::Deferred,
            Reason::SessionLimit,
            "the client had tried out too many addresses, and was closed before it sent the message",
        ),
        Hindrance::TooManyRecipients => (
            Outcome::Deferred,
            Reason::TooManyRecipients,
            "more recipients than one transaction may have: this one is to come in another",
        ),
    }
}

fn path_text(path: &ForwardPath) -> String {
    match path {
        ForwardPath::Address(address) => address.as_str().to_owned(),
        ForwardPath::Postmaster => "postmaster".to_owned(),
    }
}

fn step(rule: &'static str, said: impl Into<Cow<'static, str>>) -> Step {
    Step { rule, said: said.into(), took_us: 0 }
}

/// Below what a session waits, so that there is time left for a trace.
const FILE_LIMIT: Duration = Duration::from_secs(54);
