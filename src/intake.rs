//! The page to read first: what happens to a message between the last byte of DATA and the reply.
//!
//! verdict → email → facts → decide → commit → answer. Promises: the `250` repeats what is on disk (R2); every
//! recipient of every transaction leaves a delivery that explains its outcome (R3); our own trouble is 4yz, never a
//! bounce. The facts are read and the decision is made inside the store's transaction, so that two messages at
//! once cannot miss each other.

use std::borrow::Cow;
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use metrics::counter;
use tracing::{Instrument, error, info, info_span, warn};

use crate::address::{Asked, EmailAddress, ServedDomains};
use crate::auth::{self, Authenticator, Original, Subject, Verdict};
use crate::filing::{Outcome, Reason, Step, tell_message, tell_verdict};
use crate::id::{AccountId, DeliveryId};
use crate::message::{self, Email, TooComplex};
use crate::smtp::{Body, BodyDefect, Client, Envelope, ForwardPath, Handler, RecipientAnswer, Reply, reply};
use crate::store::{Lookup, Refusal, Store, StoreError, Submission};
use crate::time::Timestamp;

/// Judges and files what the SMTP front receives.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    authenticator: Authenticator,
    served: ServedDomains,
    hostname: String,
}

/// What a message says and how far it is proven: the same for `serve`, `explain` and `inspect`.
pub struct Examined {
    /// The parsed message.
    pub email: Email,
    /// What authentication found.
    pub verdict: Verdict,
    /// R33: the octets of the message, where it was taken out of a journal report.
    pub inner: Option<Bytes>,
    /// What SMTP and authentication have to say in the trace.
    pub steps: Vec<Step>,
}

impl Intake {
    /// With the parts it leads through.
    #[must_use]
    pub const fn new(
        store: Store,
        authenticator: Authenticator,
        served: ServedDomains,
        hostname: String,
    ) -> Self {
        Self { store, authenticator, served, hostname }
    }

    async fn file(&self, envelope: Envelope, body: Body) -> Result<Reply, StoreError> {
        let received_at = Timestamp::now();
        let deliveries: Vec<DeliveryId> =
            envelope.recipients.iter().map(|_| DeliveryId::generate()).collect();
        if let Some(defect) = envelope.defect {
            return self
                .refuse(&envelope, &deliveries, received_at, envelope.received_octets, refusal_of(defect))
                .await;
        }
        let size_bytes = size_of(&body);
        let received = match read(body).await {
            Ok(received) => received,
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "intake.body_unreadable");
                return Ok(reply::STORE_UNAVAILABLE);
            }
        };
        let subject = SubjectParts::of(&envelope);
        let received = without_foreign_trace(received, &self.hostname);
        let (examined, takes_no_mail) =
            tokio::join!(examine(&self.authenticator, &subject, &received), self.has_null_mx(&envelope));
        let examined = match examined {
            Ok(_) if takes_no_mail => {
                return self.refuse(&envelope, &deliveries, received_at, size_bytes, null_mx()).await;
            }
            Ok(examined) => examined,
            Err(limit) => {
                let refused = (Reason::BadSyntax, reply::TOO_COMPLEX, step("SMTP", limit.to_string()));
                return self.refuse(&envelope, &deliveries, received_at, size_bytes, refused).await;
            }
        };
        let Some(first) = deliveries.first().copied() else { return Ok(reply::STORE_UNAVAILABLE) };
        let trace_fields =
            auth::trace_fields(&envelope, &examined.verdict, &self.hostname, first, received_at);
        let submission = Submission {
            received_at,
            raw: with_trace_fields(trace_fields, examined.inner.as_ref().unwrap_or(&received)),
            envelope: Arc::new(envelope),
            verdict: Arc::new(examined.verdict),
            email: Arc::new(examined.email),
            size_bytes,
            deliveries,
            steps: examined.steps,
        };
        let filed = self.store.file(submission).await?;
        for (delivery, decision) in &filed.decided {
            announce(*delivery, decision.outcome(), decision.reason(), size_bytes);
        }
        Ok(filed.reply)
    }

    /// Row C23. A look-up that fails for now proves nothing: filing decides by what else is known.
    async fn has_null_mx(&self, envelope: &Envelope) -> bool {
        match &envelope.reverse_path {
            Some(sender) => self.authenticator.has_null_mx(sender.domain()).await.unwrap_or(false),
            None => false,
        }
    }

    /// Refuses a whole transaction before there is a message to judge.
    async fn refuse(
        &self,
        envelope: &Envelope,
        deliveries: &[DeliveryId],
        at: Timestamp,
        size_bytes: u64,
        (reason, reply, step): (Reason, Reply, Step),
    ) -> Result<Reply, StoreError> {
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
            outcome: Outcome::Rejected,
            reply: reply.clone(),
            size_bytes,
            steps: vec![step.clone()],
        });
        self.store.record(refusals.collect()).await?;
        announce(*first, Outcome::Rejected, reason, size_bytes);
        Ok(reply)
    }

    /// A recipient: ours, or refused with a delivery that says why.
    async fn look_up(
        &self,
        client: &Client,
        reverse_path: Option<&EmailAddress>,
        path: &ForwardPath,
    ) -> Result<RecipientAnswer, StoreError> {
        let asked = self.served.classify(path);
        let (account, reason, reply, said) = match (&asked, self.store.mailbox(&asked).await?) {
            (_, Lookup::Found(mailbox)) => return Ok(RecipientAnswer::Accepted(mailbox)),
            (_, Lookup::Off(account)) => (
                account,
                Reason::AddressOff,
                reply::ADDRESS_OFF,
                "the address was rotated away, disconnected or revoked",
            ),
            (Asked::Foreign, Lookup::Unknown) => (
                AccountId::OPERATOR,
                Reason::RelayDenied,
                reply::RELAY_DENIED,
                "the domain of the recipient is not served here",
            ),
            (_, Lookup::Unknown) => (
                AccountId::OPERATOR,
                Reason::UnknownAddress,
                reply::UNKNOWN_ADDRESS,
                "no such address, or a forged token",
            ),
        };
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
            outcome: Outcome::Rejected,
            reply: reply.clone(),
            size_bytes: 0,
            steps: vec![step("SMTP", said)],
        };
        self.store.record(vec![refusal]).await?;
        info!(trace.id = %delivery, outcome = "rejected", reason = reason.as_str(), "recipient.refused");
        counter!("syncmx_recipients_refused_total", "reason" => reason.as_str()).increment(1);
        Ok(RecipientAnswer::Refused(reply))
    }
}

impl Handler for Intake {
    async fn recipient(
        &self,
        client: &Client,
        reverse_path: Option<&EmailAddress>,
        path: &ForwardPath,
    ) -> RecipientAnswer {
        self.look_up(client, reverse_path, path).await.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "store.unavailable");
            RecipientAnswer::Refused(reply::STORE_UNAVAILABLE)
        })
    }

    async fn message(&self, envelope: Envelope, body: Body) -> Reply {
        let span = info_span!("message", recipients = envelope.recipients.len());
        self.file(envelope, body).instrument(span).await.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "store.unavailable");
            reply::STORE_UNAVAILABLE
        })
    }
}

/// Parses and authenticates one message.
///
/// # Errors
/// If the message breaks a structural limit.
pub async fn examine(
    authenticator: &Authenticator,
    subject: &SubjectParts,
    raw: &Bytes,
) -> Result<Examined, TooComplex> {
    let started = Instant::now();
    let opening = raw.clone();
    let (email, journaled, original) = where_it_fits(raw.len(), move || open(&opening)).await?;
    let parsed = started.elapsed();
    // R33: of a journal report it is the reporter who is judged.
    let verdict = authenticator.verify(subject.with_author(&email, original.as_ref()), raw).await;
    let (email, inner) = match journaled {
        Some((inner, octets)) => (inner, Some(Bytes::from(octets))),
        None => (email, None),
    };
    let steps = vec![
        timed("MESSAGE", tell_message(&email), parsed),
        timed("AUTH", tell_verdict(&verdict), started.elapsed() - parsed),
    ];
    Ok(Examined { email, verdict, inner, steps })
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
}

impl SubjectParts {
    fn of(envelope: &Envelope) -> Self {
        Self {
            client_ip: envelope.client.ip,
            helo: envelope.client.helo.clone(),
            mail_from: envelope.reverse_path.clone(),
        }
    }

    fn with_author<'a>(
        &'a self,
        email: &'a Email,
        original: Option<&'a (Vec<u8>, EmailAddress)>,
    ) -> Subject<'a> {
        Subject {
            client_ip: self.client_ip,
            helo: &self.helo,
            mail_from: self.mail_from.as_ref(),
            from: email.from.address(),
            original: original.map(|(raw, from)| Original { raw, from }),
        }
    }
}

/// R28: the attached original, and its one author as the message itself says (not the mail that carries it).
fn original_of(email: &Email, raw: &[u8]) -> Option<(Vec<u8>, EmailAddress)> {
    let forwarded = email.forwarded.as_ref()?;
    let octets = message::open_attachment(raw, forwarded.attachment?)?;
    let author = message::author(&octets)?;
    let is_the_same = forwarded.from.as_ref().is_some_and(|from| from.address == author);
    is_the_same.then_some((octets, author))
}

/// A message with those inside it that matter: what a journal reports (R33), what was forwarded whole (R28).
type Opened = (Email, Option<(Email, Vec<u8>)>, Option<(Vec<u8>, EmailAddress)>);

fn open(raw: &[u8]) -> Result<Opened, TooComplex> {
    let email = message::parse(raw)?;
    let journaled = message::open_journal(raw, &email)?;
    let original = original_of(&email, raw);
    Ok((email, journaled, original))
}

/// Large messages are read where they cannot keep other sessions waiting.
async fn where_it_fits<T: Send + 'static>(octets: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if octets <= PARSE_IN_PLACE_OCTETS {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

fn announce(delivery: DeliveryId, outcome: Outcome, reason: Reason, size_bytes: u64) {
    let (outcome, reason) = (outcome.as_str(), reason.as_str());
    info!(trace.id = %delivery, outcome, reason, size_bytes, "message.decided");
    counter!("syncmx_messages_total", "outcome" => outcome, "reason" => reason).increment(1);
}

async fn read(body: Body) -> std::io::Result<Bytes> {
    match body {
        Body::Memory(bytes) => Ok(Bytes::from(bytes)),
        Body::File { mut file, size_bytes } => tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
            Ok(Bytes::from(bytes))
        })
        .await
        .map_err(std::io::Error::other)?,
    }
}

fn without_foreign_trace(received: Bytes, hostname: &str) -> Bytes {
    match auth::without_foreign_trace(&received, hostname) {
        Cow::Borrowed(_) => received,
        Cow::Owned(cleaned) => Bytes::from(cleaned),
    }
}

fn with_trace_fields(mut trace_fields: Vec<u8>, received: &[u8]) -> Bytes {
    trace_fields.extend_from_slice(received);
    Bytes::from(trace_fields)
}

const fn size_of(body: &Body) -> u64 {
    match body {
        Body::File { size_bytes, .. } => *size_bytes,
        Body::Memory(bytes) => bytes.len() as u64,
    }
}

fn refusal_of(defect: BodyDefect) -> (Reason, Reply, Step) {
    match defect {
        BodyDefect::BareNewline => (
            Reason::BadSyntax,
            reply::BAD_SYNTAX,
            step("SMTP", "a bare CR or LF inside DATA (RFC 5321 section 2.3.8)"),
        ),
        BodyDefect::Empty => (Reason::BadSyntax, reply::BAD_SYNTAX, step("SMTP", "there is no message")),
        BodyDefect::TooLarge => {
            (Reason::TooLarge, reply::TOO_LARGE, step("SMTP", "the message is over the size limit"))
        }
    }
}

fn null_mx() -> (Reason, Reply, Step) {
    let said = "the sender's domain says with a null MX that it takes no mail: nobody writes from it";
    (Reason::SenderNotAllowed, reply::NULL_MX, step("RFC7505", said))
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

fn timed(rule: &'static str, said: String, took: std::time::Duration) -> Step {
    Step { rule, said: said.into(), took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) }
}

/// Up to this size parsing takes well under a millisecond.
const PARSE_IN_PLACE_OCTETS: usize = 256 * 1024;
