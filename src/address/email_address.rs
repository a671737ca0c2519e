//! An addr-spec (RFC 5322 section 3.4.1) that has been checked once, and a display name beside it.
//!
//! Promises that no address holds white space, control characters, angle brackets or a second `@` outside
//! quotes. Comparison, hashing and [`EmailAddress::key`] ignore case in both halves; the original spelling stays.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A checked `local-part@domain`. The domain may be an address literal or internationalised.
#[derive(Clone)]
pub struct EmailAddress {
    text: Box<str>,
    at: usize,
}

impl EmailAddress {
    /// Reads an addr-spec. Refused: no or empty halves, more than 254 octets, white space or control
    /// characters, `<>()[]:;,\"` outside a quoted local part or a domain literal, a dot at either end of the
    /// domain or two in a row (a trailing dot hides a domain from DMARC, R10).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_OCTETS {
            return None;
        }
        let at = text.rfind('@')?;
        let (local, domain) = (text.get(..at)?, text.get(at + 1..)?);
        (is_local_part(local) && is_domain(domain)).then(|| Self { text: text.into(), at })
    }

    /// As received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part as received.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The domain as received.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// The form that is compared and indexed: all lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.text.to_lowercase()
    }
}

impl PartialEq for EmailAddress {
    fn eq(&self, other: &Self) -> bool {
        let is_plain = self.text.is_ascii() && other.text.is_ascii();
        self.text.eq_ignore_ascii_case(&other.text) || (!is_plain && self.key() == other.key())
    }
}

impl Eq for EmailAddress {}

impl Hash for EmailAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Addresses are personal: they do not show in logs by accident (R65).
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

/// One entry of From, To, Cc or Reply-To. The name identifies nobody (R10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAddress {
    /// The decoded display name, if there is one.
    pub name: Option<String>,
    /// The address.
    pub address: EmailAddress,
}

/// RFC 5321 section 4.5.3.1.3 with erratum 1690: a path of 256 octets holds an address of 254.
const MAX_OCTETS: usize = 254;

fn is_local_part(local: &str) -> bool {
    if let Some(quoted) = local.strip_prefix('"') {
        return quoted.strip_suffix('"').is_some_and(is_quoted_content);
    }
    !local.is_empty() && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom_char))
}

fn is_quoted_content(inner: &str) -> bool {
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return false,
            '\\' => match chars.next() {
                Some(escaped) if !escaped.is_control() => {}
                Some(_) | None => return false,
            },
            c if c.is_control() => return false,
            _ => {}
        }
    }
    true
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(|inner| {
            !inner.is_empty() && inner.chars().all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c))
        });
    }
    !domain.is_empty() && domain.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    // An underscore is no host name but is seen in the wild; a hyphen may not stand at an end.
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || is_international(c))
}

fn is_atom_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_international(c)
}

/// RFC 6531: any non-ASCII letter; but no separators, controls, or characters that only change direction.
fn is_international(c: char) -> bool {
    !c.is_ascii()
        && !c.is_control()
        && !c.is_whitespace()
        && !matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFFD}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, &str)>) {
        let parsed = EmailAddress::parse(text);
        assert_eq!(parsed.as_ref().map(|a| (a.local_part(), a.domain())), expected, "{text:?}");
    }

    #[test]
    fn an_address_is_split_at_its_last_at_sign() {
        check("ana@patient.test", Some(("ana", "patient.test")));
        check("\"a@b\"@patient.test", Some(("\"a@b\"", "patient.test")));
        check("ana+x=y@[192.0.2.1]", Some(("ana+x=y", "[192.0.2.1]")));
        check("jürgen@bücher.test", Some(("jürgen", "bücher.test")));
    }

    #[test]
    fn r10_what_could_hide_a_second_identity_is_refused() {
        for bad in [
            "",
            "ana",
            "@patient.test",
            "ana@",
            "a b@patient.test",
            "ana@patient.test.",
            "ana@.patient.test",
            "ana@patient..test",
            "ana@x@patient.test",
            "a\0na@patient.test",
            "<ana@patient.test>",
            "ana@pat\nient.test",
            "ana@patient.test(.evil.test)",
            "a\u{202e}na@patient.test",
            ".ana@patient.test",
            "\"a\"b\"@patient.test",
            "ana@-patient.test",
            "ana@[]",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn an_address_of_254_octets_is_taken_and_one_more_is_not() {
        let domain = format!("{}.{}.{}.test", "a".repeat(60), "b".repeat(60), "c".repeat(60));
        let local = "l".repeat(254 - 1 - domain.len());
        assert!(EmailAddress::parse(&format!("{local}@{domain}")).is_some());
        assert!(EmailAddress::parse(&format!("{local}x@{domain}")).is_none());
    }

    #[test]
    fn case_does_not_tell_addresses_apart_but_is_kept() {
        let (a, b) = (EmailAddress::parse("Ana@Patient.test"), EmailAddress::parse("ana@patient.TEST"));
        assert_eq!(a, b);
        assert_eq!(a.map(|a| a.as_str().to_owned()), Some("Ana@Patient.test".to_owned()));
    }
}
