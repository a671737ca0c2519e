//! R36: a held message that a person files on a contact's record. The person has looked at it, so it is not asked
//! again whether it may be filed; everything else is as for any filing.

use crate::address::Mailbox;
use crate::filing::case::Case;
use crate::filing::decide::duplicate;
use crate::filing::outbound::flag_internal_history;
use crate::filing::{
    Arrival, Decision, Direction, Facts, Filing, FilingContact, Reason, Sender, Trace, notes, thread,
};
use crate::id::{ContactId, ConversationId, UserId};
use crate::message::{From, Kind};

/// What becomes of a held message that a person files on the record of `contact`, who must be among the facts: it is
/// filed, or it is there already. None for a message that no record can take: its author is unreadable.
#[must_use]
pub fn file_held(
    arrival: &Arrival<'_>,
    facts: &Facts,
    held_for: Reason,
    contact: ContactId,
) -> Option<(Decision, Trace)> {
    let From::One(author) = &arrival.email.from else { return None };
    let mut trace = Trace::default();
    if let Some(existing) = duplicate(arrival, facts, &mut trace) {
        return Some((existing, trace));
    }
    let case = Case::new(arrival, facts, author);
    let identity = case.author_identity().map(|identity| identity.user);
    let user = identity
        .or_else(|| facts.reply_conversation.as_ref()?.user)
        .or_else(|| facts.owner.as_ref().map(|owner| owner.user));
    let owner = FilingContact::Existing(contact);
    let mut filing = match vouched_conversation(&case, contact) {
        Some(conversation) => {
            trace.say("R40", "joins the conversation of this contact to which it belongs");
            thread::filing_in(&case, owner, user, conversation)
        }
        None => thread::filing(&case, owner, user, &mut trace),
    };
    let is_forward = thread::is_reported(&case);
    filing.direction =
        if identity.is_some() && !is_forward { Direction::Outbound } else { Direction::Inbound };
    filing.sender = sender(held_for);
    if filing.direction == Direction::Outbound {
        flag_internal_history(&case, &mut filing, &mut trace);
    }
    if is_forward && let Some(original) = &arrival.email.forwarded {
        filing.sent_at = thread::plausible(original.date.or(arrival.email.date), arrival.received_at);
    }
    mark(&case, &mut filing, user.filter(|_| !is_forward), contact, &mut trace);
    notes::say(arrival, &filing, &mut trace);
    Some((Decision::Filed(Box::new(filing)), trace))
}

/// The conversation that the token or a reference names, where it is this contact's but R42 alone would not let the
/// message in: a person has vouched for it.
fn vouched_conversation(case: &Case<'_>, contact: ContactId) -> Option<ConversationId> {
    let reply = case.facts.reply_conversation.as_ref().filter(|known| known.contact == contact);
    if let Some(known) = reply {
        return Some(known.id);
    }
    if thread::known_conversation(case).is_some_and(|(_, known)| known.id == contact) {
        return None;
    }
    let named = case
        .facts
        .references
        .iter()
        .find(|known| known.key.is_reference() && known.conversation.contact == contact);
    named.map(|known| known.conversation.id)
}

/// A person's word files a message; it does not prove who sent it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all others are held for whose record it is, not for who sent it"
)]
const fn sender(held_for: Reason) -> Sender {
    match held_for {
        Reason::UnverifiedSender | Reason::ForwardedUnknown => Sender::Unverified,
        Reason::OtherContact | Reason::ThirdParty => Sender::Unknown,
        _ => Sender::Verified,
    }
}

/// R29, as for mail that is filed at once: put on the sync address by the user, or an answer of the contact to it.
fn mark(case: &Case<'_>, filing: &mut Filing, user: Option<UserId>, contact: ContactId, trace: &mut Trace) {
    let is_from_contact = case.contact_at(&case.author.address).is_some_and(|author| author.id == contact);
    let sets_marks = matches!(case.arrival.mailbox, Mailbox::Sync(_))
        && case.email.kind != Kind::AutoReply
        && (filing.direction == Direction::Outbound || is_from_contact);
    if let Some(user) = user.filter(|user| sets_marks && case.mark(*user, contact).is_none()) {
        trace.say("R29", "later mail between this user and the contact is filed by itself");
        filing.marks.push((user, contact));
    }
}
