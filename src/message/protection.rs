//! R57: what S/MIME and PGP did to a message. Parts stay whole as they came; nothing is decrypted, no signature is
//! verified. The one thing that is opened is the text of a message that S/MIME signed without encrypting it
//! (RFC 8551 section 3.5.2), so that a reader sees words and not an attachment.

use super::Protection;
use super::scan::{Part, Tree};

/// What was done to the message or to any part of it.
pub(super) fn of(tree: &Tree<'_>, text: &str) -> Protection {
    let mut found = armoured(text);
    for (index, part) in tree.parts.iter().enumerate() {
        match part.content_type.value.as_str() {
            "multipart/encrypted" | "application/pgp-encrypted" => found.is_encrypted = true,
            "multipart/signed" => found.is_signed = true,
            _ if is_smime(part) => match content_of(&tree.decoded(index)).or_else(|| declared(part)) {
                Some(Cms::Enveloped) => found.is_encrypted = true,
                Some(Cms::Signed) => found.is_signed = true,
                None => {}
            },
            "application/octet-stream" | "application/pgp" => {
                let octets = tree.body(index);
                let head = octets.get(..octets.len().min(ARMOUR_WITHIN)).unwrap_or_default();
                found.is_encrypted |= memchr::memmem::find(head, PGP_MESSAGE.as_bytes()).is_some();
            }
            _ => {}
        }
    }
    found
}

/// The MIME entity inside a part that S/MIME signed opaquely.
pub(super) fn signed_entity(tree: &Tree<'_>, index: usize) -> Option<Vec<u8>> {
    tree.parts.get(index).filter(|part| is_smime(part))?;
    signed_content(&tree.decoded(index))
}

/// Blocks of PGP in the text.
fn armoured(text: &str) -> Protection {
    let has = |mark: &str| {
        memchr::memmem::find_iter(text.as_bytes(), mark.as_bytes())
            .any(|at| at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'))
    };
    Protection { is_encrypted: has(PGP_MESSAGE), is_signed: has("-----BEGIN PGP SIGNED MESSAGE-----") }
}

fn is_smime(part: &Part<'_>) -> bool {
    matches!(part.content_type.value.as_str(), "application/pkcs7-mime" | "application/x-pkcs7-mime")
}

/// What `smime-type` says, for content that cannot be read.
fn declared(part: &Part<'_>) -> Option<Cms> {
    match part.content_type.param("smime-type").map(str::to_ascii_lowercase).as_deref() {
        Some("signed-data") => Some(Cms::Signed),
        Some("enveloped-data" | "authenveloped-data") | None => Some(Cms::Enveloped),
        Some(_) => None,
    }
}

/// The content types of CMS (RFC 5652) that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cms {
    Enveloped,
    Signed,
}

fn content_of(octets: &[u8]) -> Option<Cms> {
    let mut reader = Reader(octets);
    reader.enter(SEQUENCE)?;
    match reader.value(OID)? {
        SIGNED_DATA => Some(Cms::Signed),
        ENVELOPED_DATA | AUTH_ENVELOPED_DATA => Some(Cms::Enveloped),
        _ => None,
    }
}

/// RFC 5652 sections 3 and 5: `ContentInfo`, `SignedData`, `EncapsulatedContentInfo`, and the octets in it.
fn signed_content(octets: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(octets);
    reader.enter(SEQUENCE)?;
    (reader.value(OID)? == SIGNED_DATA).then_some(())?;
    reader.enter(CONTEXT_0)?;
    reader.enter(SEQUENCE)?;
    reader.value(INTEGER)?;
    reader.value(SET)?;
    reader.enter(SEQUENCE)?;
    (reader.value(OID)? == DATA).then_some(())?;
    reader.enter(CONTEXT_0)?;
    if reader.0.first() == Some(&OCTET_STRING) {
        return reader.value(OCTET_STRING).map(<[u8]>::to_vec);
    }
    // In pieces, as programs write that do not know the length beforehand.
    let mut content = Vec::new();
    let mut pieces = match reader.enter(CONSTRUCTED_OCTET_STRING)? {
        Some(length) => Reader(reader.0.get(..length)?),
        None => reader,
    };
    while pieces.0.first() == Some(&OCTET_STRING) {
        content.extend_from_slice(pieces.value(OCTET_STRING)?);
    }
    Some(content)
}

/// Basic Encoding Rules (X.690), as much as leads to the content. Never looks beyond the octets.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Steps into an element of this tag; its length, if it is definite.
    fn enter(&mut self, tag: u8) -> Option<Option<usize>> {
        let (found, rest) = self.0.split_first()?;
        (*found == tag).then_some(())?;
        let (first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => Some(usize::from(*first)),
            0x80 => None,
            _ => {
                let digits = usize::from(first & 0x7f);
                (digits <= 4).then_some(())?;
                let (digits, behind) = rest.split_at_checked(digits)?;
                rest = behind;
                Some(digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)))
            }
        };
        self.0 = rest;
        Some(length)
    }

    /// Takes a whole element of this tag and of definite length.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let length = self.enter(tag)??;
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const CONSTRUCTED_OCTET_STRING: u8 = 0x24;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;
/// 1.2.840.113549.1.7.1 and its sisters.
const DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const ENVELOPED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03";
const AUTH_ENVELOPED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17";
const PGP_MESSAGE: &str = "-----BEGIN PGP MESSAGE-----";
/// Octets within which the armour of an attachment begins.
const ARMOUR_WITHIN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse;

    fn definite(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[tag, 0x81, length], content].concat()
    }

    fn indefinite(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x80], content, &[0, 0]].concat()
    }

    fn signed(entity: &[u8], wrap: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
        let (one, two) = entity.split_at(entity.len() / 2);
        let pieces = [definite(OCTET_STRING, one), definite(OCTET_STRING, two)].concat();
        let octets = if wrap(0, b"")[1] == 0x80 {
            wrap(CONSTRUCTED_OCTET_STRING, &pieces)
        } else {
            definite(OCTET_STRING, entity)
        };
        let data = [definite(OID, DATA), wrap(CONTEXT_0, &octets)].concat();
        let inner = [definite(INTEGER, &[1]), definite(SET, b""), wrap(SEQUENCE, &data)].concat();
        let info = [definite(OID, SIGNED_DATA), wrap(CONTEXT_0, &wrap(SEQUENCE, &inner))].concat();
        wrap(SEQUENCE, &info)
    }

    fn mail(content_type: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "From: a@b.test\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn r57_the_text_of_an_opaquely_signed_message_is_read_and_the_part_is_kept() {
        for wrap in [definite, indefinite] {
            let octets = signed(b"Content-Type: text/plain\r\n\r\nSee you on Monday.", wrap);
            let raw = mail("application/pkcs7-mime; smime-type=signed-data; name=smime.p7m", &octets);
            let email = parse(&raw).unwrap();
            assert_eq!(email.text, "See you on Monday.");
            assert_eq!(email.protection, Protection { is_encrypted: false, is_signed: true });
            assert_eq!(email.attachments.len(), 1);
        }
    }

    #[test]
    fn r57_m22_encrypted_messages_are_kept_and_flagged() {
        let encrypted = Protection { is_encrypted: true, is_signed: false };
        for (content_type, body) in [
            ("application/pkcs7-mime; smime-type=enveloped-data", &b"\x30\x80junk"[..]),
            ("application/pkcs7-mime", &definite(SEQUENCE, &definite(OID, ENVELOPED_DATA))),
            ("text/plain", b"-----BEGIN PGP MESSAGE-----\n\nabc\n-----END PGP MESSAGE-----"),
            (
                "multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b",
                b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\n\
                Content-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n--b--\r\n",
            ),
        ] {
            assert_eq!(parse(&mail(content_type, body)).unwrap().protection, encrypted, "{content_type}");
        }
        let plain = parse(&mail("text/plain", b"I wrote -----BEGIN PGP MESSAGE----- here")).unwrap();
        assert_eq!(plain.protection, Protection::default());
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let whole = signed(b"Content-Type: text/plain\r\n\r\nSee you.", definite);
        for end in 0..whole.len() {
            assert_eq!(signed_content(&whole[..end]), None, "{end}");
        }
        assert_eq!(signed_content(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, OID, 0x7f]), None);
    }
}
