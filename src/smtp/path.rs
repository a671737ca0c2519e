//! Reverse-paths and forward-paths (RFC 5321 section 4.1.2): `<` mailbox `>`, with the old source routes stripped.
//!
//! Promises that a quoted `>` or space does not end a path, that `<postmaster>` is no empty address, and that
//! what is returned has passed [`EmailAddress::parse`] and has a local part of at most 64 octets.

use crate::address::EmailAddress;
use crate::smtp::ForwardPath;

/// RFC 5321 section 4.5.3.1.1.
pub const MAX_LOCAL_PART_OCTETS: usize = 64;

/// Reads a reverse-path from the front: the address (none for `<>`), and what follows the bracket.
#[must_use]
pub fn reverse_path(text: &str) -> Option<(Option<EmailAddress>, &str)> {
    let (inner, rest) = bracketed(text)?;
    if inner.is_empty() {
        return Some((None, rest));
    }
    Some((Some(mailbox(inner)?), rest))
}

/// Reads a forward-path from the front: an address or `postmaster`, and what follows the bracket.
#[must_use]
pub fn forward_path(text: &str) -> Option<(ForwardPath, &str)> {
    let (inner, rest) = bracketed(text)?;
    // RFC 5321 section 4.1.1.3: the only recipient without a domain.
    if inner.eq_ignore_ascii_case("postmaster") {
        return Some((ForwardPath::Postmaster, rest));
    }
    Some((ForwardPath::Address(mailbox(inner)?), rest))
}

/// Splits `<inner>` from what follows.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let opened = text.strip_prefix('<')?;
    let mut quoting = Quoting::Outside;
    for (at, c) in opened.char_indices() {
        quoting = match (quoting, c) {
            (Quoting::Outside, '>') => return Some((opened.get(..at)?, opened.get(at + 1..)?)),
            (Quoting::Outside, '"') | (Quoting::Escaped, _) => Quoting::Inside,
            (Quoting::Inside, '"') => Quoting::Outside,
            (Quoting::Inside, '\\') => Quoting::Escaped,
            (Quoting::Outside | Quoting::Inside, _) => quoting,
        };
    }
    None
}

#[derive(Clone, Copy)]
enum Quoting {
    Escaped,
    Inside,
    Outside,
}

fn mailbox(inner: &str) -> Option<EmailAddress> {
    let address = EmailAddress::parse(without_source_route(inner)?)?;
    (address.local_part().len() <= MAX_LOCAL_PART_OCTETS).then_some(address)
}

/// RFC 5321 section 4.1.1.3 and appendix C: `@a,@b:` is recognised and ignored.
fn without_source_route(inner: &str) -> Option<&str> {
    if !inner.starts_with('@') {
        return Some(inner);
    }
    let (route, mailbox) = inner.split_once(':')?;
    route.split(',').all(|hop| hop.strip_prefix('@').is_some_and(is_domain)).then_some(mailbox)
}

fn is_domain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, address: Option<&str>, rest: &str) {
        let read = reverse_path(text).map(|(path, rest)| (path.map(|a| a.as_str().to_owned()), rest));
        assert_eq!(read, Some((address.map(str::to_owned), rest)), "{text:?}");
    }

    #[test]
    fn c1_c2_the_null_path_and_source_routes_are_read() {
        check("<>", None, "");
        check("<> SIZE=1", None, " SIZE=1");
        check("<@a.test,@b.test:u@d.test>", Some("u@d.test"), "");
        check("<\"a > b\\\" @\"@d.test> BODY=7BIT", Some("\"a > b\\\" @\"@d.test"), " BODY=7BIT");
        check("<a@[127.0.0.1]>", Some("a@[127.0.0.1]"), "");
        check("<a@[IPv6:2001:db8::1]>", Some("a@[IPv6:2001:db8::1]"), "");
    }

    #[test]
    fn c4_what_is_no_path_is_refused() {
        for bad in
            ["u@d.test", "<u@d.test", "< >", "<u>", "<@>", "<@a:>", "<@a;u@d.test>", "<\"u@d.test>", ""]
        {
            assert_eq!(reverse_path(bad), None, "{bad:?}");
            assert_eq!(forward_path(bad), None, "{bad:?}");
        }
        assert_eq!(forward_path("<>"), None);
        assert_eq!(reverse_path("<postmaster>"), None);
    }

    #[test]
    fn c16_postmaster_needs_no_domain_in_any_case() {
        for text in ["<postmaster>", "<POSTMASTER>", "<PostMaster>"] {
            assert_eq!(forward_path(text), Some((ForwardPath::Postmaster, "")), "{text}");
        }
    }

    #[test]
    fn c6_c7_a_local_part_of_64_octets_is_taken_and_one_more_is_not() {
        let path = |octets: usize| format!("<{}@d.test>", "l".repeat(octets));
        assert!(reverse_path(&path(MAX_LOCAL_PART_OCTETS)).is_some());
        assert!(reverse_path(&path(MAX_LOCAL_PART_OCTETS + 1)).is_none());
    }
}
