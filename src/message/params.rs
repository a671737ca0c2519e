//! `Content-Type` and `Content-Disposition`: a value and its parameters, RFC 2231 continuations and charsets
//! included, in every bent form that mail programs write.

use super::fields::{clean_line, unfold};
use super::{charset, encoded_word, transfer};

/// A value such as `text/plain`, lower case, and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameterised {
    pub(super) value: String,
    params: Vec<(String, String)>,
}

impl Parameterised {
    /// The first parameter of this (lower case) name, decoded.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a raw field value.
pub(super) fn parse(raw: &[u8]) -> Parameterised {
    let flat = unfold(raw);
    let mut pieces = Pieces { rest: flat.as_ref() };
    let head = pieces.next().unwrap_or_default();
    let mut value = String::with_capacity(head.len().min(MAX_VALUE));
    let bare = without_comments(&head);
    value.extend(bare.chars().filter(|c| !c.is_whitespace() && !c.is_control()).take(MAX_VALUE));
    value.make_ascii_lowercase();
    let mut plain = Vec::new();
    let mut extended = Vec::new();
    for piece in pieces.take(MAX_PARAMS) {
        let Some((name, value)) = piece.split_once('=') else { continue };
        let name = name.trim().to_ascii_lowercase();
        let value = unquote(value.trim());
        match Section::of(&name) {
            Some(section) => extended.push((section, value)),
            None => plain.push((name, readable(&value))),
        }
    }
    // The extended form, where both are there, says more.
    let mut params = join_sections(extended);
    params.extend(plain);
    Parameterised { value, params }
}

/// The pieces between semicolons that stand outside quotes.
struct Pieces<'a> {
    rest: &'a str,
}

impl Iterator for Pieces<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = self.rest.as_bytes();
        let (mut quoted, mut at) = (false, 0);
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b';' if !quoted => break,
                _ => {}
            }
            at += 1;
        }
        let end = at.min(bytes.len());
        let piece = self.rest.get(..end).unwrap_or(self.rest).to_owned();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(piece)
    }
}

/// `name*3*`: the name, the section, and whether its value is percent-encoded.
struct Section {
    name: String,
    number: u32,
    coding: Coding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Percent,
    Plain,
}

impl Section {
    fn of(name: &str) -> Option<Self> {
        let (base, tail) = name.split_once('*')?;
        let base = base.trim().to_owned();
        if tail.is_empty() {
            return Some(Self { name: base, number: 0, coding: Coding::Percent });
        }
        let (digits, coding) =
            tail.strip_suffix('*').map_or((tail, Coding::Plain), |digits| (digits, Coding::Percent));
        digits.parse().ok().map(|number| Self { name: base, number, coding })
    }
}

/// RFC 2231 section 3 and 4.1: sections in the order of their numbers; the charset stands in the first.
fn join_sections(mut sections: Vec<(Section, String)>) -> Vec<(String, String)> {
    sections.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name).then(a.number.cmp(&b.number)));
    let mut joined: Vec<(String, Vec<u8>, String)> = Vec::new();
    for (section, value) in sections {
        let is_new = joined.last().is_none_or(|(name, ..)| *name != section.name);
        let (label, text) = if is_new && section.coding == Coding::Percent {
            split_charset(&value)
        } else {
            (String::new(), value.as_str())
        };
        if is_new {
            joined.push((section.name, Vec::new(), label));
        }
        let Some((_, octets, _)) = joined.last_mut() else { continue };
        match section.coding {
            Coding::Percent => octets.extend_from_slice(&transfer::hex_escapes(text.as_bytes(), b'%')),
            Coding::Plain => octets.extend_from_slice(text.as_bytes()),
        }
    }
    joined
        .into_iter()
        .map(|(name, octets, label)| {
            let label = (!label.is_empty()).then_some(label);
            let text = charset::decode(label.as_deref(), &octets).into_owned();
            (name, clean_line(&encoded_word::decode(&text)))
        })
        .collect()
}

/// `utf-8'en'text` → (`utf-8`, `text`).
fn split_charset(value: &str) -> (String, &str) {
    let mut parts = value.splitn(3, '\'');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(label), Some(_), Some(text)) => (label.to_owned(), text),
        _ => (String::new(), value),
    }
}

/// The quoted string's content; Windows paths keep their backslashes. Outside quotes a comment may follow.
fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.trim_matches('\'').trim().to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some('"' | '\\')) => out.extend(chars.next()),
            '"' => break,
            c => out.push(c),
        }
    }
    out
}

fn readable(value: &str) -> String {
    clean_line(&encoded_word::decode(value))
}

/// Without `(comments)`, nested ones included.
pub(super) fn without_comments(text: &str) -> String {
    if !text.contains('(') {
        return text.to_owned();
    }
    let mut depth = 0_usize;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

const MAX_VALUE: usize = 255;
/// SMTP M9: RFC 2231 sections by the hundred thousand are an attack; a thousand are already odd.
const MAX_PARAMS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, value: &str, name: &str, expected: Option<&str>) {
        let parsed = parse(raw.as_bytes());
        assert_eq!((parsed.value.as_str(), parsed.param(name)), (value, expected), "{raw}");
    }

    #[test]
    fn values_and_parameters_are_read_in_their_bent_forms() {
        check(" Text/Plain; CharSet=\"utf-8\"", "text/plain", "charset", Some("utf-8"));
        check("text/plain (comment); charset=us-ascii", "text/plain", "charset", Some("us-ascii"));
        check("application/pdf; name=my file.pdf; x=y", "application/pdf", "name", Some("my file.pdf"));
        check("a/b; name=\"x;y\\\"z\"", "a/b", "name", Some("x;y\"z"));
        check("a/b; name=\"=?utf-8?Q?B=C3=BCcher.pdf?=\"", "a/b", "name", Some("Bücher.pdf"));
        check("", "", "name", None);
    }

    #[test]
    fn rfc_2231_sections_are_joined_and_decoded() {
        check("a; filename*=utf-8''B%C3%BCcher.pdf", "a", "filename", Some("Bücher.pdf"));
        check("a; filename*1=\"b.pdf\"; filename*0=\"a\"", "a", "filename", Some("ab.pdf"));
        check("a; filename*0*=utf-8''B%C3; filename*1*=%BCcher.pdf", "a", "filename", Some("Bücher.pdf"));
        check("a; filename=plain.pdf; filename*=utf-8''b%C3%A9.pdf", "a", "filename", Some("bé.pdf"));
    }

    #[test]
    fn m9_a_hundred_thousand_sections_take_linear_time() {
        let many: String = (0..100_000).map(|n| format!("; name*{n}=x")).collect();
        assert_eq!(parse(format!("a{many}").as_bytes()).param("name").map(str::len), Some(MAX_PARAMS));
    }
}
