//! What signatures cover: the fields of a message, in the order of `h=`, and the digest of its canonical body.
//!
//! Promises that a body is digested at most once for each canonicalization, and off the reactor where it is large.

use std::sync::OnceLock;

use aws_lc_rs::digest::{Context, SHA256};
use mail_auth::common::headers::{Writable, Writer};
use mail_auth::dkim::Canonicalization;

use super::fields::{Field, Fields};

/// A message cut for verification.
pub(super) struct Content<'m> {
    /// The header block.
    pub fields: Vec<Field<'m>>,
    body: &'m [u8],
    relaxed: OnceLock<BodyDigest>,
    simple: OnceLock<BodyDigest>,
}

/// The digest of a canonical body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyDigest {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Octets of the canonical body, which `l=` counts.
    pub octets: u64,
}

/// A header block that no signature is verified in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Fields of one message (SMTP.md H2).
pub(super) const MAX_FIELDS: usize = 1000;
/// Octets of one header block: each signature may have most of it hashed.
pub(super) const MAX_HEADER_OCTETS: usize = 1024 * 1024;
/// More octets than these are digested where blocking is allowed.
const LARGE_OCTETS: usize = 64 * 1024;

impl<'m> Content<'m> {
    pub(super) fn of(raw: &'m [u8]) -> Result<Self, TooLarge> {
        let mut cut = Fields::of(raw);
        let fields: Vec<Field<'m>> = cut.by_ref().take(MAX_FIELDS + 1).collect();
        let octets = raw.len() - cut.rest().len();
        if fields.len() > MAX_FIELDS || octets > MAX_HEADER_OCTETS {
            return Err(TooLarge);
        }
        Ok(Self { fields, body: cut.rest(), relaxed: OnceLock::new(), simple: OnceLock::new() })
    }

    pub(super) fn body_digest(&self, canonicalization: Canonicalization) -> BodyDigest {
        match canonicalization {
            Canonicalization::Relaxed => *self.relaxed.get_or_init(|| {
                let body = without_trailing_blank_lines(self.body);
                if body.is_empty() { digest_of(|_| {}) } else { digest(Canonicalization::Relaxed, body) }
            }),
            Canonicalization::Simple => {
                *self.simple.get_or_init(|| digest(Canonicalization::Simple, self.body))
            }
        }
    }

    /// The fields that `h=` names (RFC 6376 section 5.4.2): of several of one name the last that is not yet taken; a
    /// name without a field signs its absence.
    pub(super) fn signed<'s>(&'s self, names: &'s [String]) -> Vec<(&'m [u8], &'m [u8])> {
        let mut taken: Vec<(&str, usize)> = Vec::with_capacity(names.len());
        let mut signed = Vec::with_capacity(names.len() + 1);
        for name in names {
            let place = taken.iter().position(|(known, _)| known == name);
            let before = place.and_then(|place| taken.get(place)).map_or(self.fields.len(), |(_, at)| *at);
            let found = self.fields.get(..before).and_then(|fields| fields.iter().rposition(|f| f.is(name)));
            if let Some(field) = found.and_then(|at| self.fields.get(at)) {
                signed.push((field.name, field.value));
            }
            match place.and_then(|place| taken.get_mut(place)) {
                Some((_, at)) => *at = found.unwrap_or(0),
                None => taken.push((name, found.unwrap_or(0))),
            }
        }
        signed
    }
}

fn digest(canonicalization: Canonicalization, body: &[u8]) -> BodyDigest {
    where_it_may_block(body.len(), || {
        digest_of(|writer| canonicalization.canonical_body(body, 0).write(writer))
    })
}

/// Runs work over so many octets; much of it where it may block, on a runtime that has such places.
pub(super) fn where_it_may_block<T>(octets: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    if octets > LARGE_OCTETS && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

fn digest_of(write: impl FnOnce(&mut Digesting)) -> BodyDigest {
    let mut digesting = Digesting { context: Context::new(&SHA256), octets: 0 };
    write(&mut digesting);
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digesting.context.finish().as_ref());
    BodyDigest { sha256, octets: digesting.octets }
}

struct Digesting {
    context: Context,
    octets: u64,
}

impl Writer for Digesting {
    fn write(&mut self, octets: &[u8]) {
        self.context.update(octets);
        self.octets += octets.len() as u64;
    }
}

/// RFC 6376 section 3.4.4: white space at the ends of lines goes first, then empty lines at the end; the library takes
/// lines that hold white space alone for lines.
fn without_trailing_blank_lines(body: &[u8]) -> &[u8] {
    let Some(last) = body.iter().rposition(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')) else {
        return b"";
    };
    let line_end = body.get(last..).and_then(|rest| memchr::memchr(b'\n', rest)).map(|at| last + at + 1);
    body.get(..line_end.unwrap_or(body.len())).unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relaxed(body: &str) -> BodyDigest {
        let raw = format!("A: b\r\n\r\n{body}");
        Content::of(raw.as_bytes()).unwrap().body_digest(Canonicalization::Relaxed)
    }

    #[test]
    fn trailing_lines_of_white_space_do_not_count_in_a_relaxed_body() {
        assert_eq!(relaxed("one  two\r\n"), relaxed("one two \r\n \t\r\n\r\n  \r\n"));
        assert_eq!(relaxed("one two\r\n").octets, 9);
        assert_eq!(relaxed(" \r\n\t\r\n"), relaxed(""));
        assert_eq!(relaxed("").octets, 0);
        assert_ne!(relaxed("\r\none\r\n"), relaxed("one\r\n"));
    }

    #[test]
    fn of_several_fields_the_lowest_is_signed_first_and_then_the_one_above() {
        let content = Content::of(b"A: 1\r\nB: 2\r\na: 3\r\n\r\n").unwrap();
        let names = ["a", "a", "a", "c", "b"].map(str::to_owned);
        let values: Vec<&[u8]> = content.signed(&names).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [b" 3\r\n".as_slice(), b" 1\r\n", b" 2\r\n"]);
    }

    #[test]
    fn h2_a_thousand_fields_are_taken_and_one_more_is_not() {
        assert!(Content::of("A: b\r\n".repeat(MAX_FIELDS).as_bytes()).is_ok());
        assert!(Content::of("A: b\r\n".repeat(MAX_FIELDS + 1).as_bytes()).is_err());
        let block = |octets: usize| format!("A:{}\r\n", "x".repeat(octets - 4));
        assert!(Content::of(block(MAX_HEADER_OCTETS).as_bytes()).is_ok());
        assert!(Content::of(block(MAX_HEADER_OCTETS + 1).as_bytes()).is_err());
    }
}
