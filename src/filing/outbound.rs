//! From a user to a sync or auto address (R13, R14, R20–R29, R31): whose record, new or known, marked or not.

use crate::auth::{Alignment, DmarcPolicy};
use crate::filing::case::{Authenticity, Case, Feed, Standing};
use crate::filing::senders::{held, too_many_today};
use crate::filing::thread;
use crate::filing::{
    Contact, Decision, Direction, Filing, FilingContact, INTERNAL_HISTORY, Reason, Sender, Trace, UnknownTo,
    quoted_addresses,
};
use crate::id::UserId;
use crate::message::Kind;

/// `author` is the user whose verified address stands in From; not always the user whose address it came to.
pub(super) fn judge(case: &Case<'_>, feed: Feed, author: UserId, trace: &mut Trace) -> Decision {
    if let Some(refused) = unproven(case, author, trace) {
        return refused;
    }
    if feed == Feed::Sync && thread::is_reported(case) {
        return forwarded(case, author, trace);
    }
    if let Some(kept_off) = nobody_outside(case, feed, trace) {
        return kept_off;
    }
    let owner = match record_owner(case, feed, trace) {
        Ok(owner) => owner,
        Err(decision) => return decision,
    };
    match feed {
        Feed::Auto => file_if_marked(case, owner, author, trace),
        Feed::Sync => file_explicitly(case, owner, author, trace),
    }
}

/// R13, R14: From is an identity, but nothing proves it.
pub(super) fn unproven(case: &Case<'_>, author: UserId, trace: &mut Trace) -> Option<Decision> {
    match case.authenticity {
        Authenticity::Aligned(_) | Authenticity::Remembered(_) => None,
        Authenticity::NotAligned if case.policy() == DmarcPolicy::Reject && !case.email.is_list => {
            trace.say(
                "R13",
                "From is a user's address, the message is not aligned, and the domain says p=reject",
            );
            Some(Decision::Rejected(Reason::DmarcReject))
        }
        Authenticity::NotAligned => {
            trace.say("R13", "From is a user's address, but the message is not aligned: held until somebody vouches for it");
            let why = "It claims to come from a user, but its sender could not be authenticated.";
            Some(held(case, Reason::UnverifiedSender, why, Some(author), None))
        }
        Authenticity::Unknown => Some(look_up_failed(trace)),
    }
}

/// R14.
pub(super) fn look_up_failed(trace: &mut Trace) -> Decision {
    trace.say("R14", "the decision hangs on a look-up that failed for now: the sender tries again later");
    Decision::Deferred(Reason::LookupFailed)
}

/// R20–R24: whose record it goes on, or what becomes of it if on nobody's.
fn record_owner<'a>(case: &Case<'a>, feed: Feed, trace: &mut Trace) -> Result<Owner<'a>, Decision> {
    if let Some((_, contact)) = thread::known_conversation(case) {
        trace.say("R23", "it belongs to a known conversation, whose contact is on it");
        return Ok(Owner::Known(contact));
    }
    thread::say_if_forked(case, trace);
    let first = case.to().find_map(|to| case.eligible_contact_at(&to.address).map(|found| (to, found)));
    if let Some((to, contact)) = first {
        trace.say("R20", format!("{} is the first To address that is a contact", to.address));
        return Ok(Owner::Known(contact));
    }
    if let Some(only_in_cc) = case.email.cc.iter().find_map(|cc| case.eligible_contact_at(&cc.address))
        && !case.to().any(|to| case.standing(&to.address) == Standing::Eligible)
    {
        if feed == Feed::Auto {
            trace.say("R31", "no To address is a contact, and the auto address files for nobody in Cc");
            return Err(Decision::Discarded(Reason::NotMarked));
        }
        trace.say("R27", "To is all internal and a contact stands only in Cc: not filed without a look");
        let why = "Everybody in To is internal; the contact is only copied.";
        return Err(held(
            case,
            Reason::ContactOnlyInCc,
            why,
            case.facts.owner.as_ref().map(|owner| owner.user),
            Some(only_in_cc.id),
        ));
    }
    unknown_recipient(case, feed, trace)
}

/// R24: no To address is a contact.
fn unknown_recipient<'a>(case: &Case<'a>, feed: Feed, trace: &mut Trace) -> Result<Owner<'a>, Decision> {
    if feed == Feed::Auto {
        trace.say("R31", "no To address is a contact, and the auto address creates none");
        return Err(Decision::Discarded(Reason::NotMarked));
    }
    let first = case.to().find(|to| case.standing(&to.address) == Standing::Eligible);
    match (first, case.facts.account.settings.unknown_to) {
        (Some(to), UnknownTo::Create) => {
            trace.say("R24", format!("no To address is a contact: {} becomes one", to.address));
            Ok(Owner::New(FilingContact::Create {
                id: case.arrival.fresh.contact,
                name: to.name.clone().unwrap_or_else(|| to.address.as_str().to_owned()),
                email: to.address.clone(),
            }))
        }
        (Some(_), UnknownTo::Hold) => {
            trace.say("R24", "no To address is a contact, and the account wants to look first");
            Err(hold_unknown(case, "Nobody it was sent to is a contact."))
        }
        (None, _) => {
            trace.say("R24", "nobody in To could be a contact, and Cc never creates one");
            Err(hold_unknown(case, "It names nobody in To whose record it could go on."))
        }
    }
}

fn hold_unknown(case: &Case<'_>, why: &str) -> Decision {
    let user = case.author_identity().map(|identity| identity.user);
    held(case, Reason::UnknownContact, why, user, None)
}

/// R26 and the never-log list: is there anybody outside whose record it could go on at all?
fn nobody_outside(case: &Case<'_>, feed: Feed, trace: &mut Trace) -> Option<Decision> {
    let standings: Vec<Standing> = case
        .recipients()
        .map(|person| case.standing(&person.address))
        .filter(|standing| *standing != Standing::Served)
        .collect();
    if standings.contains(&Standing::Eligible) {
        return None;
    }
    if standings.contains(&Standing::NeverLog) {
        trace.say("R20", "everybody outside on it is on the never-log list");
        return Some(Decision::Discarded(Reason::NeverLog));
    }
    if standings.contains(&Standing::Internal) || feed == Feed::Auto {
        trace.say("R26", "everybody on it is internal");
        return Some(Decision::Discarded(Reason::InternalOnly));
    }
    trace.say("R24", "nobody but our own address is named on it");
    Some(hold_unknown(case, "It names nobody whose record it could go on."))
}

/// R31: from the user to the auto address.
fn file_if_marked(case: &Case<'_>, owner: Owner<'_>, author: UserId, trace: &mut Trace) -> Decision {
    match case.mark(author, owner.id()) {
        Some(mark) if mark.on => {
            trace.say("R31", "the contact is marked for sync with this user");
            filed(case, owner, author, trace)
        }
        Some(_) => {
            trace.say("R32", "sync between this user and the contact is turned off");
            Decision::Discarded(Reason::SyncOff)
        }
        None => {
            trace.say("R31", "the contact is not marked for sync with this user");
            Decision::Discarded(Reason::NotMarked)
        }
    }
}

fn file_explicitly(case: &Case<'_>, owner: Owner<'_>, author: UserId, trace: &mut Trace) -> Decision {
    if let Some(deferred) = too_many_today(case, trace) {
        return deferred;
    }
    filed(case, owner, author, trace)
}

fn filed(case: &Case<'_>, owner: Owner<'_>, author: UserId, trace: &mut Trace) -> Decision {
    let contact = owner.id();
    let mut filing = thread::filing(case, owner.into_filing(), Some(author), trace);
    filing.direction = Direction::Outbound;
    filing.sender = thread::proven_sender(case);
    flag_internal_history(case, &mut filing, trace);
    match case.mark(author, contact) {
        Some(mark) if mark.on => {}
        Some(_) => trace.say("R29", "the user turned sync with this contact off: it stays off"),
        None if case.email.kind == Kind::AutoReply => trace.say("R50", "an automatic answer sets no mark"),
        None => {
            trace.say("R29", "later mail between this user and the contact is filed by itself");
            filing.marks.push((author, contact));
        }
    }
    Decision::Filed(Box::new(filing))
}

/// R27a: what is quoted below was written among colleagues alone.
pub(super) fn flag_internal_history(case: &Case<'_>, filing: &mut Filing, trace: &mut Trace) {
    let quoted = quoted_addresses(case.email);
    let is_internal = |address| matches!(case.standing(address), Standing::Internal | Standing::Served);
    if !quoted.is_empty() && quoted.iter().all(is_internal) {
        trace.say("R27a", "the history quoted below was internal only: it is shown with scope review alone");
        filing.flags.push(INTERNAL_HISTORY);
    }
}

/// R28: filed as inbound from the original sender at its original date.
fn forwarded(case: &Case<'_>, author: UserId, trace: &mut Trace) -> Decision {
    let original = case.email.forwarded.as_ref();
    let sender = original.and_then(|original| original.from.as_ref());
    let Some(contact) = sender.and_then(|sender| case.eligible_contact_at(&sender.address)) else {
        trace.say("R28", "a message forwarded by hand, whose original sender is not a contact");
        let why = "It was forwarded by hand, and the original sender is not a contact.";
        return held(case, Reason::ForwardedUnknown, why, Some(author), None);
    };
    if let Some(deferred) = too_many_today(case, trace) {
        return deferred;
    }
    let sender = proven_original(case, trace);
    let mut filing = thread::filing(case, FilingContact::Existing(contact.id), Some(author), trace);
    filing.direction = Direction::Inbound;
    filing.sender = sender;
    if let Some(date) = original.and_then(|original| original.date) {
        filing.sent_at = thread::plausible(Some(date), case.arrival.received_at);
    }
    if case.mark(author, contact.id).is_none() {
        trace.say("R29", "later mail between this user and the contact is filed by itself");
        filing.marks.push((author, contact.id));
    }
    Decision::Filed(Box::new(filing))
}

/// R28: only an attached original can prove itself; what stands in the text is the word of whoever forwards.
fn proven_original(case: &Case<'_>, trace: &mut Trace) -> Sender {
    let is_attached = case.email.forwarded.as_ref().is_some_and(|original| original.attachment.is_some());
    match &case.arrival.verdict.original {
        Some(Alignment::Aligned { domain, .. }) if is_attached => {
            let said = format!(
                "a message forwarded by hand: filed as it came from its original sender; it is attached whole and {domain}'s signature on it still holds"
            );
            trace.say("R28", said);
            Sender::Verified
        }
        Some(_) | None => {
            trace.say(
                "R28",
                "a message forwarded by hand: filed as it came from its original sender, on the word of the user: no signature of its own proves it",
            );
            Sender::Unverified
        }
    }
}

enum Owner<'a> {
    Known(&'a Contact),
    New(FilingContact),
}

impl Owner<'_> {
    const fn id(&self) -> crate::id::ContactId {
        match self {
            Self::Known(contact) => contact.id,
            Self::New(contact) => contact.id(),
        }
    }

    fn into_filing(self) -> FilingContact {
        match self {
            Self::Known(contact) => FilingContact::Existing(contact.id),
            Self::New(contact) => contact,
        }
    }
}
