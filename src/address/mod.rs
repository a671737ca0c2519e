//! From a RCPT path to one of our mailboxes: sync, auto, reply, postmaster, or a refusal.
//!
//! Pure: what needs the store (is this sync address in use, and whose is it) is asked by the caller with the
//! parts that [`ServedDomains::classify`] found. Local parts compare case-insensitively everywhere.

mod email_address;
mod served;
pub mod sync;
pub mod token;

pub use email_address::{EmailAddress, NamedAddress};
pub use served::{Asked, ServedDomains};

use crate::id::{AccountId, ConversationId, UserId};

/// A mailbox of ours: what a recipient address stands for once the store has been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mailbox {
    /// `<prefix>-<secret>+auto@<sync domain>`: the target of a forwarding filter or a journal rule (R30–R33).
    Auto(UserMailbox),
    /// `postmaster@` or `abuse@` a served domain (RFC 5321 section 4.5.1, RFC 2142).
    Postmaster,
    /// `r-<token>@<reply domain>`: one conversation (R45–R48).
    Reply(ReplyMailbox),
    /// `<prefix>-<secret>@<sync domain>`: one user's sync address (R20–R32).
    Sync(UserMailbox),
}

/// Whose sync or auto address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserMailbox {
    /// The account of that user. Only the envelope recipient picks it (R39).
    pub account: AccountId,
    /// The user.
    pub user: UserId,
}

/// Which conversation a reply address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyMailbox {
    /// The account of that conversation.
    pub account: AccountId,
    /// The conversation that the token names.
    pub conversation: ConversationId,
}

impl Mailbox {
    /// The account that mail to this mailbox belongs to; the operator's for postmaster mail.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        match self {
            Self::Auto(of) | Self::Sync(of) => of.account,
            Self::Postmaster => AccountId::OPERATOR,
            Self::Reply(of) => of.account,
        }
    }
}
