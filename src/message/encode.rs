//! Content-Transfer-Encoding done: base64 and quoted-printable, for what has to be written anew.

use std::fmt::Write as _;

/// Base64 in lines of 76 (RFC 2045 section 6.8).
pub(super) fn base64_lines(octets: &[u8]) -> Vec<u8> {
    let lines = octets.chunks(LINE_OCTETS).map(base64);
    lines.collect::<Vec<_>>().join("\r\n").into_bytes()
}

/// Base64 on one line.
#[must_use]
pub fn base64(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, octet| bits << 8 | usize::from(*octet))
            << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            let is_padding = digit > group.len();
            out.push(if is_padding { '=' } else { BASE64.get(index).copied().map_or('A', char::from) });
        }
    }
    out
}

/// RFC 2045 section 6.7, line breaks as they are.
pub(super) fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(octets.len() + octets.len() / 8);
    let mut lines = octets.split(|octet| *octet == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = if is_last { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        let mut column = 0;
        for (n, octet) in line.iter().enumerate() {
            let ends_line = n + 1 == line.len();
            let is_plain =
                matches!(octet, b'!'..=b'<' | b'>'..=b'~') || matches!(octet, b' ' | b'\t') && !ends_line;
            let width = if is_plain { 1 } else { 3 };
            if column + width > QUOTED_LINE {
                out.push_str("=\r\n");
                column = 0;
            }
            column += width;
            if is_plain {
                out.push(char::from(*octet));
            } else {
                let _infallible = write!(out, "={octet:02X}");
            }
        }
        if !is_last {
            out.push_str("\r\n");
        }
    }
    out.into_bytes()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// 57 octets are 76 digits.
const LINE_OCTETS: usize = 57;
/// One less than 76: room for the soft break.
const QUOTED_LINE: usize = 75;

#[cfg(test)]
mod tests {
    use super::super::transfer::Encoding;
    use super::*;

    #[test]
    fn quoted_printable_lines_stay_short_and_keep_white_space() {
        let long = format!("{} end \r\nx=y\u{fc}", "ab ".repeat(60));
        let encoded = quoted_printable(long.as_bytes());
        assert!(encoded.split(|octet| *octet == b'\n').all(|line| line.len() <= 77));
        assert_eq!(Encoding::QuotedPrintable.decode(&encoded).as_ref(), long.as_bytes());
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (octets, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(octets.as_bytes()), expected);
        }
    }
}
