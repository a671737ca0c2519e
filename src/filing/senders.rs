//! From anybody but a user, to a sync or auto address (R12, R14, R15, R30, R32, R51, R52).

use crate::filing::case::{Authenticity, Case, Feed, Standing};
use crate::filing::outbound::look_up_failed;
use crate::filing::{
    Contact, Decision, Direction, FilingContact, Held, Identity, Owner, Reason, Sender, Trace, thread,
};
use crate::id::{ContactId, UserId};
use crate::message::Kind;

/// `identity` is an unverified address of a user, if From is one.
pub(super) fn judge(
    case: &Case<'_>,
    feed: Feed,
    owner: &Owner,
    identity: Option<&Identity>,
    trace: &mut Trace,
) -> Decision {
    if case.standing(&case.author.address) == Standing::NeverLog {
        trace.say("R20", "the author is on the never-log list");
        return Decision::Discarded(Reason::NeverLog);
    }
    match (case.eligible_contact_at(&case.author.address), identity) {
        (Some(contact), _) => from_contact(case, feed, owner, contact, trace),
        (None, Some(identity)) if identity.user == owner.user && feed == Feed::Sync => {
            unverified_identity(case, feed, owner, trace)
        }
        (None, _) => from_stranger(case, feed, owner, trace),
    }
}

/// R62: what a disconnected user writes is not filed through a colleague's address, either.
pub(super) fn disconnected(author: &Identity, trace: &mut Trace) -> Option<Decision> {
    (!author.sync_on).then(|| {
        trace.say(
            "R62",
            "From is a user who has disconnected: nothing of theirs is filed, on nobody's address",
        );
        Decision::Rejected(Reason::AddressOff)
    })
}

/// R12: an address that this user has put on the profile, and has not proven yet.
fn unverified_identity(case: &Case<'_>, feed: Feed, owner: &Owner, trace: &mut Trace) -> Decision {
    match case.authenticity {
        Authenticity::Aligned(_) | Authenticity::Remembered(_) => {
            trace
                .say("R12", "From is a new address of this user: held until the user says that it is theirs");
            let why = "It comes from an address that you have added but not verified: is this you?";
            held(case, Reason::NewIdentity, why, Some(owner.user), None)
        }
        Authenticity::NotAligned => {
            trace.say(
                "R12",
                "From is an address that its user has not verified, and the message is not aligned",
            );
            from_stranger(case, feed, owner, trace)
        }
        Authenticity::Unknown => look_up_failed(trace),
    }
}

/// R30, R32.
fn from_contact(
    case: &Case<'_>,
    feed: Feed,
    owner: &Owner,
    contact: &Contact,
    trace: &mut Trace,
) -> Decision {
    let mark = case.mark(owner.user, contact.id);
    match (mark, feed) {
        (Some(mark), _) if !mark.on => {
            trace.say("R32", "sync between this user and the contact is turned off");
            return Decision::Discarded(Reason::SyncOff);
        }
        (None, Feed::Auto) => {
            trace.say("R32", "the contact is not marked for sync with this user");
            return Decision::Discarded(Reason::NotMarked);
        }
        (Some(_), _) | (None, Feed::Sync) => {}
    }
    match case.authenticity {
        Authenticity::Aligned(_) | Authenticity::Remembered(_) => {}
        Authenticity::NotAligned => {
            trace.say(
                "R30",
                "From is a contact, but the message is not aligned: held until somebody vouches for it",
            );
            let why = "It claims to come from a contact, but its sender could not be authenticated.";
            return held(case, Reason::UnverifiedSender, why, Some(owner.user), Some(contact.id));
        }
        Authenticity::Unknown => return look_up_failed(trace),
    }
    file_inbound(case, owner.user, contact, trace)
}

fn file_inbound(case: &Case<'_>, user: UserId, contact: &Contact, trace: &mut Trace) -> Decision {
    let is_marked = case.mark(user, contact.id).is_some();
    if is_marked {
        trace.say("R30", format!("{} is a contact marked for sync with this user", case.author.address));
    } else {
        trace.say(
            "R32",
            format!("{} is a contact who answered to the visible sync address", case.author.address),
        );
        if let Some(deferred) = too_many_today(case, trace) {
            return deferred;
        }
    }
    let record = thread::known_conversation(case).map_or(contact.id, |(_, known)| known.id);
    if record != contact.id {
        trace.say("R23", "it belongs to a known conversation, whose contact is on it");
    }
    let mut filing = thread::filing(case, FilingContact::Existing(record), Some(user), trace);
    filing.direction = Direction::Inbound;
    filing.sender = thread::proven_sender(case);
    if !is_marked && case.email.kind == Kind::AutoReply {
        trace.say("R50", "an automatic answer sets no mark");
    } else if !is_marked {
        trace.say("R29", "later mail between this user and the contact is filed by itself");
        filing.marks.push((user, contact.id));
    }
    Decision::Filed(Box::new(filing))
}

/// R15 on the sync address; on the auto address everything of strangers is discarded (R1).
fn from_stranger(case: &Case<'_>, feed: Feed, owner: &Owner, trace: &mut Trace) -> Decision {
    if feed == Feed::Auto {
        trace.say("R1", "the author is neither a user nor a contact who is marked for sync");
        return Decision::Discarded(Reason::NotMarked);
    }
    if let Some(known) = case.facts.references.iter().find(|known| known.key.is_reference()) {
        trace.say("R15", "the author is neither a user nor a contact, but answers in a known conversation");
        let why = "Somebody who is not a contact answered in a known conversation.";
        return held(case, Reason::ThirdParty, why, Some(owner.user), Some(known.conversation.contact));
    }
    trace.say("R15", "the author is neither a user nor a contact, and no known conversation is referred to");
    Decision::Rejected(Reason::SenderNotAllowed)
}

/// R51: a bounce or complaint goes to the conversation of the message that it returns.
pub(super) fn report(case: &Case<'_>, trace: &mut Trace) -> Option<Decision> {
    let kind = case.report_kind()?;
    // Whoever stands in From as a user or a contact is judged as such: a report comes from a machine.
    if case.author_identity().is_some() || case.contact_at(&case.author.address).is_some() {
        return None;
    }
    let original = case.email.report.as_ref()?.original_message_id.as_ref()?;
    let known = case.facts.references.iter().find(|known| known.key.text() == original)?;
    trace.say("R51", format!("a {} about a message of a known conversation", kind.as_str()));
    let contact = FilingContact::Existing(known.conversation.contact);
    let mut filing = thread::filing_in(case, contact, known.conversation.user, known.conversation.id);
    filing.direction = Direction::Inbound;
    filing.sender = if case.authenticity.is_aligned() { Sender::Unknown } else { Sender::Unverified };
    Some(Decision::Filed(Box::new(filing)))
}

/// R52: nothing is lost, the sender's server tries again tomorrow.
pub(super) fn too_many_today(case: &Case<'_>, trace: &mut Trace) -> Option<Decision> {
    let limit = case.facts.account.settings.daily_limit;
    (case.facts.filed_today >= limit).then(|| {
        trace.say("R52", format!("this user has filed {limit} messages today, the limit of the account"));
        Decision::Deferred(Reason::DailyLimit)
    })
}

pub(super) fn held(
    case: &Case<'_>,
    reason: Reason,
    why: &str,
    user: Option<UserId>,
    contact: Option<ContactId>,
) -> Decision {
    let days = i64::from(case.facts.account.settings.held_days);
    let expires_at = case.arrival.received_at.plus_days(days);
    Decision::Held(Held { reason, why: why.to_owned(), user, contact, expires_at })
}
