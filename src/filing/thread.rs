//! Which conversation (R23, R40, R42, R43), who is on it (R25), and the filing that says so.

use crate::address::NamedAddress;
use crate::filing::case::{Case, Standing};
use crate::filing::{
    Contact, Direction, Filing, FilingContact, KnownReference, Participant, Role, Sender, Thread, ThreadKey,
    Trace,
};
use crate::id::{ContactId, ConversationId, UserId};
use crate::message::{Email, Frame, Kind};
use crate::time::Timestamp;

/// R23, R40, R42: the best known conversation that the message belongs to and whose contact is on it.
pub(super) fn known_conversation<'a>(case: &Case<'a>) -> Option<(&'a KnownReference, &'a Contact)> {
    case.facts
        .references
        .iter()
        .filter(|known| may_join(case, known))
        .find_map(|known| Some((known, case.contact(known.conversation.contact)?)))
}

/// R23, R42: the contact is on the message. R40: by subject alone only a recent conversation of the same user.
fn may_join(case: &Case<'_>, known: &KnownReference) -> bool {
    let conversation = &known.conversation;
    let is_recent = conversation.last_at.plus_days(SUBJECT_DAYS) >= case.arrival.received_at;
    let is_plausible = match known.key {
        ThreadKey::Child(_) | ThreadKey::MessageId(_) | ThreadKey::Outlook(_) => true,
        ThreadKey::Subject(_) => {
            is_recent && conversation.user.is_some() && conversation.user == user_of(case)
        }
    };
    is_plausible && case.has_on_it(conversation.contact)
}

/// The user on the practice's side: the author if a user, else whose address it came to.
fn user_of(case: &Case<'_>) -> Option<UserId> {
    let author = case.author_identity().filter(|identity| identity.verified).map(|identity| identity.user);
    author.or(case.facts.owner.as_ref().map(|owner| owner.user))
}

/// R23: says why a reference to a known conversation does not count.
pub(super) fn say_if_forked(case: &Case<'_>, trace: &mut Trace) {
    if case.facts.references.iter().any(|known| known.key.is_reference()) {
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
    let Some((best, _)) = known_conversation(case).filter(|(_, known)| known.id == contact.id()) else {
        trace.say("R40", "begins a new conversation");
        return filing_on(case, contact, user, Thread::New(case.arrival.fresh.conversation));
    };
    trace.say("R40", format!("joins the conversation found by {}", explain(&best.key)));
    let (oldest, merges) = one_conversation(case, best);
    if !merges.is_empty() {
        trace.say("R41", "it shows that conversations of this contact are one: they become the oldest");
    }
    let filing = filing_on(case, contact, user, Thread::Existing(oldest));
    Filing { merges, ..filing }
}

/// R41: every conversation of the same contact that the message belongs to by its ids; the oldest stays.
fn one_conversation(case: &Case<'_>, best: &KnownReference) -> (ConversationId, Vec<ConversationId>) {
    let mut found = vec![best.conversation.id];
    for known in &case.facts.references {
        let is_proof = matches!(known.key, ThreadKey::Child(_) | ThreadKey::MessageId(_));
        if is_proof
            && known.conversation.contact == best.conversation.contact
            && !found.contains(&known.conversation.id)
        {
            found.push(known.conversation.id);
        }
    }
    // Ids are in the order of time.
    found.sort_unstable();
    let oldest = found.remove(0);
    (oldest, found)
}

fn explain(key: &ThreadKey) -> String {
    match key {
        ThreadKey::Child(_) => "a message that refers to it".to_owned(),
        ThreadKey::MessageId(id) => format!("the reference to {id}"),
        ThreadKey::Outlook(_) => "Outlook's Thread-Index".to_owned(),
        ThreadKey::Subject(_) => "a reply's subject".to_owned(),
    }
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
    flags.extend(content_flags(case.email));
    flags.extend(proof_flags(case));
    Filing {
        contact,
        user,
        thread,
        direction: Direction::Inbound,
        kind: if case.email.kind == Kind::Forwarded && !is_reported(case) {
            Kind::Mail
        } else {
            case.email.kind
        },
        sender: proven_sender(case),
        participants,
        marks: Vec::new(),
        message_id_header: message_id_header(case),
        sent_at: plausible(case.email.date, case.arrival.received_at),
        flags,
        merges: Vec::new(),
        skipped: crate::filing::skipped(&case.email.attachments, &case.facts.account.settings.attachments),
    }
}

/// R57: what a reader should know before opening it.
fn content_flags(email: &Email) -> impl Iterator<Item = &'static str> {
    let has_disguise = email.attachments.iter().any(|attachment| attachment.mismatch.is_some());
    [
        ("attachment_type_mismatch", has_disguise),
        ("encrypted", email.protection.is_encrypted),
        ("signed", email.protection.is_signed),
    ]
    .into_iter()
    .filter(|(_, is_so)| *is_so)
    .map(|(flag, _)| flag)
}

/// SMTP.md M2, M3: what the proof of the sender leaves open, and a reader should know.
fn proof_flags(case: &Case<'_>) -> impl Iterator<Item = &'static str> {
    // Most large senders leave Content-Type unsigned; replacing it shows in a body that does not fit.
    let is_open = |field: &str| field != "Content-Type" || case.email.frame == Frame::Odd;
    let has_open = case.arrival.verdict.uncovered.unsigned.iter().any(|field| is_open(field));
    [("dup_headers", !case.email.repeated_fields.is_empty()), ("unsigned_critical", has_open)]
        .into_iter()
        .filter(|(_, is_so)| *is_so)
        .map(|(flag, _)| flag)
}

/// Verified, unless somebody has put fields on top of the signed ones.
pub(super) fn proven_sender(case: &Case<'_>) -> Sender {
    if case.arrival.verdict.uncovered.added.is_empty() { Sender::Verified } else { Sender::Unverified }
}

/// R25: everybody in From, To and Cc with the contact or user they are; of a forwarded message (R28) those of the
/// original. The record owner is always among them.
fn participants(case: &Case<'_>, owner: &FilingContact) -> Vec<Participant> {
    let original = match &case.email.forwarded {
        Some(original) if is_reported(case) => {
            original.from.as_ref().map(|from| (from, &original.to, &original.cc))
        }
        Some(_) | None => None,
    };
    let (from, to, cc) = original.unwrap_or((case.author, &case.email.to, &case.email.cc));
    let people = std::iter::once((Role::From, from))
        .chain(to.iter().map(|to| (Role::To, to)))
        .chain(cc.iter().map(|cc| (Role::Cc, cc)));
    let mut participants: Vec<Participant> = Vec::new();
    for (role, person) in people {
        let is_known = |known: &Participant| known.role == role && known.address == person.address;
        if participants.len() < MAX_PARTICIPANTS && !participants.iter().any(is_known) {
            participants.push(participant(case, owner, role, person));
        }
    }
    if !participants.iter().any(|known| known.contact == Some(owner.id())) {
        participants.extend(owner_aside(case, owner));
    }
    participants
}

/// The record owner of a message on which no field names them.
fn owner_aside(case: &Case<'_>, owner: &FilingContact) -> Option<Participant> {
    let contact = case.contact(owner.id())?;
    let address = contact.email.clone()?;
    Some(Participant {
        role: Role::About,
        name: Some(contact.name.clone()),
        address,
        contact: Some(contact.id),
        user: None,
    })
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

/// R28: sent to us alone, with the original inside: it is the original that is filed.
pub(super) fn is_reported(case: &Case<'_>) -> bool {
    case.email.forwarded.is_some()
        && case.recipients().all(|person| case.standing(&person.address) == Standing::Served)
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
/// R40: how long a subject alone leads back.
const SUBJECT_DAYS: i64 = 30;
