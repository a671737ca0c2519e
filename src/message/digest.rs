//! R70: what makes two copies of one mail the same: SHA-256 over normalised From, Date, Subject and body text.
//!
//! The BCC copy and the reply-all copy agree although Received, Bcc, folding, encodings and the footers of
//! transport differ.

use aws_lc_rs::digest::{Context, SHA256};

use super::From;
use crate::time::Timestamp;

/// The digest of a mail.
pub(super) fn of(from: &From, date: Option<Timestamp>, subject: &str, text: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(b"syncmx digest 1\0");
    context.update(from.address().map(crate::address::EmailAddress::key).unwrap_or_default().as_bytes());
    context.update(b"\0");
    // Whole seconds: the field says no more.
    let seconds = date.map(|date| date.as_millis().div_euclid(1_000));
    context.update(seconds.map_or_else(String::new, |seconds| seconds.to_string()).as_bytes());
    context.update(b"\0");
    words(subject, &mut context);
    context.update(b"\0");
    words(without_list_footer(text), &mut context);
    finish(context)
}

/// SHA-256 of octets.
pub(super) fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(octets);
    finish(context)
}

fn finish(context: Context) -> [u8; 32] {
    let digest = context.finish();
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// The words, a space behind each.
fn words(text: &str, context: &mut Context) {
    // White space beyond ASCII begins with one of these octets; most texts have none, and need no look at characters.
    let may_hold_wide_space = memchr::memchr3(0xc2, 0xe2, 0xe3, text.as_bytes()).is_some()
        || memchr::memchr(0xe1, text.as_bytes()).is_some();
    let mut flat: Vec<u8> = Vec::with_capacity(BLOCK.min(text.len()) + 1);
    if may_hold_wide_space {
        for word in text.split_whitespace() {
            if flat.len() + word.len() > BLOCK {
                context.update(&flat);
                flat.clear();
            }
            flat.extend_from_slice(word.as_bytes());
            flat.push(b' ');
        }
        return context.update(&flat);
    }
    let text = text.trim().as_bytes();
    let mut is_behind_space = false;
    for block in text.chunks(BLOCK) {
        flat.clear();
        flat.extend(block.iter().map(|octet| if is_space(*octet) { b' ' } else { *octet }));
        let mut rest = if is_behind_space { without_spaces(&flat) } else { flat.as_slice() };
        while let Some((first, behind)) =
            memchr::memmem::find(rest, b"  ").and_then(|at| rest.split_at_checked(at + 1))
        {
            context.update(first);
            rest = without_spaces(behind);
        }
        context.update(rest);
        is_behind_space = flat.last() == Some(&b' ');
    }
    if !text.is_empty() {
        context.update(b" ");
    }
}

fn without_spaces(octets: &[u8]) -> &[u8] {
    let spaces = octets.iter().take_while(|octet| **octet == b' ').count();
    octets.get(spaces..).unwrap_or_default()
}

/// The ASCII part of `char::is_whitespace`.
const fn is_space(octet: u8) -> bool {
    matches!(octet, b'\t'..=b'\r' | b' ')
}

/// The text without what a list server hung below a long rule of underscores.
fn without_list_footer(text: &str) -> &str {
    let Some(rule) = text.rfind(LIST_RULE) else { return text };
    let start = text.get(..rule).map_or(0, |before| before.trim_end_matches('_').len());
    let (body, footer) = (text.get(..start), text.get(start..));
    let is_footer = footer.is_some_and(|footer| {
        footer.lines().filter(|l| !l.trim().is_empty()).count() <= 6 && footer.contains("://")
    });
    if is_footer { body.unwrap_or(text) } else { text }
}

/// Octets that are made plain at once.
const BLOCK: usize = 64 * 1024;
/// Mailman's rule has 47 underscores.
const LIST_RULE: &str = "________________________________________";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{EmailAddress, NamedAddress};

    fn from(address: &str) -> From {
        From::One(NamedAddress { name: None, address: EmailAddress::parse(address).expect("an address") })
    }

    #[test]
    fn r70_words_are_those_between_any_white_space() {
        let digest_of = |text: &str| {
            let mut context = Context::new(&SHA256);
            words(text, &mut context);
            finish(context)
        };
        for text in [
            "",
            " ",
            "a",
            " a  b\t\r\n\u{b}c \n\n\n ",
            "a\u{a0}b\u{85} c",
            "ä  ö\u{3000}ü",
            "a\u{1680}b",
            "\u{2003}",
            &format!("{}  \n b", "x ".repeat(BLOCK / 2)),
            &format!("{}\n\n b", "x".repeat(BLOCK - 1)),
            &format!("a{}b", " ".repeat(3 * BLOCK)),
            &format!("ä {}", "xyz ".repeat(BLOCK)),
        ] {
            let plainly: String = text.split_whitespace().flat_map(|word| [word, " "]).collect();
            assert_eq!(digest_of(text), sha256(plainly.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn r70_white_space_case_of_from_and_list_footers_do_not_matter() {
        let at = Some(Timestamp::from_millis(1_000));
        let one = of(&from("Ana@X.test"), at, "Hello  you", "a  b\nc\n");
        assert_eq!(one, of(&from("ana@x.test"), at, "Hello you", "a b c"));
        let footer = format!("a b c\n{}\nlist mailing list\nhttps://x.test/list\n", "_".repeat(47));
        assert_eq!(one, of(&from("ana@x.test"), at, "Hello you", &footer));
        assert_ne!(one, of(&from("ana@x.test"), at, "Hello you", "a b d"));
        assert_ne!(one, of(&from("ana@x.test"), None, "Hello you", "a b c"));
    }
}
