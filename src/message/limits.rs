//! What a message may have in its header, asked before anything else looks into it.
//!
//! Promises an answer in one pass over no more than [`MAX_HEADER_OCTETS`], and no memory for the message's words: who
//! has asked may read any field as often as needed. The rest of the structure is judged in `scan`.

use super::TooComplex;
use super::fields::{Limits, read_block_within};

/// Whether the header block is within its limits: octets and fields (SMTP.md H1, M9), DKIM signatures and the names in
/// `h=` of each (H2, H3). For a message as received, without the trace fields that we add.
///
/// # Errors
/// The first limit that it breaks.
pub fn check_header(raw: &[u8]) -> Result<(), TooComplex> {
    let (top, _) = read_block_within(raw, 0, |_| false, Limits::RECEIVED)?;
    let mut signatures = 0;
    for value in top.all("dkim-signature") {
        signatures += 1;
        if signatures > MAX_SIGNATURES {
            return Err(TooComplex { what: "DKIM signatures", limit: MAX_SIGNATURES });
        }
        if signed_names(value) > MAX_SIGNED_NAMES {
            return Err(TooComplex { what: "names in h= of a DKIM signature", limit: MAX_SIGNED_NAMES });
        }
    }
    Ok(())
}

/// The names in `h=`; in the longest, where a malformed signature has several.
fn signed_names(value: &[u8]) -> usize {
    let lists = value.split(|octet| *octet == b';').filter_map(|tag| {
        let equals = memchr::memchr(b'=', tag)?;
        (tag.get(..equals)?.trim_ascii() == b"h").then(|| memchr::memchr_iter(b':', tag).count() + 1)
    });
    lists.max().unwrap_or(0)
}

/// SMTP.md H3.
pub(crate) const MAX_SIGNATURES: usize = 10;
/// SMTP.md H2: verification grows with names times fields.
pub(crate) const MAX_SIGNED_NAMES: usize = 200;

#[cfg(test)]
mod tests {
    use super::super::fields::{MAX_FIELDS, MAX_HEADER_OCTETS};
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Option<&'static str>) {
        assert_eq!(check_header(raw.as_bytes()).err().map(|refused| refused.what), expected);
    }

    #[test]
    fn h3_ten_signatures_are_taken_and_one_more_is_refused() {
        let signed =
            |count: usize| format!("{}From: a@b.test\r\n\r\nx", "DKIM-Signature : v=1\r\n".repeat(count));
        check(&signed(MAX_SIGNATURES), None);
        check(&signed(MAX_SIGNATURES + 1), Some("DKIM signatures"));
        check(&format!("From: a@b.test\r\n\r\n{}", "DKIM-Signature: v=1\r\n".repeat(11)), None);
    }

    #[test]
    fn h2_two_hundred_signed_names_are_taken_and_one_more_is_refused() {
        let signed = |count: usize| {
            let names = vec!["x"; count].join(":\r\n ");
            format!("DKIM-Signature: v=1; bh=a:b;\r\n h =\t{names}; d=b.test\r\nFrom: a@b.test\r\n\r\nx")
        };
        check(&signed(MAX_SIGNED_NAMES), None);
        check(&signed(MAX_SIGNED_NAMES + 1), Some("names in h= of a DKIM signature"));
    }

    #[test]
    fn m9_fields_and_octets_are_counted_of_the_header_alone() {
        let fields = |count: usize| format!("{}\r\nA: b\r\nA: b\r\n", "A: b\r\n".repeat(count));
        check(&fields(MAX_FIELDS), None);
        check(&fields(MAX_FIELDS + 1), Some("header fields"));
        let octets =
            |count: usize| format!("A: {}\r\n\r\n{}", "b".repeat(count - 7), "x".repeat(MAX_HEADER_OCTETS));
        check(&octets(MAX_HEADER_OCTETS), None);
        check(&octets(MAX_HEADER_OCTETS + 1), Some("octets of header"));
    }
}
