//! DKIM (RFC 6376, 8301, 8463): which domains vouch for From and the whole body of a message?
//!
//! Canonical form and cryptography are mail-auth's; which signatures count (R11) is decided here and in `signature`.
//! Promises at most [`MAX_SIGNATURES`] signatures from the top (SMTP.md H3), each with one look-up, side by side: a
//! message as received has no more, and of one inside it the rest count as none.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use mail_auth::common::crypto::{Algorithm, CryptoError};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::Canonicalization;
use mail_auth::dkim::DkimError;

use super::content::{Content, where_it_may_block};
use super::dns::{Failure, Lookups, Purpose};
use super::signature::{Kind, Refused, Signature};
use super::tags::Tags;
use super::{AuthResult, Dkim};
use crate::message::MAX_SIGNATURES;

/// Verifies the signatures of a message, in header order. `now` in Unix seconds.
pub(super) async fn verify(lookups: &Lookups<'_>, content: &Content<'_>, now: u64) -> Vec<Dkim> {
    let fields = content.fields.iter().filter(|field| field.is("DKIM-Signature")).take(MAX_SIGNATURES);
    let checks = fields.map(|field| async move {
        match Signature::parse(Kind::Dkim, field.value, now) {
            Ok(signature) => {
                let checked = check(lookups, content, &signature, field.name).await;
                reported(signature, checked)
            }
            Err(refused) => ignored(refused),
        }
    });
    side_by_side(checks.collect()).await
}

/// Why a signature is no pass.
pub(super) type Fault = (AuthResult, &'static str);

/// Whether one signature over the content holds, and counts. `field_name` is the name of its own field.
pub(super) async fn check(
    lookups: &Lookups<'_>,
    content: &Content<'_>,
    signature: &Signature,
    field_name: &[u8],
) -> Result<(), Fault> {
    let covers = signature.content.as_ref().ok_or((AuthResult::PermError, "covers no content"))?;
    let body = content.body_digest(covers.body);
    // SMTP.md H14: what stands behind l= is anybody's.
    match covers.length {
        Some(length) if length < body.octets => {
            return Err((AuthResult::Neutral, "l= leaves a part of the body unsigned"));
        }
        Some(length) if length > body.octets => {
            return Err((AuthResult::PermError, "l= is longer than the body"));
        }
        Some(_) | None => {}
    }
    if covers.body_hash != body.sha256 {
        return Err((AuthResult::Fail, "the body has changed"));
    }
    let mut signed = content.signed(&covers.signed_fields);
    signed.push((field_name, &signature.unsigned_value));
    check_key(lookups, signature, covers.header, &signed).await
}

/// Whether the signer's key made this signature of these fields.
///
/// A selector should have one record (RFC 6376 section 3.6.2.2); of several, as during a change of keys, one that
/// fits will do: all of them are the domain's.
pub(super) async fn check_key(
    lookups: &Lookups<'_>,
    signature: &Signature,
    header: Canonicalization,
    signed: &[(&[u8], &[u8])],
) -> Result<(), Fault> {
    let name = format!("{}._domainkey.{}", signature.selector, signature.domain);
    let mut records = match lookups.txt(&name, Purpose::Other).await {
        Ok(records) => records,
        Err(Failure::NoDomain | Failure::NoRecord) => return Err((AuthResult::PermError, "there is no key")),
        // Nobody may call a signature bad that nobody has looked at.
        Err(Failure::OverBudget) => return Err((AuthResult::TempError, "too many look-ups")),
        Err(Failure::Temporary) => return Err((AuthResult::TempError, "the key could not be fetched")),
    };
    records.sort_unstable();
    let mut result = Err((AuthResult::PermError, "there is no key"));
    for record in records.iter().take(MAX_KEY_RECORDS) {
        result = verify_with(record, signature, header, signed);
        if result.is_ok() {
            break;
        }
    }
    result
}

const MAX_KEY_RECORDS: usize = 3;
/// RFC 8301 section 3.2.
const MIN_RSA_BITS: usize = 1024;
/// Above, nobody's key is; verification would only cost.
const RSA_BITS: std::ops::RangeInclusive<usize> = MIN_RSA_BITS..=8192;

fn verify_with(
    record: &[u8],
    signature: &Signature,
    header: Canonicalization,
    signed: &[(&[u8], &[u8])],
) -> Result<(), Fault> {
    let is_testing = judge_record(record, signature)?;
    let key = DomainKey::parse(record).map_err(|error| {
        let is_revoked = error == mail_auth::Error::Dkim(DkimError::RevokedPublicKey);
        (AuthResult::PermError, if is_revoked { "the key is revoked" } else { "the key is malformed" })
    })?;
    match key.p.public_key_bits() {
        bits if signature.algorithm != Algorithm::RsaSha256 || RSA_BITS.contains(&bits) => {}
        bits if bits < MIN_RSA_BITS => {
            return Err((AuthResult::PermError, "the key has fewer than 1024 bits"));
        }
        _ => return Err((AuthResult::PermError, "the key is longer than 8192 bits")),
    }
    let octets = signed.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut fields = signed.iter().copied();
    let verify = || key.p.verify(&mut fields, &signature.signature, header, signature.algorithm);
    match where_it_may_block(octets, verify) {
        // RFC 6376 section 3.6.1: a signer who only tries is treated as one who does not sign.
        Ok(()) if is_testing => Err((AuthResult::Neutral, "the key is for testing")),
        Ok(()) => Ok(()),
        Err(mail_auth::Error::Crypto(CryptoError::IncompatibleAlgorithms)) => {
            Err((AuthResult::PermError, "the key is of another algorithm"))
        }
        Err(_) => Err((AuthResult::Fail, "the signature does not fit")),
    }
}

/// The tags of a key record that the library passes over (RFC 6376 section 3.6.1); whether the key is for testing.
fn judge_record(record: &[u8], signature: &Signature) -> Result<bool, Fault> {
    let tags = Tags::parse(record).ok_or((AuthResult::PermError, "the key is malformed"))?;
    if tags.value("v").is_some_and(|version| version != b"DKIM1" || tags.first() != Some(b"v")) {
        return Err((AuthResult::PermError, "the key is malformed"));
    }
    let lists = |tag, allowed: &[&str]| {
        tags.parts(tag).is_none_or(|parts| parts.iter().any(|part| allowed.contains(&part.as_str())))
    };
    if !lists("h", &["sha256"]) {
        return Err((AuthResult::PermError, "the key is not for sha256"));
    }
    if !lists("s", &["*", "email"]) {
        return Err((AuthResult::PermError, "the key is not for email"));
    }
    let flags = tags.parts("t").unwrap_or_default();
    if signature.identity_domain.is_some() && flags.iter().any(|flag| flag == "s") {
        return Err((AuthResult::PermError, "i= is below d="));
    }
    Ok(flags.iter().any(|flag| flag == "y"))
}

fn reported(signature: Signature, checked: Result<(), Fault>) -> Dkim {
    let (result, why) = match checked {
        Ok(()) => (AuthResult::Pass, None),
        Err((result, why)) => (result, Some(why.to_owned())),
    };
    let signed_fields = signature.content.map(|content| content.signed_fields).unwrap_or_default();
    Dkim { domain: signature.domain, selector: signature.selector, result, why, signed_fields }
}

fn ignored(refused: Refused) -> Dkim {
    let Refused { domain, selector, signed_fields, result, why } = refused;
    Dkim { domain, selector, result, why: Some(why.to_owned()), signed_fields }
}

/// Waits for all of them together; the results are in their order.
async fn side_by_side<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<(Pin<Box<_>>, Option<T>)> =
        futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut is_ready = true;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *done = Some(output),
                    Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}
