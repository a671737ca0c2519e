//! What the directory knows about the people and ids on one message: the input of [`super::decide`].
//!
//! Everything here belongs to one account (R4), and holds at one point in time: the store reads it inside the
//! transaction that writes the outcome.

use std::net::IpAddr;

use crate::address::{EmailAddress, Mailbox};
use crate::auth::Verdict;
use crate::filing::{RelayFacts, Settings, ThreadKey};
use crate::id::{AccountId, ContactId, ConversationId, DeliveryId, MessageId, UserId};
use crate::message::Email;
use crate::time::Timestamp;

/// One message for one of our mailboxes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The mailbox that the recipient address stands for.
    pub mailbox: &'a Mailbox,
    /// What authentication found.
    pub verdict: &'a Verdict,
    /// The message.
    pub email: &'a Email,
    /// The reverse-path; none for `<>`.
    pub reverse_path: Option<&'a EmailAddress>,
    /// The client that brought it (R33).
    pub client_ip: IpAddr,
    /// When it was received.
    pub received_at: Timestamp,
    /// Octets as received.
    pub size_bytes: u64,
    /// Ids for what the decision may have to make.
    pub fresh: FreshIds,
}

/// Ids made ahead, so that deciding needs no randomness.
#[derive(Clone, Copy, Debug)]
pub struct FreshIds {
    /// For a contact that the message creates (R24).
    pub contact: ContactId,
    /// For a new conversation.
    pub conversation: ConversationId,
    /// For the message.
    pub message: MessageId,
}

/// What is known, of this account, about the addresses and ids on the message.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The account.
    pub account: Account,
    /// The user of the sync or auto address, or of the reply conversation; none for a conversation without one.
    pub owner: Option<Owner>,
    /// R13: the domains whose signatures on mail from the From address have been accepted, lower case.
    pub signers: Vec<String>,
    /// Users' addresses among From, To and Cc, verified or not.
    pub identities: Vec<Identity>,
    /// Contacts whose primary email is among From, To and Cc (R22), oldest first (R21); and the contacts of
    /// `reply_conversation` and `references`, whatever their address.
    pub contacts: Vec<Contact>,
    /// Marks between the account's users on this message and those contacts, both states.
    pub marks: Vec<Mark>,
    /// The conversation of the reply token, on a reply mailbox.
    pub reply_conversation: Option<Conversation>,
    /// Known conversations that the message may belong to, in the order of [`super::thread_keys`] (R40).
    pub references: Vec<KnownReference>,
    /// Filed messages of this account with the same Message-ID (R70, R71).
    pub same_message_id: Vec<ExistingMessage>,
    /// Held messages of this account with the same Message-ID (R2, R70).
    pub held_already: Vec<HeldTwin>,
    /// R60: this very message (Message-ID and digest) was on file, and was erased not long ago.
    pub was_erased: bool,
    /// Explicit filings of the owner since midnight UTC (R52).
    pub filed_today: u32,
    /// What the relay knows of `reply_conversation`; none where there is no relay.
    pub relay: Option<RelayFacts>,
}

/// The account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name, as staff know it.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// The domains that we serve: nobody there is ever a contact (R20).
    pub served_domains: Vec<String>,
}

/// The user whose sync or auto address it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// Whether sync is on (R62).
    pub sync_on: bool,
}

/// An address on a user's profile (R10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The address.
    pub address: EmailAddress,
    /// The user.
    pub user: UserId,
    /// Whether it has been proven to be theirs.
    pub verified: bool,
    /// Whether that user has sync on (R62).
    pub sync_on: bool,
}

/// A contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The contact.
    pub id: ContactId,
    /// Their name.
    pub name: String,
    /// The primary email; the alternate ones never match (R22).
    pub email: Option<EmailAddress>,
    /// For R21.
    pub created_at: Timestamp,
}

/// A (user, contact) mark for future sync (R29–R35).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The user.
    pub user: UserId,
    /// The contact.
    pub contact: ContactId,
    /// On; or turned off by that user, which filing does not undo (R29).
    pub on: bool,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The conversation, after merges (R41).
    pub id: ConversationId,
    /// Its contact.
    pub contact: ContactId,
    /// Its user, if it has one.
    pub user: Option<UserId>,
    /// When its last message was sent.
    pub last_at: Timestamp,
}

/// A conversation that the message may belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownReference {
    /// What led to it.
    pub key: ThreadKey,
    /// The conversation it belongs to.
    pub conversation: Conversation,
}

/// A held message with the same Message-ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTwin {
    /// Its delivery.
    pub delivery: DeliveryId,
    /// Its digest (R70).
    pub digest: [u8; 32],
    /// Whom it waits for.
    pub user: Option<UserId>,
}

/// A message of the account with the same Message-ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingMessage {
    /// The message.
    pub id: MessageId,
    /// Its digest (R70).
    pub digest: [u8; 32],
    /// The contact it is filed on.
    pub contact: ContactId,
}
