//! Outcomes as values: what is to be written, and what is to be answered.

use crate::address::EmailAddress;
use crate::filing::Skipped;
use crate::id::{ContactId, ConversationId, MessageId, UserId};
use crate::message::Kind;
use crate::time::Timestamp;

/// What becomes of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Not decided for now; the sender retries. Nothing is kept but the trace.
    Deferred(Reason),
    /// Knowingly not kept (R5).
    Discarded(Reason),
    /// Already on the record (R70).
    Duplicate(MessageId),
    /// Goes on a record.
    Filed(Box<Filing>),
    /// Kept sealed, waiting for a person (R36).
    Held(Held),
    /// Refused with a 5yz reply. Nothing is kept but the trace.
    Rejected(Reason),
}

/// What is to be written for a filed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filing {
    /// The record owner: the one contact whose record it goes on.
    pub contact: FilingContact,
    /// The user on the practice's side, if there is one.
    pub user: Option<UserId>,
    /// The conversation.
    pub thread: Thread,
    /// Outbound: written by the practice. Inbound: by the contact or somebody else.
    pub direction: Direction,
    /// What sort of message it is on the record: a forward to a contact is an ordinary sent mail (R28).
    pub kind: Kind,
    /// How far the sender is known (R45–R48).
    pub sender: Sender,
    /// Everybody on the message in order From, To, Cc (R25). At most one entry per role and address.
    pub participants: Vec<Participant>,
    /// Marks that this filing sets (R29, R32).
    pub marks: Vec<(UserId, ContactId)>,
    /// Message-ID without angle brackets, derived if the message has none (R43).
    pub message_id_header: String,
    /// When it was sent: Date if plausible, else the time of receipt; never after it.
    pub sent_at: Timestamp,
    /// Flags for the reader, such as `message_id_reused`.
    pub flags: Vec<&'static str>,
    /// Younger conversations of the same contact that turned out to be this one (R41).
    pub merges: Vec<ConversationId>,
    /// Attachments that the record does not take (R56).
    pub skipped: Vec<Skipped>,
}

/// R27a: the flag of a message whose quoted part is shown with scope `review` alone.
pub const INTERNAL_HISTORY: &str = "internal_history";

/// The record owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilingContact {
    /// A new contact, `created_by: sync` (R24).
    Create {
        /// The id it gets.
        id: ContactId,
        /// From the display name, else the address.
        name: String,
        /// The primary email.
        email: EmailAddress,
    },
    /// A contact on file.
    Existing(ContactId),
}

impl FilingContact {
    /// The id, whether new or not.
    #[must_use]
    pub const fn id(&self) -> ContactId {
        match self {
            Self::Create { id, .. } | Self::Existing(id) => *id,
        }
    }
}

/// The conversation of a filed message (R40).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// One on file.
    Existing(ConversationId),
    /// A new one.
    New(ConversationId),
}

impl Thread {
    /// The id, whether new or not.
    #[must_use]
    pub const fn id(self) -> ConversationId {
        match self {
            Self::Existing(id) | Self::New(id) => id,
        }
    }
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the contact, or somebody beside them.
    Inbound,
    /// From the practice.
    Outbound,
}

/// How far the sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Somebody else, aligned (R47).
    Unknown,
    /// The contact by address, but not proven (R48).
    Unverified,
    /// Proven by authentication.
    Verified,
}

/// One person on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// From, To or Cc.
    pub role: Role,
    /// The display name.
    pub name: Option<String>,
    /// The address.
    pub address: EmailAddress,
    /// The eligible contact with this primary email, or the record owner.
    pub contact: Option<ContactId>,
    /// The user with this identity.
    pub user: Option<UserId>,
}

/// The field a participant stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The record owner where no field names them (R28, R47, R51): they see it, but are not listed on it.
    About,
    /// Cc.
    Cc,
    /// From.
    From,
    /// To.
    To,
}

/// What is to be kept of a held message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Why it is held.
    pub reason: Reason,
    /// The same in one sentence for the review queue.
    pub why: String,
    /// The user it waits for, if one.
    pub user: Option<UserId>,
    /// The contact it would go to, if one.
    pub contact: Option<ContactId>,
    /// When it is erased (R36).
    pub expires_at: Timestamp,
}

/// The word of the API for what became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// See [`Decision::Deferred`].
    Deferred,
    /// See [`Decision::Discarded`].
    Discarded,
    /// See [`Decision::Duplicate`].
    Duplicate,
    /// See [`Decision::Filed`].
    Filed,
    /// See [`Decision::Held`].
    Held,
    /// See [`Decision::Rejected`].
    Rejected,
}

impl Decision {
    /// The outcome.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Deferred(_) => Outcome::Deferred,
            Self::Discarded(_) => Outcome::Discarded,
            Self::Duplicate(_) => Outcome::Duplicate,
            Self::Filed(_) => Outcome::Filed,
            Self::Held(_) => Outcome::Held,
            Self::Rejected(_) => Outcome::Rejected,
        }
    }

    /// The stable reason code.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Deferred(reason) | Self::Discarded(reason) | Self::Rejected(reason) => *reason,
            Self::Duplicate(_) => Reason::Duplicate,
            Self::Filed(_) => Reason::Filed,
            Self::Held(held) => held.reason,
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }
        words!(@fns $name { $($variant = $word,)+ });
    };
    (@fns $name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl $name {
            /// The stable word of API and store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }
    };
}

words!(@fns Outcome {
    Deferred = "deferred", Discarded = "discarded", Duplicate = "duplicate", Filed = "filed", Held = "held",
    Rejected = "rejected",
});
words!(@fns Direction { Inbound = "inbound", Outbound = "outbound", });
words!(@fns Sender { Unknown = "unknown", Unverified = "unverified", Verified = "verified", });
words!(@fns Role { About = "about", Cc = "cc", From = "from", To = "to", });

words! {
    /// The stable reason codes of RULES, and `postmaster` for mail to the operator.
    Reason {
        /// R62: the address was rotated away, the user disconnected, or the reply address revoked.
        AddressOff = "address_off",
        /// R10.
        BadFrom = "bad_from",
        /// The message or its dialogue breaks the syntax.
        BadSyntax = "bad_syntax",
        /// R53.
        Bulk = "bulk",
        /// R27.
        ContactOnlyInCc = "contact_only_in_cc",
        /// R52.
        DailyLimit = "daily_limit",
        /// R13.
        DmarcReject = "dmarc_reject",
        /// R70.
        Duplicate = "duplicate",
        /// Filed.
        Filed = "filed",
        /// R28.
        ForwardedUnknown = "forwarded_unknown",
        /// R34.
        ForwardingConfirmation = "forwarding_confirmation",
        /// R26.
        InternalOnly = "internal_only",
        /// R14.
        LookupFailed = "lookup_failed",
        /// Too many Received fields, or our own loop header.
        Loop = "loop",
        /// The scanner found malware.
        Malware = "malware",
        /// R71.
        MessageIdReused = "message_id_reused",
        /// R20.
        NeverLog = "never_log",
        /// R12.
        NewIdentity = "new_identity",
        /// There was no room for the message, on the disk or in the budget for bodies; it is to come again.
        NoRoom = "no_room",
        /// R31, R32.
        NotMarked = "not_marked",
        /// Our reader failed on the message; it is to come again when that is mended.
        NotRead = "not_read",
        /// The malware scanner did not answer; it is to come again.
        NotScanned = "not_scanned",
        /// R47.
        OtherContact = "other_contact",
        /// Mail to postmaster or abuse: kept sealed for the operator (RFC 5321 section 4.5.1).
        Postmaster = "postmaster",
        /// R54.
        PrivateMarker = "private_marker",
        /// The domain is not served.
        RelayDenied = "relay_denied",
        /// R15.
        SenderNotAllowed = "sender_not_allowed",
        /// The session was closed for what it did beside this mail; it is to come again.
        SessionLimit = "session_limit",
        /// The store could not be reached in time.
        StoreUnavailable = "store_unavailable",
        /// R32, R29: that user turned the contact off.
        SyncOff = "sync_off",
        /// R15.
        ThirdParty = "third_party",
        /// Over the size limit.
        TooLarge = "too_large",
        /// More recipients than one transaction may have; this one is to come in another.
        TooManyRecipients = "too_many_recipients",
        /// No such address.
        UnknownAddress = "unknown_address",
        /// R24.
        UnknownContact = "unknown_contact",
        /// R13, R47, R48.
        UnverifiedSender = "unverified_sender",
    }
}
