//! R33: a journal report counts only from a source that the account has declared, and only on a user's address.

use crate::address::Mailbox;
use crate::filing::case::{Authenticity, is_same_or_below, proven};
use crate::filing::outbound::look_up_failed;
use crate::filing::{Arrival, Decision, Facts, JournalSource, Reason, Trace};
use crate::smtp::proxy::Network;

/// What becomes of a report that may not be believed; none for any other message.
pub(super) fn undeclared(arrival: &Arrival<'_>, facts: &Facts, trace: &mut Trace) -> Option<Decision> {
    let journal = arrival.email.journal.as_ref()?;
    let is_users = matches!(arrival.mailbox, Mailbox::Auto(_) | Mailbox::Sync(_));
    let sources = &facts.account.settings.journal_sources;
    if is_users && sources.iter().any(|source| is_from_network(arrival, source)) {
        trace.say("R33", "a journal report from a network that the account has declared as a source");
        return None;
    }
    let reporter = journal.reporter.address();
    let source = reporter.and_then(|reporter| {
        sources.iter().find(|source| is_same_or_below(reporter.domain(), &source.domain))
    });
    let Some(source) = source.filter(|_| is_users) else {
        trace.say("R33", "a journal report, but its sender is none of the account's journal sources");
        return Some(Decision::Rejected(Reason::SenderNotAllowed));
    };
    match proven(arrival, facts) {
        Authenticity::Aligned(_) => {
            trace.say("R33", format!("a journal report from the declared source {}, aligned", source.domain));
            None
        }
        Authenticity::NotAligned => {
            trace.say(
                "R33",
                "a journal report that claims to come from a declared source, but is not aligned",
            );
            Some(Decision::Rejected(Reason::SenderNotAllowed))
        }
        Authenticity::Unknown => Some(look_up_failed(trace)),
    }
}

fn is_from_network(arrival: &Arrival<'_>, source: &JournalSource) -> bool {
    let networks = source.networks.iter().filter_map(|network| Network::parse(network));
    networks.into_iter().any(|network| network.contains(arrival.client_ip))
}
