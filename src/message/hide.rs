//! A message's content for somebody else: its MIME fields and body, octet for octet, but for addresses that are to
//! stay private. Those are replaced wherever text stands: text parts, headers of parts and of messages inside.
//!
//! Pure. An attachment that is no text is never touched. What has to be changed behind a transfer encoding is encoded
//! again in the same one; everything else keeps its octets, so that signatures of untouched content still hold.

use std::borrow::Cow;

use super::TooComplex;
use super::encode::{base64_lines, quoted_printable};
use super::scan::{Part, Shape, Tree};
use super::transfer::Encoding;
use crate::address::EmailAddress;

/// Why there is no content for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotHide {
    /// The message breaks a structural limit.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
    /// A part that cannot be written anew names an address that is to stay private.
    #[error("a part that cannot be changed ({0}) names an address that is to stay private")]
    Sealed(&'static str),
}

/// The fields that say how the body is to be read, an empty line, and the body; lines end in CRLF.
///
/// # Errors
/// If the message breaks a structural limit, or a signature or the like names a hidden address.
pub fn content_without(
    raw: &[u8],
    hidden: &[EmailAddress],
    instead: &EmailAddress,
) -> Result<Vec<u8>, CannotHide> {
    let tree = Tree::scan(raw)?;
    let veil = Veil { hidden, instead: instead.as_str() };
    let Some(root) = tree.parts.first() else { return Ok(b"\r\n".to_vec()) };
    let mut out = Vec::with_capacity(raw.len());
    for name in CONTENT_FIELDS {
        if let Some(value) = root.fields.last(name) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(&veil.over(&one_field(value)));
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    let mut at = root.body.start;
    let leaves = tree.parts.iter().enumerate().filter(|(_, part)| part.shape == Shape::Leaf);
    for (index, part) in leaves {
        let between = raw.get(at..part.body.start).unwrap_or_default();
        out.extend_from_slice(&with_crlf(&veil.over(between)));
        let body = tree.body(index);
        match veiled_leaf(&tree, index, part, &veil)? {
            Some(changed) => out.extend_from_slice(&with_crlf(&changed)),
            None => out.extend_from_slice(&with_crlf(body)),
        }
        at = part.body.end.max(at);
    }
    out.extend_from_slice(&with_crlf(&veil.over(raw.get(at..).unwrap_or_default())));
    Ok(out)
}

/// The body of a leaf in its own encoding, if it is text and names somebody who is to stay private.
fn veiled_leaf(
    tree: &Tree<'_>,
    index: usize,
    part: &Part<'_>,
    veil: &Veil<'_>,
) -> Result<Option<Vec<u8>>, CannotHide> {
    let kind = part.content_type.value.as_str();
    let is_text = kind.starts_with("text/") || kind.starts_with("message/");
    let sealed = SEALED.iter().copied().find(|sealed| *sealed == kind);
    if veil.hidden.is_empty() || !(is_text || sealed.is_some()) {
        return Ok(None);
    }
    let decoded = tree.decoded(index);
    if is_text && let Cow::Owned(changed) = veil.over(&decoded) {
        return match part.encoding {
            Encoding::Base64 => Ok(Some(base64_lines(&changed))),
            Encoding::Identity => Ok(Some(changed)),
            Encoding::QuotedPrintable => Ok(Some(quoted_printable(&changed))),
            // It cannot be written anew without its file name; nobody sends text that way.
            Encoding::Uuencode => Err(CannotHide::Sealed("uuencoded text")),
        };
    }
    // UTF-16 writes an address with a NUL beside each letter.
    let letters: Vec<u8> = decoded.iter().copied().filter(|octet| *octet != 0).collect();
    match veil.over(&letters) {
        Cow::Borrowed(_) => Ok(None),
        Cow::Owned(_) => Err(CannotHide::Sealed(sealed.unwrap_or("text in UTF-16"))),
    }
}

/// What is to stay private, and what stands in its place.
struct Veil<'a> {
    hidden: &'a [EmailAddress],
    instead: &'a str,
}

impl Veil<'_> {
    /// Replaces every hidden address, in any case, with a subaddress or without, with its `@` written in any of the
    /// usual ways. An address that only contains a hidden one stays.
    fn over<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut out: Vec<u8> = Vec::new();
        let (mut kept_from, mut look_from) = (0, 0);
        while let Some((at, sign)) = next_at_sign(text, look_from) {
            look_from = at + sign.len();
            let before = text.get(kept_from..at).unwrap_or_default();
            let behind = text.get(look_from..).unwrap_or_default();
            let found = self.hidden.iter().find_map(|hidden| {
                let start = local_part_start(before, hidden.local_part().as_bytes())?;
                Some((start, domain_length(behind, hidden.domain().as_bytes())?))
            });
            let Some((start, length)) = found else { continue };
            out.extend_from_slice(before.get(..start).unwrap_or_default());
            let (local, domain) = self.instead.rsplit_once('@').unwrap_or((self.instead, ""));
            out.extend_from_slice(local.as_bytes());
            out.extend_from_slice(sign);
            out.extend_from_slice(domain.as_bytes());
            look_from += length;
            kept_from = look_from;
        }
        if kept_from == 0 {
            return Cow::Borrowed(text);
        }
        out.extend_from_slice(text.get(kept_from..).unwrap_or_default());
        Cow::Owned(out)
    }
}

/// The next `@` at or behind `from`, as it is written there.
fn next_at_sign(text: &[u8], from: usize) -> Option<(usize, &[u8])> {
    let mut at = from;
    loop {
        at += memchr::memchr3(b'@', b'%', b'&', text.get(at..)?)?;
        let rest = text.get(at..)?;
        let sign = AT_SIGNS.iter().find(|sign| starts_with(rest, sign));
        if let Some(sign) = sign {
            return Some((at, rest.get(..sign.len())?));
        }
        at += 1;
    }
}

/// Where the local part begins that ends these octets, if it is this one, or this one with a subaddress.
fn local_part_start(before: &[u8], local: &[u8]) -> Option<usize> {
    let tag = before.iter().rev().take(MAX_TAG).position(|octet| !is_local(*octet) || *octet == b'+');
    let plus = tag.map(|behind| before.len() - behind - 1).filter(|at| before.get(*at) == Some(&b'+'));
    [Some(before.len()), plus].into_iter().flatten().find_map(|end| {
        let start = end.checked_sub(local.len())?;
        let is_it = before.get(start..end)?.eq_ignore_ascii_case(local);
        (is_it && is_boundary(before.get(..start)?)).then_some(start)
    })
}

/// An address may begin behind these octets.
fn is_boundary(before: &[u8]) -> bool {
    match before {
        // `mailto%3Alena@…`: the digits belong to the escape.
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., last] => !is_local(*last),
        [] => true,
    }
}

fn is_local(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'_' | b'+' | b'-')
}

/// How many octets of these are this domain and not the beginning of another.
fn domain_length(behind: &[u8], domain: &[u8]) -> Option<usize> {
    let goes_on = |rest: &[u8]| match rest {
        [b'.', next, ..] => next.is_ascii_alphanumeric(),
        [next, ..] => next.is_ascii_alphanumeric() || *next == b'-',
        [] => false,
    };
    (starts_with(behind, domain) && !goes_on(behind.get(domain.len()..)?)).then_some(domain.len())
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// A raw field value on lines of our own, so that nothing in it can begin another field.
fn one_field(value: &[u8]) -> Vec<u8> {
    let lines = value.split(|octet| matches!(octet, b'\r' | b'\n')).map(<[u8]>::trim_ascii);
    let lines: Vec<Vec<u8>> = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.iter().copied().filter(|octet| *octet == b'\t' || *octet >= b' ').collect())
        .collect();
    lines.join(b"\r\n\t".as_slice())
}

/// A lone CR or LF becomes CRLF: it could end the message for one server and not for the next.
fn with_crlf(octets: &[u8]) -> Cow<'_, [u8]> {
    let is_lone = |at: usize| match octets.get(at) {
        Some(b'\n') => at == 0 || octets.get(at - 1) != Some(&b'\r'),
        _ => octets.get(at + 1) != Some(&b'\n'),
    };
    if !memchr::memchr2_iter(b'\r', b'\n', octets).any(is_lone) {
        return Cow::Borrowed(octets);
    }
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut from = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', octets).filter(|at| is_lone(*at)) {
        out.extend_from_slice(octets.get(from..at).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        from = at + 1;
    }
    out.extend_from_slice(octets.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// What of the header says how to read the body; nothing else of it is for others.
const CONTENT_FIELDS: [&str; 4] =
    ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-Language"];
/// What names its author inside, and breaks when it is changed.
const SEALED: [&str; 6] = [
    "application/ms-tnef",
    "application/pgp-keys",
    "application/pkcs7-mime",
    "application/pkcs7-signature",
    "application/x-pkcs7-mime",
    "application/x-pkcs7-signature",
];
const AT_SIGNS: [&[u8]; 5] = [b"@", b"%40", b"&#64;", b"&#x40;", b"&commat;"];
/// A local part has at most 64 octets (RFC 5321 section 4.5.3.1.1).
const MAX_TAG: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encode::base64;
    use super::*;

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).expect("an address")
    }

    fn hide(raw: &[u8]) -> String {
        let hidden = [address("lena@praxis.test"), address("o'hara@praxis.test")];
        let content = content_without(raw, &hidden, &address("r-1@reply.test")).expect("within limits");
        String::from_utf8(content).expect("text")
    }

    #[track_caller]
    fn check(body: &str, expected: &str) {
        assert_eq!(hide(format!("From: x@y.test\r\n\r\n{body}").as_bytes()), format!("\r\n{expected}"));
    }

    #[test]
    fn r46_a_private_address_is_replaced_however_it_is_written() {
        check("> Lena <lena@praxis.test> wrote:", "> Lena <r-1@reply.test> wrote:");
        check("LENA@Praxis.Test, lena+crm@praxis.test.", "r-1@reply.test, r-1@reply.test.");
        check("[mailto:lena@praxis.test]", "[mailto:r-1@reply.test]");
        check("href=\"mailto%3Alena%40praxis.test\"", "href=\"mailto%3Ar-1%40reply.test\"");
        check("lena&#64;praxis.test lena&commat;praxis.test", "r-1&#64;reply.test r-1&commat;reply.test");
        check("o'hara@praxis.test", "r-1@reply.test");
        check("lena@praxis.test", "r-1@reply.test");
    }

    #[test]
    fn another_address_that_holds_a_private_one_stays() {
        for text in [
            "helena@praxis.test",
            "x.lena@praxis.test",
            "lena@praxis.test.example",
            "lena@praxis.testing.example",
            "lena@other.test",
            "100 % & lena @ praxis.test",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn nothing_of_the_header_but_how_to_read_the_body_is_taken_over() {
        let raw = b"Received: from [192.0.2.1]\r\nX-Originating-IP: 192.0.2.1\r\nSender: lena@praxis.test\r\n\
                    MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nCc: lena@praxis.test\r\n\
                    Disposition-Notification-To: lena@praxis.test\r\n\r\nHello\r\n";
        assert_eq!(hide(raw), "Content-Type: text/plain;\r\n\tcharset=utf-8\r\n\r\nHello\r\n");
    }

    #[test]
    fn a_value_cannot_begin_a_field_of_its_own() {
        let raw = b"Content-Type: text/plain;\r\n name=\"a\rBcc: eve@evil.test\"\r\n\r\nHello\r\n";
        let content = hide(raw);
        assert!(content.starts_with("Content-Type: text/plain;\r\n\tname=\"a\r\n\tBcc: "), "{content:?}");
    }

    #[test]
    fn text_behind_an_encoding_is_read_and_encoded_again() {
        let words = base64(b"From Lena <lena@praxis.test>");
        let raw = format!(
            "Content-Type: multipart/alternative; boundary=b\r\n\r\npreamble lena@praxis.test\r\n\
             --b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
             Gr=C3=BC=C3=9Fe, lena@prax=\r\nis.test\r\n--b\r\nContent-Type: text/html\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{words}\r\n--b--\r\nlena@praxis.test\r\n"
        );
        let shown = hide(raw.as_bytes());
        let encoded = base64(b"From Lena <r-1@reply.test>");
        assert!(shown.contains("Gr=C3=BC=C3=9Fe, r-1@reply.test\r\n--b"), "{shown}");
        assert!(shown.contains(&format!("\r\n\r\n{encoded}\r\n--b--")), "{shown}");
        assert!(!shown.contains("praxis"), "{shown}");
    }

    #[test]
    fn a_message_inside_is_read_too_and_other_attachments_keep_their_octets() {
        let pdf = base64(b"%PDF lena@praxis.test");
        let raw = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n\
             From: lena@praxis.test\r\nSubject: x\r\n\r\nlena@praxis.test\r\n--b\r\n\
             Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n{pdf}\r\n--b--\r\n"
        );
        let shown = hide(raw.as_bytes());
        assert!(shown.contains("From: r-1@reply.test\r\nSubject: x\r\n\r\nr-1@reply.test\r\n--b"), "{shown}");
        assert!(shown.contains(&pdf), "{shown}");
    }

    #[test]
    fn r46_what_cannot_be_changed_and_names_somebody_is_not_for_others() {
        let hidden = [address("lena@praxis.test")];
        let part = |kind: &str, octets: &[u8]| {
            let raw = format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: {kind}\r\n\
                 Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
                base64(octets)
            );
            content_without(raw.as_bytes(), &hidden, &address("r-1@reply.test")).err()
        };
        let wide: Vec<u8> = "Lena@praxis.test".bytes().flat_map(|octet| [octet, 0]).collect();
        let certificate = b"\x16\x10lena@praxis.test\x00";
        let smime = "application/pkcs7-signature";
        assert_eq!(part(smime, certificate), Some(CannotHide::Sealed(smime)));
        assert_eq!(part(smime, b"\x16\x10tom@praxis.test"), None);
        assert_eq!(part("application/ms-tnef", &wide), Some(CannotHide::Sealed("application/ms-tnef")));
        assert_eq!(part("text/plain; charset=utf-16", &wide), Some(CannotHide::Sealed("text in UTF-16")));
        assert_eq!(part("application/pdf", certificate), None, "what staff attaches is theirs to choose");
    }

    #[test]
    fn what_names_nobody_keeps_every_octet() {
        let body =
            "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nodd =3d case =\r\n\r\n--b--\r\n";
        let raw = format!("Content-Type: multipart/mixed; boundary=b\r\nX: y\r\n\r\n{body}");
        assert_eq!(hide(raw.as_bytes()), format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{body}"));
    }

    #[test]
    fn lone_line_ends_become_whole_ones() {
        check("a\nb\rc\r\nd\n\re", "a\r\nb\r\nc\r\nd\r\n\r\ne");
        check("\n.\n", "\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn r46_no_text_however_torn_shows_a_hidden_address(
            before in "[ -~\r\n]{0,40}", tag in "(\\+[a-z]{1,5})?", behind in "[ -~\r\n]{0,40}", encoding in 0..3
        ) {
            let text = format!("{before} lena{tag}@Praxis.test {behind}");
            let (label, body) = match encoding {
                0 => ("8bit", text.clone()),
                1 => ("base64", base64(text.as_bytes())),
                _ => ("quoted-printable", text.bytes().map(|octet| format!("={octet:02X}")).collect()),
            };
            let raw = format!("Content-Transfer-Encoding: {label}\r\n\r\n{body}");
            let hidden = [address("lena@praxis.test")];
            let content = content_without(raw.as_bytes(), &hidden, &address("r-1@reply.test")).expect("text");
            let tree = Tree::scan(&content).expect("within limits");
            let shown = String::from_utf8_lossy(&tree.decoded(0)).to_lowercase();
            prop_assert!(!shown.contains("@praxis.test") || text.to_lowercase().matches("@praxis.test").count() > 1, "{shown}");
            prop_assert!(shown.contains(" r-1@reply.test "), "{shown}");
        }

        #[test]
        fn octets_of_any_sort_are_read_without_a_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = content_without(&raw, &[address("lena@praxis.test")], &address("r-1@reply.test"));
        }
    }
}
