//! The signature fields of DKIM (RFC 6376 section 3.5) and ARC (RFC 8617 section 4.1), read strictly. Pure.
//!
//! Promises that what a signature says without the DNS has been judged before anything is looked up: a signature that
//! R11 does not count never costs a query.

use mail_auth::common::crypto::Algorithm;
use mail_auth::dkim::Canonicalization;

use super::tags::Tags;
use super::{AuthResult, domain};
use crate::message::MAX_SIGNED_NAMES;

/// What a DKIM-Signature, an ARC-Message-Signature or an ARC-Seal holds.
#[derive(Debug)]
pub(super) struct Signature {
    /// `d=`, normalised.
    pub domain: String,
    /// `s=`, normalised.
    pub selector: String,
    /// `a=`
    pub algorithm: Algorithm,
    /// `b=`
    pub signature: Vec<u8>,
    /// What it says of the content; none in an ARC-Seal, which covers ARC fields alone.
    pub content: Option<Content>,
    /// Domain of `i=` (DKIM only), where it is not `d=` itself.
    pub identity_domain: Option<String>,
    /// `i=` of ARC; 0 in DKIM.
    pub instance: usize,
    /// The value of the field with `b=` emptied and without the last line end: the last thing that is signed.
    pub unsigned_value: Vec<u8>,
}

/// What a signature covers.
#[derive(Debug)]
pub(super) struct Content {
    /// `c=`, before the slash.
    pub header: Canonicalization,
    /// `c=`, after the slash.
    pub body: Canonicalization,
    /// `bh=`
    pub body_hash: Vec<u8>,
    /// `l=`: octets of the canonical body.
    pub length: Option<u64>,
    /// `h=`, in lower case.
    pub signed_fields: Vec<String>,
}

/// A signature that is not worth a look-up, and as much of it as could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub domain: String,
    pub selector: String,
    pub signed_fields: Vec<String>,
    pub result: AuthResult,
    pub why: &'static str,
}

/// Which field it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ARC-Message-Signature
    ArcMessage,
    /// ARC-Seal
    ArcSeal,
    /// DKIM-Signature
    Dkim,
}

/// How far a signer's clock may run ahead of ours.
pub(super) const CLOCK_SKEW_SECONDS: u64 = 300;

impl Signature {
    /// Reads and judges a field value at `now` (Unix seconds).
    pub(super) fn parse(kind: Kind, value: &[u8], now: u64) -> Result<Self, Refused> {
        let syntax = |why| Refused {
            domain: String::new(),
            selector: String::new(),
            signed_fields: Vec::new(),
            result: AuthResult::PermError,
            why,
        };
        let tags = Tags::parse(value).ok_or_else(|| syntax("no tag list"))?;
        let name = |tag| tags.text(tag).and_then(|text| domain::normalised(&text));
        let domain = name("d").ok_or_else(|| syntax("d= is no domain"))?;
        let selector = name("s").ok_or_else(|| syntax("s= is no selector"))?;
        let signed_fields =
            if kind == Kind::ArcSeal { Vec::new() } else { tags.parts("h").unwrap_or_default() };
        let read = || {
            let content = match kind {
                Kind::ArcSeal => no_content(&tags)?,
                Kind::ArcMessage | Kind::Dkim => Some(content(kind, &tags, &signed_fields)?),
            };
            check_times(&tags, now)?;
            Ok(Self {
                algorithm: algorithm(&tags)?,
                signature: tags.base64("b").ok_or(permanent("b= is no base64"))?,
                content,
                identity_domain: if kind == Kind::Dkim { identity(&tags, &domain)? } else { None },
                instance: if kind == Kind::Dkim { version(&tags)? } else { instance(&tags)? },
                unsigned_value: without_signature(value),
                domain: domain.clone(),
                selector: selector.clone(),
            })
        };
        read().map_err(|(result, why)| Refused {
            domain: domain.clone(),
            selector: selector.clone(),
            signed_fields: signed_fields.clone(),
            result,
            why,
        })
    }
}

type Refusal = (AuthResult, &'static str);

const fn permanent(why: &'static str) -> Refusal {
    (AuthResult::PermError, why)
}

fn version(tags: &Tags<'_>) -> Result<usize, Refusal> {
    if tags.value("v") == Some(b"1") { Ok(0) } else { Err(permanent("v= is not 1")) }
}

fn instance(tags: &Tags<'_>) -> Result<usize, Refusal> {
    let number = tags.number("i").ok().flatten().and_then(|number| usize::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or(permanent("i= is no instance"))
}

/// RFC 8301 section 3.1: rsa-sha1 proves nothing.
fn algorithm(tags: &Tags<'_>) -> Result<Algorithm, Refusal> {
    match tags.text("a").map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("rsa-sha256") => Ok(Algorithm::RsaSha256),
        Some("ed25519-sha256") => Ok(Algorithm::Ed25519Sha256),
        Some("rsa-sha1") => Err(permanent("rsa-sha1 counts for nothing")),
        _ => Err(permanent("a= is unknown")),
    }
}

fn check_times(tags: &Tags<'_>, now: u64) -> Result<(), Refusal> {
    let time = |tag| tags.number(tag).map_err(|_| permanent("t= or x= is no time"));
    let (signed_at, expires) = (time("t")?, time("x")?);
    if signed_at.is_some_and(|t| t > now.saturating_add(CLOCK_SKEW_SECONDS)) {
        return Err((AuthResult::Fail, "signed in the future"));
    }
    match expires {
        Some(x) if signed_at.is_some_and(|t| x <= t) => Err(permanent("expires before it is signed")),
        Some(x) if x < now => Err(permanent("expired")),
        _ => Ok(()),
    }
}

/// RFC 6376 section 6.1.1: `i=` must be in `d=` or below it; else anybody could print another's name.
fn identity(tags: &Tags<'_>, domain: &str) -> Result<Option<String>, Refusal> {
    if tags.value("i").is_none() {
        return Ok(None);
    }
    let text = tags.text("i").unwrap_or_default();
    let found = text.rsplit_once('@').and_then(|(_, found)| domain::normalised(found));
    match found.filter(|found| domain::is_at_or_below(found, domain)) {
        Some(found) => Ok((found != domain).then_some(found)),
        None => Err(permanent("i= is outside d=")),
    }
}

fn no_content(tags: &Tags<'_>) -> Result<Option<Content>, Refusal> {
    if tags.value("h").is_some() || tags.value("bh").is_some() {
        return Err(permanent("a seal covers no content"));
    }
    Ok(None)
}

fn content(kind: Kind, tags: &Tags<'_>, signed_fields: &[String]) -> Result<Content, Refusal> {
    if signed_fields.len() > MAX_SIGNED_NAMES {
        return Err(permanent("too many fields in h="));
    }
    if !signed_fields.iter().any(|name| name == "from") {
        return Err(permanent("From is not signed"));
    }
    if kind == Kind::ArcMessage && signed_fields.iter().any(|name| name == "arc-seal") {
        return Err(permanent("h= names ARC-Seal"));
    }
    if tags.parts("q").is_some_and(|methods| !methods.iter().any(|method| method == "dns/txt")) {
        return Err(permanent("q= is unknown"));
    }
    let (header, body) = canonicalizations(tags)?;
    Ok(Content {
        header,
        body,
        body_hash: tags.base64("bh").ok_or(permanent("bh= is no base64"))?,
        length: tags.number("l").map_err(|_| permanent("l= is no number"))?,
        signed_fields: signed_fields.to_vec(),
    })
}

fn canonicalizations(tags: &Tags<'_>) -> Result<(Canonicalization, Canonicalization), Refusal> {
    let text = tags.text("c").map(|text| text.to_ascii_lowercase());
    let text = text.as_deref().unwrap_or("simple/simple");
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    let one = |word| match word {
        "relaxed" => Ok(Canonicalization::Relaxed),
        "simple" => Ok(Canonicalization::Simple),
        _ => Err(permanent("c= is unknown")),
    };
    Ok((one(header)?, one(body)?))
}

/// RFC 6376 section 3.7: the value of `b=` deleted with the white space around it, and no final line end.
fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut rest = Vec::with_capacity(value.len());
    for (n, part) in value.split(|b| *b == b';').enumerate() {
        if n > 0 {
            rest.push(b';');
        }
        let equals = memchr::memchr(b'=', part);
        match equals.and_then(|equals| part.split_at_checked(equals + 1)) {
            Some((name, _)) if is_b(name) => rest.extend_from_slice(name),
            _ => rest.extend_from_slice(part),
        }
    }
    let end =
        rest.strip_suffix(b"\n").map_or(rest.len(), |rest| rest.strip_suffix(b"\r").unwrap_or(rest).len());
    rest.truncate(end);
    rest
}

fn is_b(name_and_equals: &[u8]) -> bool {
    name_and_equals.strip_suffix(b"=").is_some_and(|name| name.trim_ascii() == b"b")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "v=1; a=rsa-sha256; d=Example.test; s=k; h=From:Subject; bh=Zm9v; b=Zm9v; t=1000; x=2000";

    #[track_caller]
    fn refused(value: &str, why: &str) {
        let refused = Signature::parse(Kind::Dkim, value.as_bytes(), 1500).unwrap_err();
        assert_eq!(refused.why, why, "{value}");
    }

    #[test]
    fn a_signature_is_read_and_names_compare_in_lower_case() {
        let signature = Signature::parse(Kind::Dkim, GOOD.as_bytes(), 1500).unwrap();
        assert_eq!(signature.domain, "example.test");
        assert_eq!(signature.content.unwrap().signed_fields, ["from", "subject"]);
    }

    #[test]
    fn h8_a_signature_that_does_not_cover_from_counts_for_nothing() {
        refused(&GOOD.replace("From:", "Date:"), "From is not signed");
    }

    #[test]
    fn h9_an_identity_outside_the_signing_domain_is_refused() {
        refused(&format!("{GOOD}; i=ceo@victim.test"), "i= is outside d=");
        refused(&format!("{GOOD}; i=ceo@badexample.test"), "i= is outside d=");
        assert!(Signature::parse(Kind::Dkim, format!("{GOOD}; i=@a.example.test").as_bytes(), 1500).is_ok());
    }

    #[test]
    fn h2_two_hundred_signed_fields_are_taken_and_one_more_is_not() {
        let names = |count: usize| GOOD.replace("Subject", &vec!["x"; count - 1].join(":"));
        assert!(Signature::parse(Kind::Dkim, names(MAX_SIGNED_NAMES).as_bytes(), 1500).is_ok());
        refused(&names(MAX_SIGNED_NAMES + 1), "too many fields in h=");
    }

    #[test]
    fn e10_what_is_missing_malformed_or_out_of_date_is_refused() {
        refused(&GOOD.replace("v=1", "v=2"), "v= is not 1");
        refused(&GOOD.replace("v=1; ", ""), "v= is not 1");
        refused(&GOOD.replace("rsa-sha256", "rsa-sha1"), "rsa-sha1 counts for nothing");
        refused(&GOOD.replace("a=rsa-sha256; ", ""), "a= is unknown");
        refused(&GOOD.replace("bh=Zm9v; ", ""), "bh= is no base64");
        refused(&GOOD.replace("; b=Zm9v", ""), "b= is no base64");
        refused(&GOOD.replace("s=k", "s=k(x"), "s= is no selector");
        refused(&GOOD.replace("d=Example.test", "d=a;d=b"), "no tag list");
        refused(&GOOD.replace("x=2000", "x=1000"), "expires before it is signed");
        refused(&GOOD.replace("x=2000", "x=1499"), "expired");
        let expired = Signature::parse(Kind::Dkim, GOOD.as_bytes(), 2001).unwrap_err();
        assert_eq!((expired.why, expired.result), ("expired", AuthResult::PermError));
        refused(&GOOD.replace("t=1000", "t=1801").replace("; x=2000", ""), "signed in the future");
        refused(&format!("{GOOD}; c=relaxed/odd"), "c= is unknown");
        refused(&format!("{GOOD}; q=http"), "q= is unknown");
        refused(&format!("{GOOD}; l=x"), "l= is no number");
    }

    #[test]
    fn only_the_value_of_b_is_taken_out() {
        let value = b" bh=YmI=; b=AB\r\n CD ;\r\n d=x.test\r\n";
        assert_eq!(without_signature(value), b" bh=YmI=; b=;\r\n d=x.test");
        assert_eq!(without_signature(b"a=1; b = AB=\r\n"), b"a=1; b =");
    }
}
