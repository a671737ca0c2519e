//! One message before the rules, with the questions that they all ask: who is this, is it proven, who may be filed.

use crate::address::{EmailAddress, NamedAddress};
use crate::auth::{AlignedBy, Alignment, AuthResult, DmarcPolicy};
use crate::filing::{Arrival, Contact, Facts, Identity, Mark};
use crate::id::{ContactId, UserId};
use crate::message::{Email, Kind};

/// Which of a user's two addresses it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// The auto address: a filter or rule sends everything here.
    Auto,
    /// The sync address: somebody put it there by hand.
    Sync,
}

/// A message with a clean author.
pub(super) struct Case<'a> {
    pub(super) arrival: &'a Arrival<'a>,
    pub(super) email: &'a Email,
    pub(super) facts: &'a Facts,
    pub(super) author: &'a NamedAddress,
    pub(super) authenticity: Authenticity,
    /// R23: the eligible contacts who are on the message.
    on_it: Vec<ContactId>,
}

/// R11: whether the author is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authenticity {
    Aligned(String),
    NotAligned,
    /// R13: not aligned, but signed by this domain, which has been accepted for the address.
    Remembered(String),
    /// R14: a look-up failed for now, and nothing else aligned.
    Unknown,
}

/// Why an address can or cannot be the record owner (R20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Eligible,
    /// A user's identity, or in the internal domains or addresses.
    Internal,
    NeverLog,
    /// In a domain that we serve: our own address, not a person.
    Served,
}

impl<'a> Case<'a> {
    pub(super) fn new(arrival: &'a Arrival<'a>, facts: &'a Facts, author: &'a NamedAddress) -> Self {
        let authenticity = authenticity(arrival, facts, author);
        let mut case = Self { arrival, email: arrival.email, facts, author, authenticity, on_it: Vec::new() };
        let people = std::iter::once(author).chain(case.recipients());
        let found = people.filter_map(|person| case.eligible_contact_at(&person.address));
        case.on_it = found.map(|contact| contact.id).collect();
        case.on_it.sort_unstable();
        case.on_it.dedup();
        case
    }

    pub(super) fn author_identity(&self) -> Option<&'a Identity> {
        self.facts.identities.iter().find(|identity| identity.address == self.author.address)
    }

    /// Who the author is to the account.
    pub(super) fn who_writes(&self) -> &'static str {
        match self.author_identity() {
            Some(identity) if identity.verified => "an address of a user",
            Some(_) => "an address that a user has added and not yet proven",
            None if self.eligible_contact_at(&self.author.address).is_some() => "the address of a contact",
            None => "whom the account does not know",
        }
    }

    pub(super) fn policy(&self) -> DmarcPolicy {
        self.arrival.verdict.dmarc.policy
    }

    /// R51: a report is filed by what it reports on, not by who sent it.
    pub(super) fn report_kind(&self) -> Option<Kind> {
        match self.email.kind {
            kind @ (Kind::Bounce | Kind::Complaint) => Some(kind),
            Kind::AutoReply | Kind::Forwarded | Kind::Mail => None,
        }
    }

    pub(super) fn standing(&self, address: &EmailAddress) -> Standing {
        let settings = &self.facts.account.settings;
        if matches_domain(&self.facts.account.served_domains, address) {
            Standing::Served
        } else if self
            .facts
            .identities
            .iter()
            .any(|identity| identity.verified && identity.address == *address)
            || settings
                .internal_addresses
                .iter()
                .any(|internal| internal.eq_ignore_ascii_case(address.as_str()))
            || matches_domain(&settings.internal_domains, address)
        {
            Standing::Internal
        } else if settings.never_log.iter().any(|entry| is_on_list(entry, address)) {
            Standing::NeverLog
        } else {
            Standing::Eligible
        }
    }

    /// R21, R22: the contact created first with this primary email.
    pub(super) fn contact_at(&self, address: &EmailAddress) -> Option<&'a Contact> {
        self.facts
            .contacts
            .iter()
            .filter(|contact| contact.email.as_ref() == Some(address))
            .min_by_key(|contact| (contact.created_at, contact.id))
    }

    /// The eligible contact with this primary email.
    pub(super) fn eligible_contact_at(&self, address: &EmailAddress) -> Option<&'a Contact> {
        (self.standing(address) == Standing::Eligible).then(|| self.contact_at(address)).flatten()
    }

    pub(super) fn contact(&self, id: ContactId) -> Option<&'a Contact> {
        self.facts.contacts.iter().find(|contact| contact.id == id)
    }

    pub(super) fn mark(&self, user: UserId, contact: ContactId) -> Option<Mark> {
        self.facts.marks.iter().find(|mark| mark.user == user && mark.contact == contact).copied()
    }

    /// To, in order, as far as the rules look.
    pub(super) fn to(&self) -> impl Iterator<Item = &'a NamedAddress> {
        self.email.to.iter().take(MAX_RECIPIENTS)
    }

    /// Everybody in To and Cc, in order, as far as the rules look.
    pub(super) fn recipients(&self) -> impl Iterator<Item = &'a NamedAddress> {
        self.email.to.iter().chain(&self.email.cc).take(MAX_RECIPIENTS)
    }

    /// R23: whether this contact is on the message, as an eligible person.
    pub(super) fn has_on_it(&self, contact: ContactId) -> bool {
        self.on_it.binary_search(&contact).is_ok()
    }
}

impl Authenticity {
    pub(super) const fn is_aligned(&self) -> bool {
        matches!(self, Self::Aligned(_) | Self::Remembered(_))
    }

    /// The rule that speaks.
    pub(super) const fn rule(&self) -> &'static str {
        match self {
            Self::Aligned(_) | Self::NotAligned | Self::Unknown => "R11",
            Self::Remembered(_) => "R13",
        }
    }

    pub(super) fn explain(&self) -> String {
        match self {
            Self::Aligned(why) => why.clone(),
            Self::NotAligned => "nothing proves the author: neither SPF nor a DKIM signature passed for the From domain or one that belongs with it".to_owned(),
            Self::Remembered(domain) => format!(
                "the From domain itself proves nothing, but {domain} signed it, which a person has accepted for this address"
            ),
            Self::Unknown => "a look-up failed for now that might have proven the author, and nothing else does".to_owned(),
        }
    }
}

fn authenticity(arrival: &Arrival<'_>, facts: &Facts, author: &NamedAddress) -> Authenticity {
    // R33: the source was judged before; it vouches for what it reports.
    if arrival.email.journal.is_some() {
        return Authenticity::Aligned(
            "the author is proven: a declared journal source reports it".to_owned(),
        );
    }
    match proven(arrival, facts) {
        Authenticity::NotAligned => remembered(arrival, facts, author).unwrap_or(Authenticity::NotAligned),
        known @ (Authenticity::Aligned(_) | Authenticity::Remembered(_) | Authenticity::Unknown) => known,
    }
}

/// R13: a user's address, signed by a domain that a person has accepted for it. What the domain of the address itself
/// says comes first: against `p=reject` nothing is remembered.
fn remembered(arrival: &Arrival<'_>, facts: &Facts, author: &NamedAddress) -> Option<Authenticity> {
    let is_users =
        facts.identities.iter().any(|identity| identity.verified && identity.address == author.address);
    if !is_users || arrival.verdict.dmarc.policy == DmarcPolicy::Reject {
        return None;
    }
    let mut signatures =
        arrival.verdict.dkim.iter().filter(|signature| facts.signers.contains(&signature.domain));
    let passed = signatures.clone().find(|signature| signature.result == AuthResult::Pass);
    if let Some(passed) = passed {
        return Some(Authenticity::Remembered(passed.domain.clone()));
    }
    signatures.any(|signature| signature.result == AuthResult::TempError).then_some(Authenticity::Unknown)
}

/// R11.
pub(super) fn proven(arrival: &Arrival<'_>, facts: &Facts) -> Authenticity {
    let arc = &arrival.verdict.arc;
    let trusted = &facts.account.settings.trusted_arc_sealers;
    let attesting = arc.last_sealer.as_ref().filter(|sealer| {
        arc.attests_dmarc_pass && trusted.iter().any(|trusted| is_same_or_below(sealer, trusted))
    });
    let trusted_sealer = attesting.filter(|_| arc.result == AuthResult::Pass);
    let may_attest = attesting.is_some() && arc.result == AuthResult::TempError;
    match (&arrival.verdict.alignment, trusted_sealer) {
        (Alignment::Aligned { by: AlignedBy::Dkim, domain }, _) => Authenticity::Aligned(format!(
            "the author is proven: DKIM passed for {domain}, which is the From domain or belongs with it"
        )),
        (Alignment::Aligned { by: AlignedBy::Spf, domain }, _) => Authenticity::Aligned(format!(
            "the author is proven: SPF passed for {domain}, which is the From domain or belongs with it"
        )),
        (Alignment::NotAligned | Alignment::Unknown, Some(sealer)) => Authenticity::Aligned(format!(
            "the author is proven: the trusted forwarder {sealer} attests that DMARC passed before it passed the mail on"
        )),
        // What becomes of it hangs on the policy, which could not be read (RFC 9989 section 5.3.6).
        (Alignment::NotAligned, None) if arrival.verdict.dmarc.result == AuthResult::TempError => {
            Authenticity::Unknown
        }
        // R14: neither could a key of the trusted forwarder's chain.
        (Alignment::NotAligned, None) if may_attest => Authenticity::Unknown,
        (Alignment::NotAligned, None) => Authenticity::NotAligned,
        (Alignment::Unknown, None) => Authenticity::Unknown,
    }
}

/// To and Cc beyond this many are on no record: no honest mail to a contact has so many, and each costs time.
const MAX_RECIPIENTS: usize = 1_000;

/// A never-log entry is an address or a domain.
fn is_on_list(entry: &str, address: &EmailAddress) -> bool {
    if entry.trim_start_matches('@').contains('@') {
        entry.eq_ignore_ascii_case(address.as_str())
    } else {
        is_same_or_below(address.domain(), entry.trim_start_matches('@'))
    }
}

fn matches_domain(domains: &[String], address: &EmailAddress) -> bool {
    domains.iter().any(|domain| is_same_or_below(address.domain(), domain.trim_start_matches('@')))
}

/// Whether `domain` is `parent` or a subdomain of it, in any case.
pub(super) fn is_same_or_below(domain: &str, parent: &str) -> bool {
    if domain.is_ascii() && parent.is_ascii() {
        let Some((rest, end)) =
            domain.len().checked_sub(parent.len()).and_then(|at| domain.split_at_checked(at))
        else {
            return false;
        };
        return !parent.is_empty()
            && end.eq_ignore_ascii_case(parent)
            && (rest.is_empty() || rest.ends_with('.'));
    }
    let (domain, parent) = (domain.to_lowercase(), parent.to_lowercase());
    !parent.is_empty()
        && domain.strip_suffix(parent.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
