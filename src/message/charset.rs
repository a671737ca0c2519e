//! Octets → text, as mail clients do it: labels are believed where they can be true, and mended where the world
//! is known to label wrongly.
//!
//! Promises valid UTF-8. Pure. Most charsets come from `encoding_rs`; the few that mail has and the web has not
//! (UTF-7, code page 850 and the like) from mail-parser.

use std::borrow::Cow;

use encoding_rs::{Encoding, GB18030, ISO_2022_JP, SHIFT_JIS, UTF_8, WINDOWS_1252};

/// Decodes by the declared label; without one, or with one that says nothing, by what the octets are.
pub(super) fn decode<'a>(label: Option<&str>, octets: &'a [u8]) -> Cow<'a, str> {
    let label = label.map(normalise).unwrap_or_default();
    match label.as_str() {
        "" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "unknown-8bit" | "x-unknown" | "unknown" | "8bit"
        | "7bit" | "binary" | "default" | "none" => undeclared(octets),
        "utf-8" | "utf8" | "unicode-1-1-utf-8" => utf8(octets),
        "utf-7" | "unicode-1-1-utf-7" => by_mail_parser("utf-7", octets),
        _ => labelled(&label, octets),
    }
}

/// Text whose charset nobody declared: iso-2022-jp by its escape sequences, UTF-8 where it is valid, else
/// windows-1252.
pub(super) fn undeclared(octets: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(0x1b, octets).is_some() && octets.is_ascii() && is_iso_2022_jp(octets) {
        return ISO_2022_JP.decode_without_bom_handling(octets).0;
    }
    match std::str::from_utf8(octets) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(octets).0,
    }
}

/// The text without NUL (a store's text cannot hold it).
pub(super) fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    if memchr::memchr(0, text.as_bytes()).is_none() { text } else { Cow::Owned(text.replace('\0', "")) }
}

/// Declared as UTF-8. If no single character of it is, the label lies.
fn utf8(octets: &[u8]) -> Cow<'_, str> {
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    if let Ok(text) = std::str::from_utf8(octets) {
        return Cow::Borrowed(text);
    }
    let text = String::from_utf8_lossy(octets);
    let has_good = text.chars().any(|c| !c.is_ascii() && c != char::REPLACEMENT_CHARACTER);
    if has_good { text } else { WINDOWS_1252.decode_without_bom_handling(octets).0 }
}

fn labelled<'a>(label: &str, octets: &'a [u8]) -> Cow<'a, str> {
    let encoding = match label {
        // gb2312 in a label means what Windows makes of it; gb18030 holds all of it.
        "gb2312" | "gbk" | "cp936" | "x-gbk" | "gb_2312-80" | "hz-gb-2312" => Some(GB18030),
        "cp932" | "ms932" | "cp943" | "windows-31j" | "sjis" | "x-sjis" | "shift-jis" => Some(SHIFT_JIS),
        "iso-2022-jp-ms" | "iso-2022-jp-1" | "iso-2022-jp-2" | "cp50220" | "cp50221" | "cp50222" | "jis" => {
            Some(ISO_2022_JP)
        }
        "iso-8859-1"
        | "latin1"
        | "latin-1"
        | "cp1252"
        | "iso8859-1"
        | "iso-8859-1-windows-1252"
        | "cp-1252"
        | "win-1252"
        | "windows-1252"
        | "ansi" => Some(WINDOWS_1252),
        "cp949" | "ms949" | "uhc" | "ks_c_5601-1987" | "ksc5601" => Some(encoding_rs::EUC_KR),
        "cp950" | "ms950" => Some(encoding_rs::BIG5),
        "iso-8859-8-e" | "iso-8859-8-i" => Some(encoding_rs::ISO_8859_8_I),
        other => Encoding::for_label(other.as_bytes()).or_else(|| windows_code_page(other)),
    };
    match encoding {
        Some(encoding) if encoding == UTF_8 => utf8(octets),
        Some(encoding) if encoding == encoding_rs::REPLACEMENT => by_mail_parser(label, octets),
        // An ISO-2022 label over 8-bit text is a lie that shows at once.
        Some(encoding) if encoding == ISO_2022_JP && !octets.is_ascii() => undeclared_or(SHIFT_JIS, octets),
        Some(encoding) => encoding.decode_with_bom_removal(octets).0,
        None => by_mail_parser(label, octets),
    }
}

fn undeclared_or<'a>(encoding: &'static Encoding, octets: &'a [u8]) -> Cow<'a, str> {
    std::str::from_utf8(octets).map_or_else(|_| encoding.decode_without_bom_handling(octets).0, Cow::Borrowed)
}

/// `cp1250`, `win1250`, `windows1250` are all windows-1250.
fn windows_code_page(label: &str) -> Option<&'static Encoding> {
    let digits = label.trim_start_matches(|c: char| !c.is_ascii_digit());
    let prefix = label.strip_suffix(digits)?;
    let is_windows = matches!(prefix, "cp" | "cp-" | "win" | "win-" | "windows" | "ms" | "x-cp");
    (is_windows && digits.len() == 4)
        .then(|| format!("windows-{digits}"))
        .and_then(|l| Encoding::for_label(l.as_bytes()))
}

fn by_mail_parser<'a>(label: &str, octets: &'a [u8]) -> Cow<'a, str> {
    mail_parser::decoders::charsets::map::charset_decoder(label.as_bytes())
        .map_or_else(|| undeclared(octets), |decoder| Cow::Owned(decoder(octets)))
}

fn normalise(label: &str) -> String {
    let bare = label.trim().trim_matches(['"', '\'']);
    // RFC 2231 section 5: a language may follow behind an asterisk.
    bare.split('*').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_iso_2022_jp(octets: &[u8]) -> bool {
    [b"\x1b$B".as_slice(), b"\x1b$@", b"\x1b(J", b"\x1b(I"]
        .iter()
        .any(|escape| memchr::memmem::find(octets, escape).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(label: Option<&str>, octets: &[u8], expected: &str) {
        assert_eq!(decode(label, octets), expected, "{label:?}");
    }

    #[test]
    fn undeclared_text_is_utf8_where_valid_and_windows_1252_elsewhere() {
        check(None, "Grüße".as_bytes(), "Grüße");
        check(None, b"Gr\xfc\xdfe \x80", "Grüße €");
        check(Some("us-ascii"), b"Gr\xfc\xdfe", "Grüße");
        check(Some("nobody-knows-it"), "Grüße".as_bytes(), "Grüße");
        check(None, b"\x1b$B$3$s\x1b(B", "こん");
    }

    #[test]
    fn labels_mean_what_the_world_means_by_them() {
        check(Some("iso-8859-1"), b"\x93hi\x94", "\u{201c}hi\u{201d}");
        check(Some("GB2312"), b"\xe9F", "镕");
        check(Some("\"cp932\""), b"\x87\x40", "①");
        check(Some("utf-8*en"), "é".as_bytes(), "é");
        check(Some("utf-8"), b"caf\xe9", "café");
        check(Some("cp850"), b"\x82", "é");
        check(Some("utf-7"), b"+AOk-", "é");
        check(Some("win-1251"), b"\xcf", "П");
    }
}
