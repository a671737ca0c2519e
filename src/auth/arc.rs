//! ARC (RFC 8617): has each forwarder sealed what it found, unbroken up to us?
//!
//! Promises at most [`MAX_SETS`] sets. A chain that does not verify is a fail for good (section 5.2.1); only a key that
//! could not be fetched is a temperror. Who is trusted, and what follows, is for `filing` (R11, R13).

use mail_auth::dkim::Canonicalization;

use super::content::Content;
use super::dkim::{Fault, check, check_key};
use super::dns::Lookups;
use super::fields::Field;
use super::results::Results;
use super::signature::{Kind, Signature};
use super::tags::Tags;
use super::{Arc, AuthResult, domain};

/// RFC 8617 section 4.2.1: a larger instance makes the chain invalid.
pub(super) const MAX_SETS: usize = 50;

/// Verifies the chain of a message whose normalised From domain is `from`. `now` in Unix seconds.
pub(super) async fn verify(
    lookups: &Lookups<'_>,
    content: &Content<'_>,
    from: Option<&str>,
    now: u64,
) -> Arc {
    let is_arc = |field: &&Field<'_>| {
        field.is("ARC-Seal") || field.is("ARC-Message-Signature") || field.is("ARC-Authentication-Results")
    };
    let failed = |result| Arc { result, last_sealer: None, attests_dmarc_pass: false };
    // One field more than the largest chain has makes an incomplete set, and thereby a broken chain.
    let fields: Vec<Field<'_>> =
        content.fields.iter().filter(is_arc).take(MAX_SETS * 3 + 1).copied().collect();
    if fields.is_empty() {
        return failed(AuthResult::None);
    }
    let Some(sets) = sets(&fields, now) else { return failed(AuthResult::Fail) };
    let Some(last) = sets.last() else { return failed(AuthResult::Fail) };
    let sealed = |result| Arc {
        result,
        last_sealer: Some(last.seal.domain.clone()),
        attests_dmarc_pass: last.results.says("dmarc", "pass") && speaks_of(&last.results, from),
    };
    match check_chain(lookups, content, &sets).await {
        Ok(()) => sealed(AuthResult::Pass),
        // What it would attest is known: whether that counts is not, for now (R14).
        Err((AuthResult::TempError, _)) => sealed(AuthResult::TempError),
        Err(_) => failed(AuthResult::Fail),
    }
}

/// Whether the sealer's DMARC result was for this From domain: a forwarder who rewrites From has judged another. A
/// result that names no domain may have been for any (R11).
fn speaks_of(results: &Results, from: Option<&str>) -> bool {
    let mut judged = results.values("dmarc", "header.from").peekable();
    judged.peek().is_some()
        && judged.all(|value| {
            let domain = value.rsplit_once('@').map_or(value, |(_, domain)| domain);
            from.is_some() && domain::normalised(domain).as_deref() == from
        })
}

struct Set<'m> {
    seal: Signature,
    seal_field: Field<'m>,
    message_field: Field<'m>,
    message: Signature,
    results_field: Field<'m>,
    results: Results,
}

/// The sets from 1 up; none where a field is malformed, missing, doubled or out of range, or a seal says other than
/// that the chain was good so far (section 5.2).
fn sets<'m>(fields: &[Field<'m>], now: u64) -> Option<Vec<Set<'m>>> {
    let count = fields.len() / 3;
    if fields.len() != count * 3 {
        return None;
    }
    let mut seals: Vec<Option<(Signature, Field<'m>)>> = (0..count).map(|_| None).collect();
    let mut messages: Vec<Option<(Signature, Field<'m>)>> = (0..count).map(|_| None).collect();
    let mut results: Vec<Option<(Results, Field<'m>)>> = (0..count).map(|_| None).collect();
    for field in fields {
        let is_first = if field.is("ARC-Seal") {
            let seal = Signature::parse(Kind::ArcSeal, field.value, now).ok()?;
            let expected: &[u8] = if seal.instance == 1 { b"none" } else { b"pass" };
            if Tags::parse(field.value)?.value("cv")? != expected {
                return None;
            }
            let slot = seals.get_mut(seal.instance.checked_sub(1)?)?;
            slot.replace((seal, *field)).is_none()
        } else if field.is("ARC-Message-Signature") {
            let message = Signature::parse(Kind::ArcMessage, field.value, now).ok()?;
            messages.get_mut(message.instance.checked_sub(1)?)?.replace((message, *field)).is_none()
        } else {
            let (instance, found) = Results::parse_arc(field.value);
            results.get_mut(instance?.checked_sub(1)?)?.replace((found, *field)).is_none()
        };
        if !is_first {
            return None;
        }
    }
    seals.into_iter().zip(messages).zip(results).map(set).collect()
}

type Parts<'m> =
    ((Option<(Signature, Field<'m>)>, Option<(Signature, Field<'m>)>), Option<(Results, Field<'m>)>);

fn set<'m>(((seal, message), results): Parts<'m>) -> Option<Set<'m>> {
    let ((seal, seal_field), (message, message_field), (results, results_field)) =
        (seal?, message?, results?);
    Some(Set { seal, seal_field, message_field, message, results_field, results })
}

/// The newest message signature must fit the message, and every seal all that stood before it.
async fn check_chain(lookups: &Lookups<'_>, content: &Content<'_>, sets: &[Set<'_>]) -> Result<(), Fault> {
    if let Some(last) = sets.last() {
        check(lookups, content, &last.message, last.message_field.name).await?;
    }
    for (n, set) in sets.iter().enumerate().rev() {
        let mut sealed = Vec::with_capacity(n * 3 + 3);
        for earlier in sets.iter().take(n) {
            sealed.extend([earlier.results_field, earlier.message_field, earlier.seal_field].map(pair));
        }
        sealed.extend([set.results_field, set.message_field].map(pair));
        sealed.push((set.seal_field.name, &set.seal.unsigned_value));
        check_key(lookups, &set.seal, Canonicalization::Relaxed, &sealed).await?;
    }
    Ok(())
}

const fn pair<'m>(field: Field<'m>) -> (&'m [u8], &'m [u8]) {
    (field.name, field.value)
}
