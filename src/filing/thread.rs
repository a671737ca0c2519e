//! Which conversation (R23, R40, R42, R43), who is on it (R25), and the filing that says so.

use crate::address::NamedAddress;
use crate::filing::case::Case;
use crate::filing::{
    Contact, Direction, Filing, FilingContact, KnownReference, Participant, Role, Sender, Thread, Trace,
};
use crate::id::{ContactId, ConversationId, UserId};
use crate::time::Timestamp;

/// R23, R40, R42: the best known conversation that is referred to and whose contact is on the message.
pub(super) fn known_conversation<'a>(case: &Case<'a>) -> Option<(&'a KnownReference, &'a Contact)> {
    case.facts
        .references
        .iter()
        .filter(|known| case.has_on_it(known.conversation.contact))
        .find_map(|known| Some((known, case.contact(known.conversation.contact)?)))
}

/// R23: says why a reference to a known conversation does not count.
pub(super) fn say_if_forked(case: &Case<'_>, trace: &mut Trace) {
    if !case.facts.references.is_empty() {
        trace.say(
            "R23",
            "it refers to a known conversation whose contact is not on it: a new conversation begins",
        );
    }
}

/// The filing on a contact's record, in the known conversation or a new one. Direction and sender are the
/// caller's to set; they begin as inbound from a verified sender.
pub(super) fn filing(
    case: &Case<'_>,
    contact: FilingContact,
    user: Option<UserId>,
    trace: &mut Trace,
) -> Filing {
    let known = known_conversation(case).filter(|(_, known)| known.id == contact.id());
    let thread = match known {
        Some((reference, _)) => {
            trace.say("R40", format!("joins the conversation of {}", reference.message_id_header));
            Thread::Existing(reference.conversation.id)
        }
        None => {
            trace.say("R40", "begins a new conversation");
            Thread::New(case.arrival.fresh.conversation)
        }
    };
    filing_on(case, contact, user, thread)
}

/// The filing in a given conversation (reply token, report).
pub(super) fn filing_in(
    case: &Case<'_>,
    contact: FilingContact,
    user: Option<UserId>,
    conversation: ConversationId,
) -> Filing {
    filing_on(case, contact, user, Thread::Existing(conversation))
}

fn filing_on(case: &Case<'_>, contact: FilingContact, user: Option<UserId>, thread: Thread) -> Filing {
    let participants = participants(case, &contact);
    let mut flags = Vec::new();
    if !case.facts.same_message_id.is_empty() {
        // R71: the digest differs, else it were a duplicate.
        flags.push("message_id_reused");
    }
    Filing {
        contact,
        user,
        thread,
        direction: Direction::Inbound,
        sender: Sender::Verified,
        participants,
        marks: Vec::new(),
        message_id_header: message_id_header(case),
        sent_at: plausible(case.email.date, case.arrival.received_at),
        flags,
        skipped: crate::filing::skipped(&case.email.attachments, &case.facts.account.settings.attachments),
    }
}

/// R25: everybody in From, To and Cc with the contact or user they are.
fn participants(case: &Case<'_>, owner: &FilingContact) -> Vec<Participant> {
    let people = std::iter::once((Role::From, case.author))
        .chain(case.email.to.iter().map(|to| (Role::To, to)))
        .chain(case.email.cc.iter().map(|cc| (Role::Cc, cc)));
    let mut participants: Vec<Participant> = Vec::new();
    for (role, person) in people {
        let is_known = |known: &Participant| known.role == role && known.address == person.address;
        if participants.len() < MAX_PARTICIPANTS && !participants.iter().any(is_known) {
            participants.push(participant(case, owner, role, person));
        }
    }
    participants
}

fn participant(case: &Case<'_>, owner: &FilingContact, role: Role, person: &NamedAddress) -> Participant {
    let user = case.facts.identities.iter().find(|identity| identity.address == person.address);
    Participant {
        role,
        name: person.name.clone(),
        address: person.address.clone(),
        contact: contact_of(case, owner, person),
        user: user.filter(|identity| identity.verified).map(|identity| identity.user),
    }
}

fn contact_of(case: &Case<'_>, owner: &FilingContact, person: &NamedAddress) -> Option<ContactId> {
    match owner {
        FilingContact::Create { id, email, .. } if *email == person.address => Some(*id),
        FilingContact::Create { .. } | FilingContact::Existing(_) => {
            case.eligible_contact_at(&person.address).map(|contact| contact.id)
        }
    }
}

/// R43: no Message-ID → one is derived from the digest (R70), so that a retry finds it.
fn message_id_header(case: &Case<'_>) -> String {
    case.email.message_id_header.clone().unwrap_or_else(|| derived_message_id(&case.email.digest))
}

/// The Message-ID of a message without one (R43).
#[must_use]
pub fn derived_message_id(digest: &[u8; 32]) -> String {
    let hex: String = digest.iter().take(16).map(|octet| format!("{octet:02x}")).collect();
    format!("{hex}@derived.invalid")
}

/// The Date field if it can be true: not after receipt, not before email; else the time of receipt.
pub(super) fn plausible(date: Option<Timestamp>, received_at: Timestamp) -> Timestamp {
    date.filter(|date| *date >= EARLIEST_DATE && *date <= received_at).unwrap_or(received_at)
}

/// 1990-01-01: before that no mail of today was written.
const EARLIEST_DATE: Timestamp = Timestamp::from_millis(631_152_000_000);
/// People beyond this many are not listed on the record; the raw message has them.
const MAX_PARTICIPANTS: usize = 500;
