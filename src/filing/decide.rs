//! The rules in their order: what holds for every message, then what holds for the mailbox it came to.
//!
//! Class first, policy second, answer last (RULES, "Kinds"). Each branch ends in one [`Decision`]; each rule that
//! mattered has spoken in the trace before.

use crate::address::Mailbox;
use crate::filing::case::{Authenticity, Case, Feed};
use crate::filing::{
    Arrival, Decision, Facts, Held, HeldTwin, Reason, Trace, domains_of, journal, notes, outbound, routed,
    senders,
};
use crate::id::MessageId;
use crate::message::{self, From};

/// Decides what becomes of one message for one mailbox.
///
/// For a discarded message the trace holds no address and no domain (R5).
#[must_use]
pub fn decide(arrival: &Arrival<'_>, facts: &Facts) -> (Decision, Trace) {
    let mut trace = Trace::default();
    let decision = judge(arrival, facts, &mut trace);
    if let Decision::Filed(filing) = &decision {
        notes::say(arrival, filing, &mut trace);
    }
    let decision = waits_already(arrival, facts, &decision, &mut trace).unwrap_or(decision);
    if matches!(decision, Decision::Discarded(_)) || facts.was_erased {
        trace.leave_out(&domains_of(arrival.verdict, arrival.email, arrival.reverse_path));
    }
    (decision, trace)
}

fn judge(arrival: &Arrival<'_>, facts: &Facts, trace: &mut Trace) -> Decision {
    if let Some(reason) = loops(arrival, trace) {
        return Decision::Rejected(reason);
    }
    if *arrival.mailbox == Mailbox::Postmaster {
        return for_postmaster(arrival, facts, trace);
    }
    if let Some(name) = arrival.email.doubled_frame {
        trace.say("SMTP", format!("there is more than one {name} field: readers would see different mails"));
        return Decision::Rejected(Reason::BadSyntax);
    }
    if let Some(refused) = journal::undeclared(arrival, facts, trace) {
        return refused;
    }
    let author = match &arrival.email.from {
        From::Bad(why) => {
            trace.say("R10", format!("From does not hold exactly one clean address, so nobody can be believed to have written it: {why}"));
            return Decision::Rejected(Reason::BadFrom);
        }
        From::One(author) => author,
    };
    if let Some(existing) = duplicate(arrival, facts, trace).or_else(|| erased(arrival, facts, trace)) {
        return existing;
    }
    let case = Case::new(arrival, facts, author);
    trace.say("R10", format!("From is {}, {}", author.address, case.who_writes()));
    trace.say(case.authenticity.rule(), case.authenticity.explain());
    if let Some(marker) = PRIVATE_MARKERS.iter().find(|marker| has_marker(&case.email.subject, marker)) {
        trace.say("R54", format!("the subject holds {marker}: its author does not want it filed"));
        return Decision::Discarded(Reason::PrivateMarker);
    }
    match arrival.mailbox {
        Mailbox::Auto(_) => for_user(&case, Feed::Auto, trace),
        Mailbox::Postmaster => for_postmaster(arrival, facts, trace),
        Mailbox::Reply(_) => routed::judge(&case, trace),
        Mailbox::Sync(_) => for_user(&case, Feed::Sync, trace),
    }
}

/// R2: a retry of a message that is held changes nothing.
fn waits_already(
    arrival: &Arrival<'_>,
    facts: &Facts,
    decision: &Decision,
    trace: &mut Trace,
) -> Option<Decision> {
    let Decision::Held(held) = decision else { return None };
    let is_twin = |twin: &&HeldTwin| twin.digest == arrival.email.digest && twin.user == held.user;
    let twin = facts.held_already.iter().find(is_twin)?;
    trace.say("R70", "this message is held already, and waits for a person");
    Some(Decision::Duplicate(MessageId::from_uuid(twin.delivery.uuid())))
}

/// A sync or auto address.
fn for_user(case: &Case<'_>, feed: Feed, trace: &mut Trace) -> Decision {
    let Some(owner) = case.facts.owner.as_ref().filter(|owner| owner.sync_on) else {
        trace.say("R62", "the user of this address has disconnected");
        return Decision::Rejected(Reason::AddressOff);
    };
    if let Some(decided) = forwarding_confirmation(case, trace) {
        return decided;
    }
    if feed == Feed::Auto && case.email.is_bulk && case.report_kind().is_none() {
        trace.say("R53", "list and bulk mail on the auto address is not filed");
        return Decision::Discarded(Reason::Bulk);
    }
    if let Some(filed) = senders::report(case, trace) {
        return filed;
    }
    match case.author_identity() {
        Some(identity) if identity.verified => senders::disconnected(identity, trace)
            .unwrap_or_else(|| outbound::judge(case, feed, identity.user, trace)),
        identity => senders::judge(case, feed, owner, identity, trace),
    }
}

/// R34: never filed; the profile shows its code and link, and an event tells.
fn forwarding_confirmation(case: &Case<'_>, trace: &mut Trace) -> Option<Decision> {
    message::confirmation(case.email)?;
    match case.authenticity {
        Authenticity::Aligned(_) | Authenticity::Remembered(_) => {
            trace.say(
                "R34",
                "Gmail asks to confirm a forwarding: its code and link are on the user's profile",
            );
            Some(Decision::Discarded(Reason::ForwardingConfirmation))
        }
        Authenticity::NotAligned => None,
        Authenticity::Unknown => Some(outbound::look_up_failed(trace)),
    }
}

fn for_postmaster(arrival: &Arrival<'_>, facts: &Facts, trace: &mut Trace) -> Decision {
    trace.say("R3", "mail to postmaster or abuse is kept sealed for the operator (RFC 5321 section 4.5.1)");
    Decision::Held(Held {
        reason: Reason::Postmaster,
        why: "Mail to the operator of this server.".to_owned(),
        user: None,
        contact: None,
        expires_at: arrival.received_at.plus_days(i64::from(facts.account.settings.held_days)),
    })
}

fn loops(arrival: &Arrival<'_>, trace: &mut Trace) -> Option<Reason> {
    if arrival.email.has_loop_header {
        trace.say("SMTP", "the message bears our own loop header");
        return Some(Reason::Loop);
    }
    if arrival.email.received_fields >= MAX_RECEIVED_FIELDS {
        trace.say("SMTP", format!("the message has {} Received fields", arrival.email.received_fields));
        return Some(Reason::Loop);
    }
    None
}

/// R70: the same Message-ID and digest are one message, whichever way they came in.
pub(super) fn duplicate(arrival: &Arrival<'_>, facts: &Facts, trace: &mut Trace) -> Option<Decision> {
    let existing = facts.same_message_id.iter().find(|existing| existing.digest == arrival.email.digest)?;
    trace.say(
        "R70",
        "the same message is on the record already, by another way or an earlier try: nothing changes",
    );
    Some(Decision::Duplicate(existing.id))
}

/// R60: a late retry does not bring back what was erased.
fn erased(arrival: &Arrival<'_>, facts: &Facts, trace: &mut Trace) -> Option<Decision> {
    if !facts.was_erased {
        return None;
    }
    trace.say("R60", "this message was erased from the record: it does not come back");
    // There is no message: the id that it would get stands for it.
    Some(Decision::Duplicate(arrival.fresh.message))
}

/// In any case, wherever it stands; `#nolog` ends at anything but a letter or digit.
fn has_marker(subject: &str, marker: &str) -> bool {
    let subject = subject.to_lowercase();
    subject.match_indices(marker).any(|(at, _)| {
        let behind = subject.get(at + marker.len()..).unwrap_or_default();
        marker.ends_with(']') || !behind.starts_with(char::is_alphanumeric)
    })
}

const PRIVATE_MARKERS: [&str; 2] = ["[private]", "#nolog"];
/// RFC 5321 section 6.3: a count that no honest path reaches.
const MAX_RECEIVED_FIELDS: usize = 100;
