//! Header blocks inside text: the From/Sent/To/Subject lines that Outlook puts above what it quotes and every
//! client above what it forwards.

use super::addresses;
use super::date;
use super::encoded_word;
use super::labels::{Label, label_of};
use crate::address::NamedAddress;
use crate::time::Timestamp;

/// A block that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) from: Option<NamedAddress>,
    /// What From says where it holds no address.
    pub(super) from_text: String,
    pub(super) to: Vec<NamedAddress>,
    pub(super) cc: Vec<NamedAddress>,
    pub(super) subject: Option<String>,
    pub(super) date: Option<Timestamp>,
    /// Lines of the block.
    pub(super) lines: usize,
}

/// The block that begins at the first of these lines; it must name From and, beside it, at least `others` more
/// of date, To, Cc and subject.
pub(super) fn read(lines: &[&str], others: usize) -> Option<Block> {
    let (first, _) = label_of(lines.first()?)?;
    if first == Label::Other {
        return None;
    }
    let mut fields: Vec<(Label, String)> = Vec::new();
    let mut used = 0;
    let mut blank = 0;
    for (at, line) in lines.iter().enumerate().take(MAX_LINES) {
        let bare = unquoted(line);
        if bare.is_empty() {
            // Some clients set a blank line between the fields, never two.
            blank += 1;
            if blank > 1 {
                break;
            }
            continue;
        }
        match label_of(line) {
            // The same label again is the next block's, or text.
            Some((label, _)) if label != Label::Other && fields.iter().any(|(known, _)| *known == label) => {
                break;
            }
            Some((label, value)) => {
                fields.push((label, value.trim().trim_end_matches('*').trim().to_owned()))
            }
            None if blank > 0 => break,
            // A folded value; a short subject is whole, and what is below it the text.
            None => match fields.last_mut() {
                Some((label, value))
                    if used == at
                        && value.len() < MAX_VALUE
                        && (*label != Label::Subject || value.chars().count() >= MIN_FOLDED) =>
                {
                    value.push(' ');
                    value.push_str(bare);
                }
                Some(_) | None => break,
            },
        }
        blank = 0;
        used = at + 1;
    }
    let has = |label: Label| fields.iter().any(|(known, _)| *known == label);
    let count =
        [Label::Date, Label::To, Label::Cc, Label::Subject].into_iter().filter(|label| has(*label)).count();
    (has(Label::From) && count >= others).then(|| Block::of(&fields, used))
}

/// A block whose labels are in a language that we do not know, below a separator that says what it is: the first
/// line with an address is the author, the next the recipient, the line that reads as a date the date, the other
/// the subject.
pub(super) fn read_unknown(lines: &[&str]) -> Option<Block> {
    let mut block = Block::default();
    for line in lines.iter().take(MAX_UNKNOWN) {
        let Some((label, value)) = unquoted(line).split_once([':', '：']) else { break };
        let value = value.trim();
        if label.is_empty() || label.chars().count() > MAX_LABEL || value.is_empty() {
            break;
        }
        block.lines += 1;
        let people = if value.contains('@') { people(value) } else { Vec::new() };
        if people.is_empty() {
            match date::read(value) {
                Some(date) if block.date.is_none() => block.date = Some(date),
                Some(_) | None => block.subject = block.subject.or_else(|| Some(value.to_owned())),
            }
        } else if block.from.is_none() {
            block.from = people.into_iter().next();
        } else if block.to.is_empty() {
            block.to = people;
        } else if block.cc.is_empty() {
            block.cc = people;
        }
    }
    (block.from.is_some() && block.lines >= 3).then_some(block)
}

impl Block {
    fn of(fields: &[(Label, String)], lines: usize) -> Self {
        let value = |wanted: Label| {
            fields.iter().find(|(label, _)| *label == wanted).map(|(_, value)| value.as_str())
        };
        let people = |label: Label| value(label).map(people).unwrap_or_default();
        let from_text = value(Label::From).unwrap_or_default();
        Self {
            from: people(Label::From).into_iter().next(),
            from_text: from_text.to_owned(),
            to: people(Label::To),
            cc: people(Label::Cc),
            subject: value(Label::Subject).map(encoded_word::decode).filter(|subject| !subject.is_empty()),
            date: value(Label::Date).and_then(date::read),
            lines,
        }
    }
}

/// Addresses as programs print them: `Ana <ana@x.test>`, `Ana [mailto:ana@x.test]`, `Ana (ana@x.test)`,
/// separated by commas or semicolons.
pub(super) fn people(value: &str) -> Vec<NamedAddress> {
    let value = value.replace("[mailto:", "<").replace("<mailto:", "<").replace("(mailto:", "<");
    let value = if value.contains('<') { value } else { angled(&value) };
    let mut flat = String::with_capacity(value.len());
    let mut open = false;
    for c in value.chars() {
        match c {
            '<' => open = true,
            '>' => open = false,
            _ => {}
        }
        // `[mailto:` was opened above: its bracket closes an angle.
        if open && matches!(c, ']' | ')') {
            flat.push('>');
            open = false;
        } else if c == '*' || c == '\u{200e}' {
            // Bold print in text.
        } else {
            flat.push(c);
        }
    }
    // `ana@x.test<ana@x.test>`: link text and target.
    let mut found = addresses::list_text(&flat).found;
    for person in &mut found {
        if person.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(person.address.as_str())) {
            person.name = None;
        }
    }
    found
}

/// `Ana (ana@x.test)` as `Ana <ana@x.test>`.
fn angled(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('(') {
        out.push_str(before);
        match behind.split_once(')') {
            Some((inside, after)) if inside.contains('@') && !inside.contains(char::is_whitespace) => {
                out.push('<');
                out.push_str(inside);
                out.push('>');
                rest = after;
            }
            Some(_) | None => {
                out.push('(');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The line without its quote marks.
pub(super) fn unquoted(line: &str) -> &str {
    line.trim_start_matches(|c: char| matches!(c, '>' | '\u{feff}') || c.is_whitespace()).trim_end()
}

const MAX_LINES: usize = 40;
/// Characters of a subject that a program may have folded.
const MIN_FOLDED: usize = 40;
/// Fields of a block in an unknown language.
const MAX_UNKNOWN: usize = 7;
/// Characters of a label.
const MAX_LABEL: usize = 25;
const MAX_VALUE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_in_many_languages() {
        let block = read(
            &[
                "*Von:* Ana Lee [mailto:ana@x.test]",
                "*Gesendet:* Donnerstag, 15. Dezember 2016 09:35",
                "An: b@x.test; 'C' <c@x.test>",
                "Betreff: Termin",
                "",
                "Text",
            ],
            2,
        )
        .expect("a block");
        assert_eq!(
            block.from.as_ref().map(|f| (f.name.as_deref(), f.address.as_str())),
            Some((Some("Ana Lee"), "ana@x.test"))
        );
        assert_eq!((block.to.len(), block.subject.as_deref(), block.lines), (2, Some("Termin"), 4));
        assert!(block.date.is_some());
        assert!(read(&["From: here on", "we go"], 2).is_none());
        assert!(read(&["> De : Ana <ana@x.test>", "> Date : 1 janvier 2016", "> À : b@x.test"], 2).is_some());
    }
}
