//! RFC 2047 encoded words, read the way clients must: words that split a character are joined before they are
//! decoded, words glued to other text or standing inside quotes are read all the same.
//!
//! Linear in the length of the text. What is no encoded word stays as it is.

use super::{charset, transfer};

/// Decodes every encoded word of a line that was unfolded before.
pub(super) fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut ends = Ends { text, next: None };
    // Octets of the words just read that share a charset: a character may reach from one into the next.
    let mut pending: Option<(String, Vec<u8>)> = None;
    while let Some(start) = rest.find("=?") {
        let (before, from_word) = rest.split_at(start);
        let Some(word) = parse(from_word, &mut ends) else {
            flush(&mut pending, &mut out);
            out.push_str(before);
            out.push_str("=?");
            rest = from_word.get(2..).unwrap_or_default();
            continue;
        };
        // White space between two words is no part of the text.
        let is_adjacent = pending.is_some() && before.chars().all(char::is_whitespace);
        if !is_adjacent {
            flush(&mut pending, &mut out);
            out.push_str(before);
        }
        match &mut pending {
            Some((charset, octets)) if charset.eq_ignore_ascii_case(word.charset) => {
                octets.extend(word.octets)
            }
            Some(_) | None => {
                flush(&mut pending, &mut out);
                pending = Some((word.charset.to_owned(), word.octets));
            }
        }
        rest = word.rest;
    }
    flush(&mut pending, &mut out);
    out.push_str(rest);
    out
}

struct Word<'a> {
    charset: &'a str,
    octets: Vec<u8>,
    rest: &'a str,
}

/// Where the words of a text end. Each place is looked for once, however many words would end there.
struct Ends<'a> {
    text: &'a str,
    /// The first that is not behind us; the length of the text if there is none.
    next: Option<usize>,
}

impl Ends<'_> {
    /// Octets before the first `?=` of what the text ends with.
    fn of(&mut self, inner: &str) -> Option<usize> {
        let from = self.text.len().checked_sub(inner.len())?;
        let next = self.next.filter(|next| *next >= from).unwrap_or_else(|| {
            let next = inner.find("?=").map_or(self.text.len(), |end| from + end);
            self.next = Some(next);
            next
        });
        (next < self.text.len()).then(|| next - from)
    }
}

fn parse<'a>(text: &'a str, ends: &mut Ends<'_>) -> Option<Word<'a>> {
    let inner = text.strip_prefix("=?")?;
    let (charset, inner) = split_short(inner)?;
    let (encoding, inner) = split_short(inner)?;
    let is_base64 = match encoding {
        "B" | "b" => true,
        "Q" | "q" => false,
        _ => return None,
    };
    let end = ends.of(inner).filter(|end| end + "?=".len() <= MAX_WORD)?;
    let (payload, rest) = (inner.get(..end)?, inner.get(end + 2..)?);
    let octets = if is_base64 { transfer::base64(payload.as_bytes()) } else { q(payload.as_bytes()) };
    Some(Word { charset, octets, rest })
}

/// Up to the next question mark, which must come soon and with no white space before it.
fn split_short(text: &str) -> Option<(&str, &str)> {
    let window = text.get(..floor(text, MAX_CHARSET)).unwrap_or(text);
    let end = window.find('?')?;
    let head = text.get(..end)?;
    (!head.is_empty() && !head.contains(char::is_whitespace)).then_some((head, text.get(end + 1..)?))
}

/// RFC 2047 section 4.2.
fn q(payload: &[u8]) -> Vec<u8> {
    let underscored: Vec<u8> = payload.iter().map(|b| if *b == b'_' { b' ' } else { *b }).collect();
    transfer::hex_escapes(&underscored, b'=').into_owned()
}

fn flush(pending: &mut Option<(String, Vec<u8>)>, out: &mut String) {
    if let Some((label, octets)) = pending.take() {
        out.push_str(&charset::decode(Some(&label), &octets));
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

const MAX_CHARSET: usize = 64;
/// A word is at most 75 characters by the letter; senders that do not split write whole subjects as one.
const MAX_WORD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(decode(text), expected);
    }

    #[test]
    fn words_are_decoded_and_white_space_between_them_goes() {
        check("=?utf-8?Q?Gr=C3=BC=C3=9Fe?= an =?ISO-8859-1?q?J=FCrgen?=", "Grüße an Jürgen");
        check("=?utf-8?B?R3LDvA==?=   =?utf-8?B?w59l?=", "Grüße");
        check("a =?utf-8?Q?b_c?= d", "a b c d");
    }

    #[test]
    fn a_character_split_over_two_words_is_whole() {
        check("=?utf-8?Q?J=C3?= =?UTF-8?Q?=BCrgen?=", "Jürgen");
        check("=?utf-8?B?SsM=?= =?utf-8?B?vHJnZW4=?=", "Jürgen");
    }

    #[test]
    fn what_is_no_word_stays() {
        check("=?utf-8?X?abc?= =?", "=?utf-8?X?abc?= =?");
        check("1 =? 2 ?= 3", "1 =? 2 ?= 3");
        check("=?iso-2022-jp?B?GyRCJDMkcxsoQg==?=", "こん");
        check("\"=?utf-8?Q?in_quotes?=\"", "\"in quotes\"");
        check("=?utf-8?Q?with raw space?=", "with raw space");
    }

    #[test]
    fn a_megabyte_of_openers_takes_linear_time() {
        let text = "=?utf-8?Q?a".repeat(if cfg!(debug_assertions) { 500_000 } else { 5_000_000 });
        assert_eq!(decode(&text), text);
    }

    #[test]
    fn a_word_is_as_long_as_the_limit_and_no_longer() {
        let word = |octets: usize| format!("=?utf-8?Q?{}?= =?utf-8?Q?b?=", "a".repeat(octets));
        let longest = MAX_WORD - "?=".len();
        check(&word(longest), &format!("{}b", "a".repeat(longest)));
        check(&word(longest + 1), &format!("=?utf-8?Q?{}?= b", "a".repeat(longest + 1)));
    }
}
