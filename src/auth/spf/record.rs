//! An SPF record as terms (RFC 7208 sections 4.6, 5, 6 and 12). Pure.
//!
//! Promises that a record with an error anywhere is refused whole, before any of it is evaluated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expand;
use crate::auth::AuthResult;

/// A record that may be evaluated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'r> {
    /// In order.
    pub directives: Vec<Directive<'r>>,
    /// The domain-spec of `redirect=`.
    pub redirect: Option<&'r str>,
}

/// What a match of the mechanism means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive<'r> {
    /// From the qualifier.
    pub result: AuthResult,
    /// The mechanism.
    pub mechanism: Mechanism<'r>,
}

/// RFC 7208 section 5. A domain-spec of none is the domain that is being checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mechanism<'r> {
    /// `a`
    A(Option<&'r str>, Prefixes),
    /// `all`
    All,
    /// `exists`
    Exists(&'r str),
    /// `include`
    Include(&'r str),
    /// `ip4` and `ip6`: network and prefix length.
    Ip(IpAddr, u8),
    /// `mx`
    Mx(Option<&'r str>, Prefixes),
    /// `ptr`
    Ptr(Option<&'r str>),
}

/// A dual-cidr-length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefixes {
    /// At most 32.
    pub ipv4: u8,
    /// At most 128.
    pub ipv6: u8,
}

/// The record has an error: the result is permerror.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError;

/// RFC 7208 section 4.5: whether a TXT record is an SPF record at all.
pub(super) fn is_spf(text: &[u8]) -> bool {
    match text.split_at_checked(VERSION.len()) {
        Some((version, rest)) => {
            version.eq_ignore_ascii_case(VERSION) && rest.first().is_none_or(|next| *next == b' ')
        }
        None => false,
    }
}

impl<'r> Record<'r> {
    /// Reads a text of which [`is_spf`] holds.
    pub(super) fn parse(text: &'r str) -> Result<Self, SyntaxError> {
        let mut record = Self { directives: Vec::new(), redirect: None };
        let mut has_explanation = false;
        for term in text.get(VERSION.len()..).unwrap_or_default().split(' ').filter(|term| !term.is_empty()) {
            let Some((name, value)) = modifier(term) else {
                record.directives.push(directive(term)?);
                continue;
            };
            if name.eq_ignore_ascii_case("redirect") {
                if record.redirect.replace(domain_spec(value)?).is_some() {
                    return Err(SyntaxError);
                }
            } else if name.eq_ignore_ascii_case("exp") {
                domain_spec(value)?;
                if std::mem::replace(&mut has_explanation, true) {
                    return Err(SyntaxError);
                }
            } else if !expand::is_macro_string(value) {
                return Err(SyntaxError);
            }
        }
        Ok(record)
    }
}

const VERSION: &[u8] = b"v=spf1";
const HOST: Prefixes = Prefixes { ipv4: 32, ipv6: 128 };

/// `name=value`; a mechanism has `:` or `/` before any `=`.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let mut bytes = name.bytes();
    let is_name = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    is_name.then_some((name, value))
}

fn directive(term: &str) -> Result<Directive<'_>, SyntaxError> {
    let (result, term) = match term.as_bytes().first() {
        Some(b'+') => (AuthResult::Pass, term.get(1..)),
        Some(b'-') => (AuthResult::Fail, term.get(1..)),
        Some(b'~') => (AuthResult::SoftFail, term.get(1..)),
        Some(b'?') => (AuthResult::Neutral, term.get(1..)),
        _ => (AuthResult::Pass, Some(term)),
    };
    let term = term.unwrap_or_default();
    let end = term.find([':', '/']).unwrap_or(term.len());
    let (name, rest) = term.split_at_checked(end).ok_or(SyntaxError)?;
    Ok(Directive { result, mechanism: mechanism(&name.to_ascii_lowercase(), rest)? })
}

fn mechanism<'r>(name: &str, rest: &'r str) -> Result<Mechanism<'r>, SyntaxError> {
    let value = rest.strip_prefix(':');
    Ok(match name {
        "a" => {
            let (domain, prefixes) = optional_domain_and_prefixes(rest)?;
            Mechanism::A(domain, prefixes)
        }
        "all" if rest.is_empty() => Mechanism::All,
        "exists" => Mechanism::Exists(domain_spec(value.ok_or(SyntaxError)?)?),
        "include" => Mechanism::Include(domain_spec(value.ok_or(SyntaxError)?)?),
        "ip4" => {
            let (network, prefix) = network(value.ok_or(SyntaxError)?, HOST.ipv4)?;
            Mechanism::Ip(IpAddr::V4(network.parse::<Ipv4Addr>().map_err(|_| SyntaxError)?), prefix)
        }
        "ip6" => {
            let (network, prefix) = network(value.ok_or(SyntaxError)?, HOST.ipv6)?;
            Mechanism::Ip(IpAddr::V6(network.parse::<Ipv6Addr>().map_err(|_| SyntaxError)?), prefix)
        }
        "mx" => {
            let (domain, prefixes) = optional_domain_and_prefixes(rest)?;
            Mechanism::Mx(domain, prefixes)
        }
        "ptr" if rest.is_empty() => Mechanism::Ptr(None),
        "ptr" => Mechanism::Ptr(Some(domain_spec(value.ok_or(SyntaxError)?)?)),
        _ => return Err(SyntaxError),
    })
}

fn network(value: &str, host: u8) -> Result<(&str, u8), SyntaxError> {
    match value.split_once('/') {
        Some((network, digits)) => Ok((network, prefix_length(digits, host)?)),
        None => Ok((value, host)),
    }
}

/// `[":" domain-spec] [dual-cidr-length]`. A `/` may also stand inside the domain-spec, before a label or the end of a
/// macro, so prefixes are read from the end.
fn optional_domain_and_prefixes(rest: &str) -> Result<(Option<&str>, Prefixes), SyntaxError> {
    let mut prefixes = HOST;
    let mut rest = rest;
    if let Some((before, digits)) = rest.rsplit_once("//")
        && !digits.contains(['}', '.'])
    {
        prefixes.ipv6 = prefix_length(digits, HOST.ipv6)?;
        rest = before;
    }
    if let Some((before, digits)) = rest.rsplit_once('/')
        && !digits.contains(['}', '.'])
    {
        prefixes.ipv4 = prefix_length(digits, HOST.ipv4)?;
        rest = before;
    }
    match rest.strip_prefix(':') {
        Some(spec) => Ok((Some(domain_spec(spec)?), prefixes)),
        None if rest.is_empty() => Ok((None, prefixes)),
        None => Err(SyntaxError),
    }
}

fn prefix_length(digits: &str, host: u8) -> Result<u8, SyntaxError> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|length| is_plain && *length <= host).ok_or(SyntaxError)
}

/// `macro-string domain-end`: it ends in a macro, or in a dot and a label that is no number.
fn domain_spec(spec: &str) -> Result<&str, SyntaxError> {
    if !expand::is_macro_string(spec) {
        return Err(SyntaxError);
    }
    let trimmed = spec.strip_suffix('.').unwrap_or(spec);
    let ends_in_macro = spec.ends_with('}') && spec.rfind("%{").is_some();
    let ends_in_label = trimmed.rsplit_once('.').is_some_and(|(_, label)| is_top_label(label));
    (ends_in_macro || ends_in_label).then_some(spec).ok_or(SyntaxError)
}

fn is_top_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && label.bytes().any(|b| !b.is_ascii_digit())
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&Mechanism<'_>>) {
        let record = Record::parse(text).ok();
        let first = record.and_then(|record| record.directives.into_iter().next()).map(|d| d.mechanism);
        assert_eq!(first.as_ref(), expected, "{text}");
    }

    #[test]
    fn terms_are_read_by_the_grammar_of_section_12() {
        let narrow = Prefixes { ipv4: 24, ipv6: 64 };
        check("v=spf1 a:%{d1r/}.x.test/24//64 -all", Some(&Mechanism::A(Some("%{d1r/}.x.test"), narrow)));
        check("v=spf1 mx/24//64", Some(&Mechanism::Mx(None, narrow)));
        check("v=spf1 ip4:192.0.2.0/24", Some(&Mechanism::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)), 24)));
        check("V=SPF1 PTR:%{d}", Some(&Mechanism::Ptr(Some("%{d}"))));
        for bad in
            ["ipx4:192.0.2.1", "a:museum", "a:x.123", "all:x.test", "ip4:1.2.3", "a/33", "a/024", "include"]
        {
            check(&format!("v=spf1 {bad} -all"), None);
        }
    }

    #[test]
    fn only_the_exact_version_is_spf() {
        assert!(is_spf(b"v=spf1") && is_spf(b"V=spf1 -all"));
        assert!(!is_spf(b"v=spf10 -all") && !is_spf(b"v=spf") && !is_spf(b" v=spf1"));
    }
}
