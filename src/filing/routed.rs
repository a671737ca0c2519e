//! Replies to routed addresses (R45–R48, R51): the token names the conversation, the author decides how it is filed.

use crate::auth::DmarcPolicy;
use crate::filing::case::{Authenticity, Case, Standing};
use crate::filing::outbound::{look_up_failed, unproven};
use crate::filing::senders::{disconnected, held};
use crate::filing::{Conversation, Decision, Direction, FilingContact, Reason, Sender, Trace, thread};

pub(super) fn judge(case: &Case<'_>, trace: &mut Trace) -> Decision {
    let Some(conversation) = &case.facts.reply_conversation else {
        trace.say("R45", "the conversation of this reply address is gone");
        return Decision::Rejected(Reason::UnknownAddress);
    };
    if case.facts.owner.as_ref().is_some_and(|owner| !owner.sync_on) {
        trace.say("R62", "the user of this conversation has disconnected");
        return Decision::Rejected(Reason::AddressOff);
    }
    let is_machine = case.author_identity().is_none() && case.contact_at(&case.author.address).is_none();
    if let Some(kind) = case.report_kind().filter(|_| is_machine) {
        trace.say("R51", format!("a {} about mail of this conversation", kind.as_str()));
        return filed(case, conversation, Direction::Inbound, Sender::Unknown);
    }
    if let Some(identity) = case.author_identity().filter(|identity| identity.verified) {
        if let Some(refused) = disconnected(identity, trace) {
            return refused;
        }
        if let Some(refused) = unproven(case, identity.user, trace) {
            return refused;
        }
        trace.say("R46", "a user answered through the reply address");
        return filed(case, conversation, Direction::Outbound, thread::proven_sender(case));
    }
    let contact = case.contact(conversation.contact);
    if contact.is_some_and(|contact| contact.email.as_ref() == Some(&case.author.address)) {
        return from_the_contact(case, conversation, trace);
    }
    from_somebody_else(case, conversation, trace)
}

/// R45, R48.
fn from_the_contact(case: &Case<'_>, conversation: &Conversation, trace: &mut Trace) -> Decision {
    match (&case.authenticity, case.policy()) {
        (Authenticity::Aligned(_) | Authenticity::Remembered(_), _) => {
            trace.say("R45", "the token is valid and From is the conversation's contact");
            filed(case, conversation, Direction::Inbound, thread::proven_sender(case))
        }
        (Authenticity::Unknown, _) => look_up_failed(trace),
        (Authenticity::NotAligned, DmarcPolicy::Quarantine | DmarcPolicy::Reject) => {
            trace.say("R48", "From is the contact, not aligned, and the domain asks for strictness");
            let why = "It claims to come from the contact, but its domain says that such mail is not to be believed.";
            held(case, Reason::UnverifiedSender, why, conversation.user, Some(conversation.contact))
        }
        (Authenticity::NotAligned, DmarcPolicy::None) => {
            trace.say(
                "R48",
                "From is the contact, not aligned; its domain asks for nothing: filed as unverified",
            );
            filed(case, conversation, Direction::Inbound, Sender::Unverified)
        }
    }
}

/// R47.
fn from_somebody_else(case: &Case<'_>, conversation: &Conversation, trace: &mut Trace) -> Decision {
    if case.standing(&case.author.address) == Standing::NeverLog {
        trace.say("R20", "the author is on the never-log list");
        return Decision::Discarded(Reason::NeverLog);
    }
    let (user, contact) = (conversation.user, Some(conversation.contact));
    match case.authenticity {
        Authenticity::Aligned(_) | Authenticity::Remembered(_) => {}
        Authenticity::NotAligned => {
            trace.say("R47", "the token is valid, but From is somebody else and not aligned");
            return held(
                case,
                Reason::UnverifiedSender,
                "Somebody who could not be authenticated answered.",
                user,
                contact,
            );
        }
        Authenticity::Unknown => return look_up_failed(trace),
    }
    if case.contact_at(&case.author.address).is_some() {
        trace.say("R47", "the token is valid, but From is another contact of the account");
        return held(
            case,
            Reason::OtherContact,
            "Another contact answered in this conversation.",
            user,
            contact,
        );
    }
    trace.say("R47", "the token is valid and From is somebody else, aligned");
    filed(case, conversation, Direction::Inbound, Sender::Unknown)
}

fn filed(case: &Case<'_>, conversation: &Conversation, direction: Direction, sender: Sender) -> Decision {
    let contact = FilingContact::Existing(conversation.contact);
    let user = case.author_identity().map(|identity| identity.user).or(conversation.user);
    let mut filing = thread::filing_in(case, contact, user, conversation.id);
    filing.direction = direction;
    filing.sender = sender;
    Decision::Filed(Box::new(filing))
}
