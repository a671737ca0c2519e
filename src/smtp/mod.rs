//! The SMTP front: socket bytes in, an [`Envelope`] and the raw message out, replies back.
//!
//! A sans-IO core (`session`, `line`, `command`, `path`, `data`, `reply`) holds every decision of the dialogue;
//! a thin tokio driver owns socket, TLS and timers. What a recipient is and what becomes of a message is asked of
//! a [`Handler`]. Promises: only CRLF . CRLF ends DATA; a `250` after the last byte repeats the handler's answer.

#![warn(clippy::indexing_slicing)]

pub mod command;
pub mod data;
mod driver;
pub mod line;
pub mod listener;
pub mod path;
mod prefix;
pub mod proxy;
pub mod reply;
pub(crate) mod room;
mod sealed_file;
pub mod session;
mod share;
mod spool;
mod step;
mod switch;
mod tally;
mod throttle;
pub mod tls;
mod transaction;

use std::future::Future;
use std::net::IpAddr;

use crate::address::{EmailAddress, Mailbox};
use crate::id::DeliveryId;

pub use spool::{Body, Place, Received};

/// Who is at the other end, as far as the session knows.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's address; behind a trusted proxy the one that the proxy names.
    pub ip: IpAddr,
    /// The EHLO or HELO argument as received, printable ASCII or UTF-8 without controls.
    pub helo: String,
    /// Whether it greeted with EHLO.
    pub is_esmtp: bool,
    /// Protocol and cipher suite, such as `TLSv1.3 TLS13_AES_128_GCM_SHA256`; none in clear.
    pub tls: Option<String>,
}

/// A complete mail transaction (RFC 5321 section 3.3): what stood around the message.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The client.
    pub client: Client,
    /// The reverse-path; none for `<>`.
    pub reverse_path: Option<EmailAddress>,
    /// The recipients that were answered 250, in order, each once.
    pub recipients: Vec<Recipient>,
    /// Whether MAIL carried SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// Whether MAIL carried REQUIRETLS (RFC 8689); only taken inside TLS.
    pub requiretls: bool,
    /// What ended a transaction that was not well-formed; the handler then only records and refuses.
    pub defect: Option<BodyDefect>,
    /// Octets of the message as they came, whether its body was kept or not.
    pub received_octets: u64,
}

/// One accepted recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path as received.
    pub path: ForwardPath,
    /// The mailbox it stands for.
    pub mailbox: Mailbox,
}

/// A forward-path: an address, or `<postmaster>` without a domain (RFC 5321 section 4.1.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    /// A mailbox; source routes are stripped.
    Address(EmailAddress),
    /// `<postmaster>` in any case.
    Postmaster,
}

/// Why the body of a transaction is refused although the dialogue was in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyDefect {
    /// A bare CR or LF inside DATA: `550 5.6.0`.
    BareNewline,
    /// Nothing at all between DATA and the final dot: `550 5.6.0`.
    Empty,
    /// Over the size limit: `552 5.3.4`.
    TooLarge,
}

/// Recipients whose mail goes no further for a cause that the session or its driver found: no question was, or will be,
/// asked about it. R3 wants a trace all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The reverse-path; none for `<>`.
    pub reverse_path: Option<EmailAddress>,
    /// In order; at least one.
    pub recipients: Vec<ForwardPath>,
    /// Why.
    pub cause: Hindrance,
    /// What the client is to be answered, without a trace id.
    pub reply: Reply,
}

/// See [`Unserved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The address has octets beyond ASCII, and MAIL did not say SMTPUTF8 (RFC 6531).
    NeedsSmtputf8,
    /// The disk, or the budget for bodies on their way, has no room.
    NoRoom,
    /// The session, or its network, has used up a budget and is closed.
    SessionSpent,
    /// One more than a transaction may have.
    TooManyRecipients,
}

/// Whether the refusal of a recipient may leave a trace: a network has a budget of each kind, so that a flood of
/// refusals does not fill the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noting {
    /// Where the address is nobody's, or its domain not ours.
    pub guesses: session::Room,
    /// Any other.
    pub others: session::Room,
}

/// What the handler answers to a recipient.
#[derive(Clone, Debug)]
pub enum RecipientAnswer {
    /// `250 2.1.5`.
    Accepted(Mailbox),
    /// The refusal, 4yz or 5yz.
    Refused(Reply),
}

/// A reply: code, enhanced code (RFC 3463), text; the trace id is added where the reply is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// `class.subject.detail`; empty for 220, 354 and the EHLO reply.
    pub enhanced: &'static str,
    /// Printable ASCII, no line breaks, at most 400 octets.
    pub text: std::borrow::Cow<'static, str>,
    /// Shown as ` [trace <id>]`.
    pub trace: Option<DeliveryId>,
}

/// What the SMTP front asks of the rest of the program. Real implementations: the intake, and the recording
/// handler of the session tests.
pub trait Handler: Send + Sync + 'static {
    /// Is this recipient ours? A refusal names its trace, where it may leave one. Answers within 5 seconds.
    fn recipient(
        &self,
        client: &Client,
        reverse_path: Option<&EmailAddress>,
        path: &ForwardPath,
        noting: Noting,
    ) -> impl Future<Output = RecipientAnswer> + Send;

    /// Leaves a trace for recipients that are not served, and names it in the reply. Where it cannot be written, or
    /// none of them is ours, the reply comes back as it is. Answers within 5 seconds.
    fn unserved(&self, client: &Client, unserved: Unserved) -> impl Future<Output = Reply> + Send;

    /// Judges and files a message; the reply is final. Answers within 60 seconds.
    fn message(&self, envelope: Envelope, body: Body) -> impl Future<Output = Reply> + Send;
}
