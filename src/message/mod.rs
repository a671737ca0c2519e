//! Raw bytes → [`Email`]: who, when, what thread, which words are new, which attachments.
//!
//! Pure, and the only module that knows mail-parser. Odd MIME is data, never an error: what is wrong is said in
//! [`Email::problems`]. The one refusal is [`TooComplex`], found before the parser runs, for messages built to
//! exhaust it.

mod addresses;
mod attachment;
mod attribution;
mod body;
mod bounce_words;
mod charset;
mod confirmation;
mod date;
mod date_words;
mod digest;
mod encode;
mod encoded_word;
mod entities;
mod fields;
mod file_type;
mod flowed;
mod forwarded;
mod hide;
mod html;
mod html_tags;
mod ids;
mod journal;
mod kind;
mod label_words;
mod labels;
mod limits;
mod lines;
mod marks;
mod meeting;
mod params;
mod parse;
mod plain_bounce;
mod protection;
mod quoted_header;
mod remote;
mod reply_text;
mod report;
mod scan;
mod ses_report;
mod text;
mod tnef;
mod transfer;

pub use confirmation::{Confirmation, confirmation};
pub use encode::base64;
pub use file_type::extension;
pub use hide::{CannotHide, content_without};
pub use journal::open_journal;
pub use limits::check_header;
pub(crate) use limits::{MAX_SIGNATURES, MAX_SIGNED_NAMES};
use parse::open_attachment as attachment_of;
pub use parse::{author, html, open_attachment, parse};
pub use text::Text;

use crate::address::{EmailAddress, NamedAddress};
use crate::time::Timestamp;

/// A message as the rest of the program sees it. Text is valid UTF-8 without NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of the message; none is a state")]
pub struct Email {
    /// The author, by the strict reading of R10.
    pub from: From,
    /// To, in header order, groups flattened, unparsable entries left out (and named in `problems`).
    pub to: Vec<NamedAddress>,
    /// Cc, likewise.
    pub cc: Vec<NamedAddress>,
    /// Reply-To, likewise.
    pub reply_to: Vec<NamedAddress>,
    /// The decoded Subject; empty if there is none.
    pub subject: String,
    /// The Date field, if it can be read; not yet checked for being plausible.
    pub date: Option<Timestamp>,
    /// Message-ID without angle brackets; none if there is none (R43 derives one then).
    pub message_id_header: Option<String>,
    /// In-Reply-To without angle brackets, in header order.
    pub in_reply_to: Vec<String>,
    /// References without angle brackets, oldest first, the newest [`MAX_REFERENCES`].
    pub references: Vec<String>,
    /// Outlook's Thread-Index as received (R40).
    pub thread_index: Option<String>,
    /// The whole text: the text part, or what the HTML part says.
    pub text: Text,
    /// `text` in its three parts.
    pub reply: ReplyText,
    /// Whether there is an HTML part.
    pub has_html: bool,
    /// SMTP.md M15: what its HTML would load from elsewhere if it were shown as it is. Nothing is.
    pub remote_content: usize,
    /// In the order of the parts; `n` counts from 0.
    pub attachments: Vec<Attachment>,
    /// What sort of message it is (R50–R53).
    pub kind: Kind,
    /// The message that was forwarded by hand, if this is a forward (R28).
    pub forwarded: Option<Forwarded>,
    /// Who reported it, if it was taken out of a journal report (R33).
    pub journal: Option<Journal>,
    /// The delivery or feedback report, if this is one (R51).
    pub report: Option<Report>,
    /// The meeting of a `text/calendar` part (R55).
    pub meeting: Option<Meeting>,
    /// Whether a mailing list handled it (List-Id, List-Post and the like; R13).
    pub is_list: bool,
    /// Whether it is bulk mail (Precedence bulk or list, List-Id, List-Unsubscribe; R53).
    pub is_bulk: bool,
    /// The number of Received fields.
    pub received_fields: usize,
    /// What S/MIME or PGP did to it (R57).
    pub protection: Protection,
    /// SMTP.md M2: fields that may stand once and stand several times. The last of each is the one read.
    pub repeated_fields: Vec<&'static str>,
    /// SMTP.md M2: the one of them that says how the message is to be read: readers may take different ones.
    pub doubled_frame: Option<&'static str>,
    /// SMTP.md M6: whether the body looks as its Content-Type says.
    pub frame: Frame,
    /// Whether it carries our own loop header `X-Syncmx-Loop`.
    pub has_loop_header: bool,
    /// SHA-256 over normalised From, Date, Subject and body text (R70).
    pub digest: [u8; 32],
    /// What was found odd, in words for a person.
    pub problems: Vec<String>,
}

/// What S/MIME or PGP did to a message or a part of it. Nothing is decrypted or verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Something in it can be read by the holder of a key alone.
    pub is_encrypted: bool,
    /// It carries a signature of its author.
    pub is_signed: bool,
}

/// Whether the body of a message has the frame that its Content-Type promises. Whoever replaces an unsigned
/// Content-Type cannot change the body with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Parts where there should be none, or text before the first of them.
    Odd,
    /// As promised.
    Plain,
}

/// R10: exactly one From field with one clean address, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// The reason in a few words, for the trace.
    Bad(&'static str),
    /// The author.
    One(NamedAddress),
}

impl From {
    /// The address, if there is exactly one clean one.
    #[must_use]
    pub const fn address(&self) -> Option<&EmailAddress> {
        match self {
            Self::Bad(_) => None,
            Self::One(author) => Some(&author.address),
        }
    }
}

/// The text of a message, told apart. `new_text`, `quoted` and `signature` together hold every word of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyText {
    /// What the author wrote now.
    pub new_text: Text,
    /// The history below (or around) it, attribution line included.
    pub quoted: Option<String>,
    /// The signature or mobile footer.
    pub signature: Option<String>,
}

/// One attachment: a decoded part of the raw message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its number, from 0, which [`open_attachment`] takes.
    pub n: usize,
    /// The cleaned file name (no path, no control characters, at most 255 octets); made from the type if absent.
    pub filename: String,
    /// R57: the type that the content proves, else the declared one; lower case, without parameters.
    pub content_type: String,
    /// Octets after decoding.
    pub size: u64,
    /// SHA-256 of the decoded octets.
    pub sha256: [u8; 32],
    /// Whether it is shown inside the HTML (Content-Disposition inline, or a Content-ID).
    pub inline: bool,
    /// Content-ID without angle brackets.
    pub content_id: Option<String>,
    /// The usual extension of what the content proves it to be.
    pub detected: Option<&'static str>,
    /// Whether the content is a program, whatever its name.
    pub is_program: bool,
    /// In words, where name or declared type contradict the content (R57).
    pub mismatch: Option<String>,
}

/// What sort of message (R28, R50, R51).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An out-of-office note or other automatic answer.
    AutoReply,
    /// A delivery status notification or its like.
    Bounce,
    /// A feedback report.
    Complaint,
    /// Forwarded by hand.
    Forwarded,
    /// Anything else: a person wrote it.
    Mail,
}

impl Kind {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AutoReply => "auto_reply",
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
            Self::Forwarded => "forwarded",
            Self::Mail => "mail",
        }
    }
}

/// The original of a message that was forwarded by hand (R28).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The original author.
    pub from: Option<NamedAddress>,
    /// The original To.
    pub to: Vec<NamedAddress>,
    /// The original Cc.
    pub cc: Vec<NamedAddress>,
    /// The original Subject.
    pub subject: Option<String>,
    /// The original Date.
    pub date: Option<Timestamp>,
    /// The original text.
    pub text: String,
    /// The number of the `message/rfc822` attachment that holds it whole; none if it stands inline.
    pub attachment: Option<usize>,
}

/// The journal report that a message was taken out of (R33). Authentication judged the reporter, not the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The author of the report.
    pub reporter: From,
}

/// A bounce or complaint in machine-readable form (R51).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One entry for each recipient that the report speaks of.
    pub recipients: Vec<ReportedRecipient>,
    /// The Message-ID of the returned message, without angle brackets.
    pub original_message_id: Option<String>,
}

/// What a report says of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedRecipient {
    /// The recipient.
    pub address: String,
    /// `failed`, `delayed`, … (RFC 3464 section 2.3.3).
    pub action: String,
    /// The enhanced status code, such as `5.1.1`.
    pub status: Option<String>,
    /// The diagnostic text.
    pub reason: Option<String>,
}

/// What a calendar part says (R55).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// METHOD (RFC 5546): an invitation, an answer, a cancellation, …
    pub method: Method,
    /// SUMMARY.
    pub title: String,
    /// DTSTART.
    pub start: Option<Timestamp>,
    /// DTEND.
    pub end: Option<Timestamp>,
    /// ORGANIZER, its address.
    pub organiser: Option<String>,
    /// A link to Zoom, Meet or Teams.
    pub join_url: Option<String>,
}

/// What a calendar part wants (RFC 5546 section 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Further instances.
    Add,
    /// Called off.
    Cancel,
    /// An attendee proposes another time.
    Counter,
    /// The organiser declines that.
    DeclineCounter,
    /// For information; also where nothing is said.
    Publish,
    /// An attendee asks for the latest version.
    Refresh,
    /// An attendee answers.
    Reply,
    /// An invitation or its change.
    Request,
}

impl Method {
    /// The word of RFC 5546.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Cancel => "CANCEL",
            Self::Counter => "COUNTER",
            Self::DeclineCounter => "DECLINECOUNTER",
            Self::Publish => "PUBLISH",
            Self::Refresh => "REFRESH",
            Self::Reply => "REPLY",
            Self::Request => "REQUEST",
        }
    }
}

/// A message that breaks a structural limit: answered `554 5.6.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message over the limit of {limit} {what}")]
pub struct TooComplex {
    /// What there is too much of.
    pub what: &'static str,
    /// The limit.
    pub limit: usize,
}

/// References beyond this many, counted from the newest, are not looked at.
pub const MAX_REFERENCES: usize = 100;
