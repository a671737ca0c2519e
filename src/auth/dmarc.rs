//! DMARC (RFC 9989): what the From domain asks for, and whether anything that passed is aligned with it (R11).
//!
//! Promises that only MAIL FROM (HELO for a null reverse-path) and signatures that count are weighed, and that
//! `Unknown` is answered only where a look-up that failed for now might have hidden an aligned pass (R14).

use super::align::{self, Existence, Mode, Record, Walk, WalkState};
use super::dns::{Failure, Lookups, Purpose};
use super::{AlignedBy, Alignment, AuthResult, Dmarc, DmarcPolicy, domain};

/// One domain that SPF or DKIM has been checked for.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    /// How.
    pub by: AlignedBy,
    /// Normalised.
    pub domain: &'a str,
    /// Only `Pass` and `TempError` matter.
    pub result: AuthResult,
}

/// Walks up from a domain (section 4.10).
pub(super) async fn walk(lookups: &Lookups<'_>, start: &str) -> Walk {
    let mut walk = Walk { start: start.to_owned(), found: Vec::new(), state: WalkState::Complete };
    for name in align::walk_names(start) {
        let texts = match lookups.txt(&format!("_dmarc.{name}"), Purpose::Dmarc).await {
            Ok(texts) => texts,
            Err(Failure::NoDomain | Failure::NoRecord) => continue,
            Err(Failure::OverBudget | Failure::Temporary) => {
                walk.state = WalkState::Failed;
                break;
            }
        };
        if let Some(record) = Record::of(&texts) {
            let is_end = record.psd != align::Psd::Unknown;
            walk.found.push((name.to_owned(), record));
            if is_end {
                break;
            }
        }
    }
    walk
}

/// The verdict on a From domain, by the walk from it, with the candidates best first.
pub(super) async fn evaluate(
    lookups: &Lookups<'_>,
    from: &Walk,
    candidates: &[Candidate<'_>],
) -> (Dmarc, Alignment) {
    let alignment = alignment(lookups, from, candidates).await;
    let Some((published_at, record)) = from.record() else {
        let result = match from.state {
            WalkState::Complete => AuthResult::None,
            WalkState::Failed => AuthResult::TempError,
        };
        return (Dmarc { result, policy: DmarcPolicy::None }, alignment);
    };
    let policy = existence(lookups, record, published_at, &from.start)
        .await
        .map(|existence| align::applied_policy(record, published_at, &from.start, existence));
    let result = match (&alignment, from.state) {
        (Alignment::Aligned { .. }, _) => AuthResult::Pass,
        // SMTP.md E14: which of two policies holds is not known, so neither is applied.
        (Alignment::NotAligned, _) if policy.is_err() => AuthResult::TempError,
        (Alignment::NotAligned, WalkState::Complete) => AuthResult::Fail,
        (Alignment::NotAligned, WalkState::Failed) if published_at == from.start => AuthResult::Fail,
        (Alignment::NotAligned, WalkState::Failed) | (Alignment::Unknown, _) => AuthResult::TempError,
    };
    (Dmarc { result, policy: policy.unwrap_or(DmarcPolicy::None) }, alignment)
}

async fn alignment(lookups: &Lookups<'_>, from: &Walk, candidates: &[Candidate<'_>]) -> Alignment {
    let mut answer = Alignment::NotAligned;
    for candidate in candidates {
        match (candidate.result, relation(lookups, from, candidate).await) {
            (AuthResult::Pass, Relation::Aligned) => {
                return Alignment::Aligned { by: candidate.by, domain: candidate.domain.to_owned() };
            }
            (AuthResult::Pass, Relation::Unknown)
            | (AuthResult::TempError, Relation::Aligned | Relation::Unknown) => answer = Alignment::Unknown,
            _ => {}
        }
    }
    answer
}

/// How a domain stands to the From domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Aligned,
    Apart,
    Unknown,
}

async fn relation(lookups: &Lookups<'_>, from: &Walk, candidate: &Candidate<'_>) -> Relation {
    let (from_domain, domain) = (from.start.as_str(), candidate.domain);
    if domain == from_domain {
        return Relation::Aligned;
    }
    let mode = from.record().map(|(_, record)| match candidate.by {
        AlignedBy::Dkim => record.dkim_mode,
        AlignedBy::Spf => record.spf_mode,
    });
    let are_related = align::are_related(from_domain, domain);
    match (mode, from.state) {
        (Some(Mode::Strict), WalkState::Complete) => Relation::Apart,
        (Some(Mode::Strict), WalkState::Failed)
            if from.found.first().is_some_and(|(name, _)| name == from_domain) =>
        {
            Relation::Apart
        }
        (_, WalkState::Failed) if are_related => Relation::Unknown,
        (_, WalkState::Failed) => Relation::Apart,
        (None, WalkState::Complete) if are_related => Relation::Aligned,
        (None, WalkState::Complete) => Relation::Apart,
        (Some(Mode::Relaxed), WalkState::Complete) => {
            below(lookups, from.organizational_domain(), domain).await
        }
    }
}

/// Whether the organisational domain of `domain` is this one. It is always an ancestor of it, or itself, so that most
/// domains need no walk of their own.
async fn below(lookups: &Lookups<'_>, organization: &str, domain: &str) -> Relation {
    if domain == organization {
        return Relation::Aligned;
    }
    if !domain::is_at_or_below(domain, organization) {
        return Relation::Apart;
    }
    let own = walk(lookups, domain).await;
    match own.state {
        WalkState::Failed => Relation::Unknown,
        WalkState::Complete if own.organizational_domain() == organization => Relation::Aligned,
        WalkState::Complete => Relation::Apart,
    }
}

/// Whether the From domain exists; one whose policy does not depend on it is taken to.
async fn existence(
    lookups: &Lookups<'_>,
    record: &Record,
    published_at: &str,
    from: &str,
) -> Result<Existence, Failure> {
    let matters = from != published_at && record.nonexistent_policy.is_some();
    let exists = !matters || lookups.exists(from).await?;
    Ok(if exists { Existence::Exists } else { Existence::DoesNotExist })
}
