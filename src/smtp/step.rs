//! What passes between a session and its driver: settings in, steps out.

use std::time::Duration;

use bytes::Bytes;

use crate::smtp::{Envelope, ForwardPath, Unserved};

/// What all sessions of a listener share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name in the banner and in the answer to EHLO.
    pub hostname: String,
    /// The largest message in octets.
    pub max_message_bytes: u64,
    /// Recipients of one transaction.
    pub max_recipients: usize,
    /// How long the next command may take.
    pub command_timeout: Duration,
    /// How long the next block of a message may take.
    pub data_timeout: Duration,
    /// The pause before the answer to each error beyond the first few.
    pub error_pause: Duration,
    /// What is left of any of these waits while the server is busy.
    pub stressed_timeout: Duration,
    /// STARTTLS.
    pub tls: TlsPolicy,
}

/// What is said about STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Offered, and mail is taken without it.
    Offered,
    /// MAIL without it is refused.
    Required,
    /// There is no certificate.
    Unavailable,
}

/// What the driver is to do next.
#[derive(Debug)]
pub enum Step {
    /// Add to the body.
    Append(Bytes),
    /// Ask the handler for the fate of the message, then `Session::answer_message`.
    AskMessage(Box<Envelope>),
    /// Ask the handler, then `Session::answer_recipient`.
    AskRecipient(ForwardPath),
    /// Have the handler leave a trace, then `Session::answer_trace`.
    AskTrace(Box<Unserved>),
    /// Close the connection. Nothing follows.
    Close(CloseReason),
    /// What there is of the body belongs to no message any more: give back what it takes.
    DropBody,
    /// Let this much time pass: the client makes too many mistakes.
    Pause(Duration),
    /// Wait for the client, then `Session::receive`.
    Receive,
    /// Send to the client.
    Send(Bytes),
    /// Begin an empty body; whatever was there before is of no interest any more.
    StartBody,
    /// Do the handshake, then `Session::tls_started`.
    StartTls,
}

/// Why a session was closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The driver did not answer a question.
    Abandoned,
    /// Far more octets than the size limit.
    Flooded,
    /// Too many recipients that do not exist.
    Harvesting,
    /// Commands behind STARTTLS.
    InputBehindStartTls,
    /// HTTP, SSH and the like.
    OtherProtocol,
    /// QUIT.
    Quit,
    /// The handler answered 421.
    Refused,
    /// The server is stopping.
    ShuttingDown,
    /// It spoke before our banner.
    TalkedEarly,
    /// The client was silent, or too slow.
    TimedOut,
    /// More mistakes or idle commands than a session may have.
    TooManyErrors,
    /// More transactions than MAILMAX.
    TooManyMails,
    /// A chunk whose size cannot be read.
    UncountedChunk,
}

/// What the client is in the middle of, as far as deadlines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The octets of a message.
    Body,
    /// A message of which chunks have come; the next command is waited for.
    BetweenChunks,
    /// A transaction of which no octet of the message has come.
    Envelope,
    /// No transaction.
    NoTransaction,
    /// The octets of a chunk that is refused.
    RefusedChunk,
}

/// Whether there is room for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Enough,
    /// MAIL is answered `452 4.3.1`.
    Scarce,
}

/// How busy the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Limits are as RFC 5321 and the settings say.
    Calm,
    /// Nearly all seats are taken: waits and error budgets shrink, so that those who only sit there leave first.
    Stressed,
}
