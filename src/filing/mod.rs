//! What happens to a message: Mailbox + Verdict + Email + Facts → [`Decision`] with its trace.
//!
//! Pure: no clock, no randomness, no I/O; `serve` and `explain` run the same code. Every rule that speaks leaves
//! a [`Step`] with its number of RULES, and reading the steps alone explains the outcome.

mod answer;
mod attachments;
mod case;
mod decide;
mod facts;
mod history;
mod journal;
mod keys;
mod notes;
mod outbound;
mod outcome;
mod relay;
mod review;
mod routed;
#[cfg(test)]
mod rules;
mod senders;
mod settings;
mod thread;
mod told;
mod trace;

pub use answer::answer;
pub use attachments::{Skipped, skipped};
pub use decide::decide;
pub use facts::{
    Account, Arrival, Contact, Conversation, ExistingMessage, Facts, FreshIds, HeldTwin, Identity,
    KnownReference, Mark, Owner,
};
pub use history::quoted_addresses;
pub use keys::{ThreadKey, base_subject, remembered_keys, thread_keys};
pub use outcome::{
    Decision, Direction, Filing, FilingContact, Held, INTERNAL_HISTORY, Outcome, Participant, Reason, Role,
    Sender, Thread,
};
pub use relay::{MAX_RELAYED_AN_HOUR, Relay, RelayFacts, relay, seen_by};
pub use review::file_held;
pub use settings::{
    AttachmentLimits, AttachmentPolicy, AttachmentPreset, ForwardReplies, ForwardWord, JournalSource,
    Settings, UnknownTo,
};
pub use thread::derived_message_id;
pub use told::{tell_message, tell_verdict};
pub use trace::{Step, Trace, domains_of, without_names};
