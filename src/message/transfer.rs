//! Content-Transfer-Encoding undone: base64, quoted-printable, uuencode. Byte-exact where the input is right,
//! and never an error where it is not: odd octets are passed over or kept, as clients do.

use std::borrow::Cow;

use base64_simd::STANDARD_NO_PAD;

use super::fields::{line_end, trim_line_break};

/// How a part is encoded (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Base64,
    Identity,
    QuotedPrintable,
    Uuencode,
}

impl Encoding {
    /// An unknown encoding is none.
    pub(super) fn from_label(label: &str) -> Self {
        let word = label.split(|c: char| c == ';' || c == '(' || c.is_whitespace()).find(|w| !w.is_empty());
        match word.unwrap_or_default().trim_matches('"').to_ascii_lowercase().as_str() {
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            "x-uuencode" | "uuencode" | "x-uue" | "uue" => Self::Uuencode,
            _ => Self::Identity,
        }
    }

    pub(super) fn decode<'a>(self, octets: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            Self::Base64 => Cow::Owned(base64(octets)),
            Self::Identity => Cow::Borrowed(octets),
            Self::QuotedPrintable => Cow::Owned(quoted_printable(octets)),
            Self::Uuencode => Cow::Owned(uuencode(octets)),
        }
    }
}

/// Octets outside the alphabet are passed over; padding ends a group, and another may follow.
pub(super) fn base64(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0_u8);
    let mut rest = octets;
    loop {
        if count == 0 {
            rest = whole_lines(rest, &mut out);
        }
        // What such a line leaves, and all of a line that has something odd in it.
        while count == 0
            && let Some((&[a, b, c, d], behind)) = rest.split_first_chunk::<4>()
        {
            let [a, b, c, d] = [a, b, c, d].map(|octet| u32::from(BASE64[usize::from(octet)]));
            if (a | b | c | d) >= 64 {
                break;
            }
            let [_, a, b, c] = (a << 18 | b << 12 | c << 6 | d).to_be_bytes();
            out.extend_from_slice(&[a, b, c]);
            rest = behind;
        }
        let Some((&octet, behind)) = rest.split_first() else { break };
        rest = behind;
        let value = BASE64[usize::from(octet)];
        if value < 64 {
            bits = bits << 6 | u32::from(value);
            count += 1;
            if count == 4 {
                let [_, a, b, c] = bits.to_be_bytes();
                out.extend_from_slice(&[a, b, c]);
                (bits, count) = (0, 0);
            }
        } else if octet == b'=' {
            finish_group(bits, count, &mut out);
            (bits, count) = (0, 0);
        }
    }
    finish_group(bits, count, &mut out);
    out
}

/// Decodes whole groups as long as lines hold nothing else, many octets at once. What is left.
fn whole_lines<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    loop {
        let line = rest.get(..LONG_LINE).unwrap_or(rest);
        let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
        let Some((groups, behind)) = rest.split_at_checked(end / 4 * 4) else { return rest };
        if groups.is_empty() || STANDARD_NO_PAD.decode_append(groups, out).is_err() {
            return rest;
        }
        rest = behind.strip_prefix(b"\r\n").or_else(|| behind.strip_prefix(b"\n")).unwrap_or(behind);
    }
}

fn finish_group(bits: u32, count: u8, out: &mut Vec<u8>) {
    let [_, a, b, _] = match count {
        2 => (bits << 12).to_be_bytes(),
        3 => (bits << 6).to_be_bytes(),
        _ => return,
    };
    out.push(a);
    if count == 3 {
        out.push(b);
    }
}

/// RFC 2045 section 6.7: soft breaks joined, white space before a line break dropped, line breaks as received.
fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut at = 0;
    while at < octets.len() {
        let end = line_end(octets, at);
        let line = trim_line_break(&octets[at..end]);
        let line_break = &octets[at + line.len()..end];
        let is_last = end == octets.len() && line_break.is_empty();
        let content = if is_last { line } else { line.trim_ascii_end() };
        if let Some(soft) = content.trim_ascii_end().strip_suffix(b"=") {
            out.extend_from_slice(&hex_escapes(soft, b'='));
        } else {
            out.extend_from_slice(&hex_escapes(content, b'='));
            out.extend_from_slice(line_break);
        }
        at = end;
    }
    out
}

/// `=41` (or `%41`) → `A`; an escape that is none stays as it is.
pub(super) fn hex_escapes(octets: &[u8], mark: u8) -> Cow<'_, [u8]> {
    if memchr::memchr(mark, octets).is_none() {
        return Cow::Borrowed(octets);
    }
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let Some(at) = memchr::memchr(mark, rest) {
        out.extend_from_slice(&rest[..at]);
        match (rest.get(at + 1).and_then(hex), rest.get(at + 2).and_then(hex)) {
            (Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = &rest[at + 3..];
            }
            _ => {
                out.push(mark);
                rest = &rest[at + 1..];
            }
        }
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

fn hex(digit: &u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn uuencode(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() / 4 * 3);
    for line in octets.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        let Some((first, data)) = line.split_first() else { continue };
        if line.starts_with(b"begin ") || line == b"end" || !(b' '..=b'`').contains(first) {
            continue;
        }
        let wanted = usize::from((first - b' ') & 63);
        let before = out.len();
        for group in data.chunks(4) {
            let value = |i: usize| group.get(i).map_or(0, |b| u32::from(b.wrapping_sub(b' ') & 63));
            let [_, a, b, c] = (value(0) << 18 | value(1) << 12 | value(2) << 6 | value(3)).to_be_bytes();
            out.extend_from_slice(&[a, b, c]);
        }
        out.truncate(before + wanted);
    }
    out
}

/// Lines have 76 octets, as a rule; of a longer one so many are decoded at once.
const LONG_LINE: usize = 128;

const BASE64: [u8; 256] = {
    let mut table = [255_u8; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut value = 0;
    while value < 64 {
        table[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_through_line_breaks_noise_and_missing_padding() {
        assert_eq!(base64(b"QUJD\r\nREVG"), b"ABCDEF");
        assert_eq!(base64(b"QUI="), b"AB");
        assert_eq!(base64(b"QQ"), b"A");
        assert_eq!(base64(b"Q!U J-D"), b"ABC");
        assert_eq!(base64(b"QQ==Qg=="), b"AB");
        assert_eq!(base64(b"===="), b"");
    }

    #[test]
    fn base64_is_the_same_many_octets_at_once_and_one_at_a_time() {
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((state >> 33) % below).unwrap()
        };
        let odd = ["=", "==", " ", "-", "\r", "\n", "\r\n", "\r\n\r\n", "\u{fc}"];
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..draw(12) {
                for _ in 0..draw(2 * 128) {
                    text.push(char::from(b"ABCXYZabcxyz0189+/"[draw(18)]));
                }
                text.push_str(odd[draw(9)]);
            }
            let apart: Vec<u8> = text.bytes().flat_map(|octet| [b'!', octet]).collect();
            assert!(base64(text.as_bytes()) == base64(&apart), "{text}");
        }
    }

    #[test]
    fn quoted_printable_joins_soft_breaks_and_keeps_hard_ones() {
        assert_eq!(quoted_printable(b"a=\r\nb=20 \r\nc=C3=BC=\n=zz="), b"ab \r\nc\xc3\xbc=zz");
        assert_eq!(quoted_printable(b"trailing  \r\nend "), b"trailing\r\nend ");
    }

    #[test]
    fn uuencode_is_read_by_its_line_lengths() {
        assert_eq!(uuencode(b"begin 644 x\n#0V%T\n`\nend\n"), b"Cat");
    }
}
