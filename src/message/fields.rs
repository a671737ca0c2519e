//! A header block as the list of its fields, in order, exactly as received.
//!
//! Liberal in what it reads (CRLF or LF, white space before the colon, lines that are no field are passed over
//! and counted) and bounded: over its [`Limits`] a block ends with a refusal. Values are
//! views into the raw message, folds included; reading them is the business of other files.

use std::borrow::Cow;

use super::TooComplex;
use super::{charset, encoded_word};

/// One field. `value` is raw: folded, encoded, without its last line break.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Without the white space that may stand before the colon.
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) spelling: Spelling,
}

/// Whether a field begins where a field begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The first line of the block is indented: a continuation of nothing.
    Indented,
    Plain,
}

/// The fields of one block.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields<'a> {
    list: Vec<Field<'a>>,
}

impl<'a> Fields<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Field<'a>> {
        self.list.iter()
    }

    /// All raw values of one name, in order. `name` is lower or mixed case ASCII.
    pub(super) fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.list
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|f| f.value)
    }

    /// The raw value of the last field of this name: the one that DKIM covers (SMTP M2).
    pub(super) fn last(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next_back()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.last(name).is_some()
    }

    /// The last field of this name as plain text: unfolded, trimmed, not RFC 2047 decoded.
    pub(super) fn plain(&self, name: &str) -> Option<String> {
        self.last(name).map(|value| charset::without_nul(unfold(value)).trim().to_owned())
    }

    /// The last field of this name as a person reads it: unfolded, decoded, trimmed.
    pub(super) fn readable(&self, name: &str) -> Option<String> {
        self.last(name).map(readable)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

/// What a block may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    octets: usize,
    fields: usize,
}

impl Limits {
    /// Of any block as it was received.
    pub(super) const RECEIVED: Self = Self { octets: MAX_HEADER_OCTETS, fields: MAX_FIELDS };
    /// Of the first block of a message that is read as stored: on what was received stand our own trace fields.
    pub(super) const STORED: Self =
        Self { octets: MAX_HEADER_OCTETS + TRACE_OCTETS, fields: MAX_FIELDS + TRACE_FIELDS };
}

/// Reads the block that begins at `start`; answers it and the offset of the first octet of the body. A line for
/// which `stop` holds ends the block before it.
pub(super) fn read_block(
    raw: &[u8],
    start: usize,
    stop: impl Fn(&[u8]) -> bool,
) -> Result<(Fields<'_>, usize), TooComplex> {
    read_block_within(raw, start, stop, if start == 0 { Limits::STORED } else { Limits::RECEIVED })
}

/// The same, within these limits.
pub(super) fn read_block_within(
    raw: &[u8],
    start: usize,
    stop: impl Fn(&[u8]) -> bool,
    limits: Limits,
) -> Result<(Fields<'_>, usize), TooComplex> {
    let mut list: Vec<Field<'_>> = Vec::new();
    let mut at = start;
    let mut open: Option<(Field<'_>, usize)> = None;
    // A line that is longer than the limit ends nowhere.
    let within = raw.get(..start.saturating_add(limits.octets).saturating_add(1)).unwrap_or(raw);
    while at < raw.len() {
        let end = line_end(within, at);
        let line = trim_line_break(&raw[at..end]);
        if end - start > limits.octets {
            return Err(TooComplex { what: "octets of header", limit: MAX_HEADER_OCTETS });
        }
        let is_stop = line.starts_with(b"--") && stop(line);
        if line.is_empty() || is_stop {
            close(raw, open.take(), at, &mut list);
            return Ok((Fields { list }, if is_stop { at } else { end }));
        }
        let is_indented = matches!(line.first(), Some(b' ' | b'\t'));
        // A parameter that should have been indented goes on with the field above.
        let is_stray =
            line.contains(&b'=') && split(line).is_none() && open.is_some() && ends_in_semicolon(&raw[..at]);
        if (is_indented && at != start) || is_stray {
            at = end;
            continue;
        }
        close(raw, open.take(), at, &mut list);
        if let Some((name, value)) = split(line) {
            if list.len() >= limits.fields {
                return Err(TooComplex { what: "header fields", limit: MAX_FIELDS });
            }
            let spelling = if is_indented { Spelling::Indented } else { Spelling::Plain };
            open = Some((
                Field { name, value, spelling },
                end - (raw[at..end].len() - line.len()) - value.len(),
            ));
        }
        at = end;
    }
    close(raw, open.take(), at, &mut list);
    Ok((Fields { list }, at))
}

fn ends_in_semicolon(before: &[u8]) -> bool {
    let window = &before[before.len().saturating_sub(80)..];
    window.trim_ascii_end().ends_with(b";")
}

/// A field reaches to the start of the next one.
fn close<'a>(raw: &'a [u8], open: Option<(Field<'a>, usize)>, end: usize, list: &mut Vec<Field<'a>>) {
    if let Some((field, value_start)) = open {
        list.push(Field { value: trim_line_break(&raw[value_start..end]), ..field });
    }
}

/// Name and the value's part on this line. A name of several words is no name: `From ana Mon Jan 1 00:00:00`.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    // Blanks alone: another control character hides a name from other readers, and then it is not that name.
    let blank = |b: &&u8| matches!(b, b' ' | b'\t');
    let before = line[..colon].iter().take_while(blank).count();
    let behind = line[before..colon].iter().rev().take_while(blank).count();
    let name = &line[before..colon - behind];
    let is_name = !name.is_empty() && !name.iter().any(|b| matches!(b, b' ' | b'\t'));
    is_name.then(|| (name, &line[colon + 1..]))
}

/// The offset behind the line break of the line that begins at `at`.
pub(super) fn line_end(raw: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &raw[at..]).map_or(raw.len(), |newline| at + newline + 1)
}

/// The line without its LF or CRLF.
pub(super) fn trim_line_break(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Takes the line breaks out of a folded value (RFC 5322 section 2.2.3) and reads 8-bit text.
pub(super) fn unfold(value: &[u8]) -> Cow<'_, str> {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return charset::undeclared(value);
    }
    let flat: Vec<u8> = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    Cow::Owned(charset::undeclared(&flat).into_owned())
}

/// Unfolded, RFC 2047 decoded, white space at the ends removed, no NUL and no other control characters.
pub(super) fn readable(value: &[u8]) -> String {
    let flat = unfold(value);
    clean_line(&encoded_word::decode(&flat))
}

/// One line of text for a person: control characters gone (a tab becomes a space), ends trimmed.
pub(super) fn clean_line(text: &str) -> String {
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return text.trim().to_owned();
    }
    let clean: String = text
        .chars()
        .map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    clean.trim().to_owned()
}

/// SMTP H1, M9: a header block longer than this is refused.
pub(super) const MAX_HEADER_OCTETS: usize = 256 * 1024;
/// SMTP H2, M9: more fields than this in one block are refused.
pub(super) const MAX_FIELDS: usize = 1_000;
/// Return-Path, Received, Authentication-Results.
const TRACE_FIELDS: usize = 3;
/// More than they ever take: ten signatures, each with two names and a reason of 255 octets.
const TRACE_OCTETS: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &[u8]) -> (Vec<(String, String)>, usize) {
        let (fields, body) = read_block(raw, 0, |_| false).expect("within limits");
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (fields.iter().map(|f| (text(f.name), text(f.value))).collect(), body)
    }

    #[test]
    fn fields_are_found_with_either_line_end_and_odd_lines_are_passed_over() {
        let (fields, body) = read(b"From x y\nA : 1\r\nnonsense\nB: 2\n 3\n\nbody");
        assert_eq!(fields, [("A".to_owned(), " 1".to_owned()), ("B".to_owned(), " 2\n 3".to_owned())]);
        assert_eq!(body, 34);
    }

    #[test]
    fn an_indented_first_line_is_a_field_and_says_so() {
        let (fields, _) = read_block(b" From: a@b.test\r\n\r\n", 0, |_| false).expect("within limits");
        assert_eq!(fields.iter().map(|f| f.spelling).collect::<Vec<_>>(), [Spelling::Indented]);
    }

    #[test]
    fn m9_a_thousand_fields_are_read_and_one_more_is_refused_our_own_on_top_aside() {
        let block = |n: usize| "A: b\r\n".repeat(n).into_bytes();
        let received = |n| read_block_within(&block(n), 0, |_| false, Limits::RECEIVED).is_ok();
        assert_eq!([received(MAX_FIELDS), received(MAX_FIELDS + 1)], [true, false]);
        let stored = |n, start| read_block(&block(n), start, |_| false).is_ok();
        assert_eq!([stored(MAX_FIELDS + 3, 0), stored(MAX_FIELDS + 4, 0)], [true, false]);
        // A block inside the message begins behind the first: the field before it is no part of it.
        assert_eq!([stored(MAX_FIELDS + 1, 6), stored(MAX_FIELDS + 2, 6)], [true, false]);
    }

    #[test]
    fn m9_a_header_of_256_kib_is_read_and_one_octet_more_is_refused() {
        let block = |n: usize| format!("A: {}\r\n", "b".repeat(n - 5)).into_bytes();
        let received = |n| read_block_within(&block(n), 0, |_| false, Limits::RECEIVED).is_ok();
        assert_eq!([received(MAX_HEADER_OCTETS), received(MAX_HEADER_OCTETS + 1)], [true, false]);
        let stored = |n| read_block(&block(n), 0, |_| false).is_ok();
        let most = MAX_HEADER_OCTETS + TRACE_OCTETS;
        assert_eq!([stored(most), stored(most + 1)], [true, false]);
    }
}
