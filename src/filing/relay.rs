//! Whether a copy of a routed mail goes on through the relay: to the contact (R46) or to staff (R49), and to nobody
//! else. Asked after the decision, of filed mail, and of mail that another address of ours has brought in already.

use crate::address::{EmailAddress, Mailbox};
use crate::filing::case::{Case, Standing};
use crate::filing::{
    Arrival, Conversation, Decision, Direction, Facts, Filing, ForwardReplies, ForwardWord, Trace, routed,
};
use crate::id::ContactId;
use crate::message::{From, Kind};
use crate::time::Timestamp;

/// To whom a copy goes. Who that is by address is looked up when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// R46: a user's answer, to the conversation's contact.
    Contact,
    /// R49: an answer to us, to the user or address of the setting.
    Staff,
}

/// What the relay knows about a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayFacts {
    /// The first verified address of the conversation's user.
    pub staff: Option<EmailAddress>,
    /// Copies of this conversation within the last hour.
    pub lately: u32,
    /// Whether a copy of this very message has gone on before, from a conversation of the same contact.
    pub is_done: bool,
    /// RFC 8689: the sender asked for TLS on all of its way, which is more than we ask of a smarthost.
    pub requires_tls: bool,
}

/// R25, R72: a message that is on another contact's record already (R70) and has come to this one's reply address
/// too. The contact who sees it on the timeline as well, and when it was sent.
#[must_use]
pub fn seen_by(
    arrival: &Arrival<'_>,
    facts: &Facts,
    decision: &Decision,
    trace: &mut Trace,
) -> Option<(ContactId, Timestamp)> {
    let (Mailbox::Reply(_), Decision::Duplicate(existing)) = (arrival.mailbox, decision) else { return None };
    let (From::One(author), Some(conversation)) = (&arrival.email.from, &facts.reply_conversation) else {
        return None;
    };
    let known = facts.same_message_id.iter().find(|known| known.id == *existing)?;
    if known.contact == conversation.contact {
        return None;
    }
    match as_if_new(&Case::new(arrival, facts, author)) {
        Some(filing) => {
            trace.say(
                "R25",
                "it is on another contact's record; the contact of this reply address sees it too",
            );
            Some((conversation.contact, filing.sent_at))
        }
        None => {
            trace.say(
                "R47",
                "it is on another contact's record, and this conversation does not take it unasked",
            );
            None
        }
    }
}

/// What the reply address would have had filed, had the message not come in by another way before.
fn as_if_new(case: &Case<'_>) -> Option<Box<Filing>> {
    match routed::judge(case, &mut Trace::default()) {
        Decision::Filed(filing) => Some(filing),
        Decision::Deferred(_)
        | Decision::Discarded(_)
        | Decision::Duplicate(_)
        | Decision::Held(_)
        | Decision::Rejected(_) => None,
    }
}

/// Whether a copy goes on. Says in the trace why not, where one could be expected.
#[must_use]
pub fn relay(arrival: &Arrival<'_>, facts: &Facts, decision: &Decision, trace: &mut Trace) -> Option<Relay> {
    let Mailbox::Reply(_) = arrival.mailbox else { return None };
    let (From::One(author), Some(conversation)) = (&arrival.email.from, &facts.reply_conversation) else {
        return None;
    };
    let case = Case::new(arrival, facts, author);
    match decision {
        Decision::Filed(filing) => choose(&case, conversation, filing, trace),
        // It came in through another address before; what the reply address stands for is still to be done.
        Decision::Duplicate(_) if facts.relay.as_ref().is_some_and(|relay| relay.is_done) => {
            trace.say("R70", "a copy of it has gone on already");
            None
        }
        Decision::Duplicate(existing) if facts.same_message_id.iter().any(|known| known.id == *existing) => {
            let filing = as_if_new(&case)?;
            choose(&case, conversation, &filing, trace)
        }
        Decision::Deferred(_)
        | Decision::Discarded(_)
        | Decision::Duplicate(_)
        | Decision::Held(_)
        | Decision::Rejected(_) => None,
    }
}

fn choose(case: &Case<'_>, conversation: &Conversation, filing: &Filing, trace: &mut Trace) -> Option<Relay> {
    let (relay, rule, target) = match filing.direction {
        Direction::Inbound => (Relay::Staff, "R49", staff_address(case)?),
        Direction::Outbound => {
            (Relay::Contact, "R46", case.contact(conversation.contact).and_then(|c| c.email.clone()))
        }
    };
    match obstacle(case, filing, target.as_ref()) {
        Some((rule, why)) => {
            trace.say(rule, format!("no copy goes on: {why}"));
            None
        }
        None => {
            let whom = match relay {
                Relay::Contact => "the contact, from the reply address",
                Relay::Staff => "staff, from the reply address",
            };
            trace.say(rule, format!("a copy goes on to {whom}"));
            Some(relay)
        }
    }
}

/// R49: none if the setting is off; else the address, if it can be used.
fn staff_address(case: &Case<'_>) -> Option<Option<EmailAddress>> {
    match &case.facts.account.settings.forward_replies {
        ForwardReplies::Word(ForwardWord::Off) => None,
        ForwardReplies::Word(ForwardWord::User) => {
            Some(case.facts.relay.as_ref().and_then(|relay| relay.staff.clone()))
        }
        ForwardReplies::Address(address) => Some(EmailAddress::parse(address)),
    }
}

/// Why no copy goes on, and by which rule.
fn obstacle(
    case: &Case<'_>,
    filing: &Filing,
    target: Option<&EmailAddress>,
) -> Option<(&'static str, &'static str)> {
    let rule = match filing.direction {
        Direction::Inbound => "R49",
        Direction::Outbound => "R46",
    };
    let because = |why| Some((rule, why));
    let Some(relay) = &case.facts.relay else { return because("no relay is configured") };
    match filing.kind {
        Kind::AutoReply => return Some(("R50", "it is an automatic answer")),
        Kind::Bounce | Kind::Complaint => return Some(("R51", "it is a report")),
        Kind::Forwarded | Kind::Mail => {}
    }
    // Neither marks every machine as one; together with the cap below they end a conversation of two machines.
    if case.arrival.reverse_path.is_none() || case.email.is_bulk {
        return Some(("R50", "a machine sent it"));
    }
    if relay.requires_tls {
        return Some(("RFC8689", "its sender asked for TLS on all of its way"));
    }
    let Some(target) = target else {
        return because("there is no address to send it to");
    };
    let may_have_it = match (filing.direction, case.standing(target)) {
        (_, Standing::Served) => false,
        (Direction::Inbound, Standing::Eligible | Standing::Internal | Standing::NeverLog) => true,
        (Direction::Outbound, standing) => standing == Standing::Eligible,
    };
    if !may_have_it {
        return because("its address is one of ours, or not to be written to");
    }
    if *target == case.author.address || case.recipients().any(|person| person.address == *target) {
        return because("its recipient has it already");
    }
    if relay.lately >= MAX_RELAYED_AN_HOUR {
        return because("too many of this conversation went on within an hour; it stays on the record only");
    }
    None
}

/// The brake on two machines that answer each other and do not say that they are machines: no two people write each
/// other so often, and the exchange ends with the first copy that does not go on.
pub const MAX_RELAYED_AN_HOUR: u32 = 20;
