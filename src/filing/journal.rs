//! R33: a journal report counts only from a source that the account has declared, and only on a user's address.
//!
//! A source may name the domain that reports, the networks it reports from, or both; what it names is all required. A
//! network vouches for the report; without one the report must be aligned.

use crate::address::Mailbox;
use crate::auth::DmarcPolicy;
use crate::filing::case::{Authenticity, is_same_or_below, proven};
use crate::filing::outbound::look_up_failed;
use crate::filing::{Arrival, Decision, Facts, JournalSource, Reason, Trace};
use crate::smtp::proxy::Network;

/// What becomes of a report that may not be believed; none for any other message.
pub(super) fn undeclared(arrival: &Arrival<'_>, facts: &Facts, trace: &mut Trace) -> Option<Decision> {
    let journal = arrival.email.journal.as_ref()?;
    let is_users = matches!(arrival.mailbox, Mailbox::Auto(_) | Mailbox::Sync(_));
    let domain = journal.reporter.address().map_or("", |reporter| reporter.domain());
    let sources = facts.account.settings.journal_sources.iter();
    let fitting: Vec<&JournalSource> =
        sources.filter(|source| is_users && fits(arrival, domain, source)).collect();
    let proof = proven(arrival, facts);
    // Over a network of many senders anybody can write any From; then the domain's own policy still speaks.
    let is_disowned = arrival.verdict.dmarc.policy == DmarcPolicy::Reject && !proof.is_aligned();
    let by_network = fitting.iter().any(|source| !source.networks.is_empty());
    match proof {
        _ if fitting.is_empty() => {
            trace.say("R33", "a journal report, but its sender is none of the account's journal sources");
            Some(Decision::Rejected(Reason::SenderNotAllowed))
        }
        Authenticity::Aligned(_) | Authenticity::Remembered(_) => {
            trace.say("R33", "a journal report from a source that the account has declared, aligned");
            None
        }
        Authenticity::NotAligned | Authenticity::Unknown if by_network && !is_disowned => {
            trace.say("R33", "a journal report from a network that the account has declared as a source");
            None
        }
        Authenticity::NotAligned => {
            let said = "a journal report that claims to come from a declared source, but is not aligned";
            trace.say("R33", said);
            Some(Decision::Rejected(Reason::SenderNotAllowed))
        }
        Authenticity::Unknown => Some(look_up_failed(trace)),
    }
}

/// Whether a report has all that the source names, which is at least one thing.
fn fits(arrival: &Arrival<'_>, domain: &str, source: &JournalSource) -> bool {
    let declared = source.domain.trim();
    let is_from_domain = declared.is_empty() || is_same_or_below(domain, declared);
    let is_from_network = source.networks.is_empty()
        || source
            .networks
            .iter()
            .filter_map(|network| Network::parse(network))
            .any(|network| network.contains(arrival.client_ip));
    is_from_domain && is_from_network && !(declared.is_empty() && source.networks.is_empty())
}
