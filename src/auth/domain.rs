//! Domain names as authentication compares them: lower case, A-labels, no trailing dot. Pure.

use std::borrow::Cow;

use hickory_resolver::proto::rr::Name;

/// RFC 1035 section 2.3.4, without the trailing dot.
pub(super) const MAX_OCTETS: usize = 253;

/// The form that is looked up and compared (RFC 5890 A-labels, lower case); none for what is no host-like name of
/// letters, digits, hyphens and underscores, such as an address literal.
pub(super) fn normalised(domain: &str) -> Option<String> {
    let ascii: Cow<'_, str> = if domain.is_ascii() {
        Cow::Borrowed(domain)
    } else {
        Cow::Owned(Name::from_utf8(domain).ok()?.to_ascii())
    };
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
    let is_name = ascii.len() <= MAX_OCTETS && ascii.split('.').all(is_label);
    is_name.then(|| ascii.to_ascii_lowercase())
}

/// Whether `domain` is `ancestor` or lies below it. Both normalised.
pub(super) fn is_at_or_below(domain: &str, ancestor: &str) -> bool {
    domain
        .strip_suffix(ancestor)
        .is_some_and(|rest| !ancestor.is_empty() && (rest.is_empty() || rest.ends_with('.')))
}

/// The name without its leftmost label; none for a single label.
pub(super) fn parent(domain: &str) -> Option<&str> {
    domain.split_once('.').map(|(_, rest)| rest).filter(|rest| !rest.is_empty())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h15_a_u_label_becomes_an_a_label() {
        assert_eq!(normalised("Bücher.Test").as_deref(), Some("xn--bcher-kva.test"));
        assert_eq!(normalised("Example.TEST.").as_deref(), Some("example.test"));
        for no_name in ["", "[192.0.2.1]", "a..test", ".test", "a b.test", "a;b.test", &"x".repeat(64)] {
            assert_eq!(normalised(no_name), None, "{no_name}");
        }
    }

    #[test]
    fn below_means_whole_labels() {
        assert!(is_at_or_below("a.example.test", "example.test"));
        assert!(is_at_or_below("example.test", "example.test"));
        assert!(!is_at_or_below("badexample.test", "example.test"));
        assert!(!is_at_or_below("test", "example.test"));
    }
}
