//! Header blocks inside text: the From/Sent/To/Subject lines that Outlook puts above what it quotes and every
//! client above what it forwards.

use super::addresses;
use super::date;
use super::encoded_word;
use super::labels::{Label, is_direction_mark, label_named, label_of};
use crate::address::NamedAddress;
use crate::time::Timestamp;

/// A block that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Whether a line names the author, by an address or not.
    has_from: bool,
    pub(super) from: Option<NamedAddress>,
    pub(super) to: Vec<NamedAddress>,
    pub(super) cc: Vec<NamedAddress>,
    pub(super) subject: Option<String>,
    pub(super) date: Option<Timestamp>,
    /// Lines of the block.
    pub(super) lines: usize,
}

/// Looks for blocks in one text. A line is looked at again from each of the lines above it, so that all looks together
/// are bounded.
pub(super) struct Looks {
    /// Octets that may still be looked at.
    left: usize,
}

impl Looks {
    pub(super) const fn new() -> Self {
        Self { left: MAX_LOOKED }
    }

    /// The block that begins at the first of these lines, whose label we know; it must name From and, beside it, at
    /// least `others` more of date, To, Cc and subject.
    pub(super) fn read(&mut self, lines: &[&str], others: usize) -> Option<Block> {
        let (first, _) = label_of(lines.first()?)?;
        if first == Label::Other {
            return None;
        }
        let (block, count) = self.block(Fields::read, lines)?;
        (block.has_from && count >= others).then_some(block)
    }

    /// A block whose labels are in a language that we do not know, where something else says that it is one: below a
    /// separator, under a forward's subject.
    pub(super) fn read_unknown(&mut self, lines: &[&str]) -> Option<Block> {
        field_of(whole_entries(lines.first()?))?;
        let (block, count) = self.block(Fields::read, lines)?;
        (block.from.is_some() && count >= 2).then_some(block)
    }

    /// A block without colons, below a separator: `From "Ana" <ana@x.test>`, or every label on a line above its value,
    /// where author and date may stand first and bare.
    pub(super) fn read_without_colons(&mut self, lines: &[&str]) -> Option<Block> {
        [Fields::read_columns, Fields::read_stacked].into_iter().find_map(|read| {
            let (block, count) = self.block(read, lines)?;
            (block.from.is_some() && count >= 2).then_some(block)
        })
    }

    /// Whether no more are to be had: that nothing is found then says nothing.
    pub(super) const fn are_over(&self) -> bool {
        self.left == 0
    }

    /// None when there have been too many looks.
    fn block(&mut self, read: fn(&[&str]) -> Fields, lines: &[&str]) -> Option<(Block, usize)> {
        if self.left == 0 {
            return None;
        }
        let fields = read(lines);
        self.left = self.left.saturating_sub(fields.looked);
        Some(Block::of(&fields))
    }
}

/// One line of a block, or several.
struct Field {
    /// None where we do not know the word.
    label: Option<Label>,
    value: String,
    /// What the value reads as, where we do not know the label.
    has_people: bool,
    has_date: bool,
}

impl Field {
    fn known(label: Label, value: &str) -> Self {
        Self { label: Some(label), value: value.to_owned(), has_people: false, has_date: false }
    }

    fn unknown(value: &str) -> Self {
        let mut field = Self { label: None, value: value.to_owned(), has_people: false, has_date: false };
        field.interpret();
        field
    }

    fn interpret(&mut self) {
        if self.label.is_none() {
            self.has_people = means(Label::From, &self.value);
            self.has_date = means(Label::Date, &self.value);
        }
    }
}

/// The fields at the head of some lines, in order.
#[derive(Default)]
struct Fields {
    fields: Vec<Field>,
    /// Lines that they take.
    used: usize,
    /// Octets that were looked at.
    looked: usize,
}

impl Fields {
    fn read(lines: &[&str]) -> Self {
        let mut out = Self::default();
        let mut blank = 0;
        for (at, line) in lines.iter().enumerate().take(MAX_LINES) {
            let line = out.look_at(line);
            let bare = unquoted(line);
            if bare.is_empty() {
                // Some clients set a blank line between the fields, never two.
                blank += 1;
                if blank > 1 {
                    break;
                }
                continue;
            }
            match field_of(line) {
                // The same label again is the next block's, or text.
                Some((Some(label), _)) if label != Label::Other && out.has(label) => break,
                Some((Some(label), value)) => out.fields.push(Field::known(label, value)),
                Some((None, _)) if blank > 0 => break,
                Some((None, value)) if out.take_unknown(value) => {}
                // A rule ends what stands above it.
                _ if blank == 0 && is_rule(bare) => {
                    out.used = at + 1;
                    break;
                }
                Some((None, _)) | None if blank > 0 || out.used != at || !out.fold(bare) => break,
                Some((None, _)) | None => {}
            }
            blank = 0;
            out.used = at + 1;
        }
        out
    }

    fn read_columns(lines: &[&str]) -> Self {
        let mut out = Self::default();
        for line in lines.iter().take(MAX_LINES) {
            let Some((word, value)) = unquoted(out.look_at(line)).split_once(char::is_whitespace) else {
                break;
            };
            let Some(label) = label_named(word).filter(|label| !out.has(*label)) else { break };
            out.fields.push(Field::known(label, value.trim()));
            out.used += 1;
        }
        out
    }

    fn read_stacked(lines: &[&str]) -> Self {
        let mut out = Self::default();
        let mut above = None;
        for (at, line) in lines.iter().enumerate().take(MAX_LINES) {
            let bare = unquoted(out.look_at(line));
            if bare.is_empty() {
                continue;
            }
            let label = label_named(bare.trim_end_matches(':')).filter(|label| !out.has(*label));
            match (label, above.take()) {
                (Some(label), _) => above = Some(label),
                (None, Some(label)) => out.fields.push(Field::known(label, bare)),
                (None, None) if !out.has(Label::From) && means(Label::From, bare) => {
                    out.fields.push(Field::known(Label::From, bare));
                }
                (None, None) if !out.has(Label::Date) && means(Label::Date, bare) => {
                    out.fields.push(Field::known(Label::Date, bare));
                }
                (None, None) => break,
            }
            out.used = at + 1;
        }
        out
    }

    /// As much of a line as is looked at.
    fn look_at<'a>(&mut self, line: &'a str) -> &'a str {
        let line = whole_entries(line);
        self.looked += line.len().max(MIN_LOOKED);
        line
    }

    fn has(&self, label: Label) -> bool {
        self.fields.iter().any(|field| field.label == Some(label))
    }

    /// Takes a value under an unknown label if it can be a field: an address or a date says so, or that nothing but
    /// the subject is left to come.
    fn take_unknown(&mut self, value: &str) -> bool {
        let field = Field::unknown(value);
        let says_so = field.has_people || field.has_date;
        let is_taken = says_so || {
            let mut unknown = self.fields.iter().filter(|field| field.label.is_none());
            !self.has(Label::Subject)
                && (self.has(Label::From) || unknown.clone().any(|field| field.has_people))
                && (self.has(Label::Date) || unknown.clone().any(|field| field.has_date))
                && unknown.all(|field| field.has_people || field.has_date)
        };
        if is_taken {
            self.fields.push(field);
        }
        is_taken
    }

    /// Takes a line as the rest of the value above; a short subject is whole, and what is below it the text.
    fn fold(&mut self, bare: &str) -> bool {
        match self.fields.last_mut() {
            Some(field)
                if field.value.len() < MAX_VALUE
                    && (field.label != Some(Label::Subject)
                        || field.value.chars().nth(MIN_FOLDED - 1).is_some()) =>
            {
                field.value.push(' ');
                field.value.push_str(bare);
                field.interpret();
                true
            }
            Some(_) | None => false,
        }
    }
}

/// `Label: value` or the row `| Label | value |`; no label where we do not know the word.
fn field_of(line: &str) -> Option<(Option<Label>, &str)> {
    if let Some((label, value)) = label_of(line) {
        return Some((Some(label), value.trim_end_matches(['*', '|']).trim_end()));
    }
    let bare = unquoted(line);
    if let Some((label, value)) = bare.strip_prefix('|').and_then(|row| row.split_once('|')) {
        return Some((
            Some(label_named(label.trim_end().trim_end_matches(':'))?),
            value.trim_matches(is_edge),
        ));
    }
    let (label, value) = bare.split_once([':', '：'])?;
    let is_label = label.chars().any(char::is_alphabetic)
        && label.chars().count() <= MAX_LABEL
        && label.split_whitespace().count() <= MAX_LABEL_WORDS
        && !label.contains(['@', '<', '"', ','])
        && !label.starts_with(|c: char| c.is_ascii_digit());
    let value = value.trim_matches(is_edge);
    (is_label && !value.is_empty() && !value.starts_with("//")).then_some((None, value))
}

fn is_edge(c: char) -> bool {
    matches!(c, '*' | '|') || is_direction_mark(c) || c.is_whitespace()
}

/// Whether a value reads as people or as a date.
fn means(label: Label, value: &str) -> bool {
    match label {
        Label::From => value.contains('@') && !people(value).is_empty(),
        Label::Date => value.chars().any(|c| c.is_numeric()) && date::read(value).is_some(),
        Label::Cc | Label::Other | Label::ReplyTo | Label::Subject | Label::To => false,
    }
}

/// `----------`, `__________`: a line of nothing else.
pub(super) fn is_rule(line: &str) -> bool {
    line.len() >= MIN_RULE && line.starts_with(['-', '=', '_', '*', '~']) && {
        let first = line.as_bytes().first();
        line.as_bytes().iter().all(|octet| Some(octet) == first)
    }
}

impl Block {
    /// The block and how many of date, To, Cc and subject it has.
    fn of(fields: &Fields) -> (Self, usize) {
        let value = |wanted: Label| {
            let mut known = fields.fields.iter().filter(|field| field.label == Some(wanted));
            known.next().map(|field| field.value.as_str())
        };
        let people_of = |label: Label| value(label).map(people).unwrap_or_default();
        let mut block = Self {
            has_from: value(Label::From).is_some(),
            from: people_of(Label::From).into_iter().next(),
            to: people_of(Label::To),
            cc: people_of(Label::Cc),
            subject: value(Label::Subject).map(subject_of).filter(|subject| !subject.is_empty()),
            date: value(Label::Date).and_then(date::read),
            lines: fields.used,
        };
        let named = |label: Label| usize::from(value(label).is_some());
        let named: usize = [Label::Date, Label::To, Label::Cc, Label::Subject].into_iter().map(named).sum();
        let unknown = fields.fields.iter().filter(|field| field.label.is_none());
        let guessed = unknown.filter(|field| block.takes(field, fields)).count();
        (block, named + guessed)
    }

    /// Whether it says as much as the block of a forward does, where nothing else calls it one.
    pub(super) fn is_full(&self) -> bool {
        self.from.is_some() && self.date.is_some() && !self.to.is_empty() && self.subject.is_some()
    }

    /// What stands under a label that we do not know: people first the author, then the recipients; a date; else
    /// the subject. Whether it says more than the author.
    fn takes(&mut self, field: &Field, known: &Fields) -> bool {
        let people = if field.has_people { people(&field.value) } else { Vec::new() };
        if let Some(first) = people.first() {
            if !self.has_from {
                (self.has_from, self.from) = (true, Some(first.clone()));
                return false;
            }
            // The author again is where to answer.
            if self.from.as_ref().is_some_and(|from| from.address == first.address) {
                return false;
            }
            match (known.has(Label::To) || !self.to.is_empty(), known.has(Label::Cc)) {
                (false, _) => self.to = people,
                (true, false) if self.cc.is_empty() => self.cc = people,
                (true, _) => return false,
            }
            return true;
        }
        match date::read(&field.value) {
            Some(date) if self.date.is_none() && !known.has(Label::Date) => self.date = Some(date),
            Some(_) | None if self.subject.is_none() && !known.has(Label::Subject) => {
                self.subject = Some(subject_of(&field.value));
            }
            Some(_) | None => return false,
        }
        true
    }
}

fn subject_of(value: &str) -> String {
    let shown: String = value.chars().filter(|c| !is_direction_mark(*c)).collect();
    encoded_word::decode(shown.trim())
}

/// Addresses as programs print them: `Ana <ana@x.test>`, `Ana [mailto:ana@x.test]`, `Ana (ana@x.test)`,
/// `Ana ana@x.test`, separated by commas or semicolons.
pub(super) fn people(value: &str) -> Vec<NamedAddress> {
    let value = whole_entries(value);
    // Some print the angles as they stand in a page.
    let value = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    let value = value.replace("[mailto:", "<").replace("<mailto:", "<").replace("(mailto:", "<");
    let value = if value.contains('<') { value } else { bare_angled(&angled(&value)) };
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
        } else if c == '*' || is_direction_mark(c) {
            // Bold print in text, and what is not seen.
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

/// As much of a value as is looked at, up to the end of an entry.
fn whole_entries(value: &str) -> &str {
    if value.len() <= MAX_VALUE {
        return value;
    }
    let head = value.get(..value.floor_char_boundary(MAX_VALUE)).unwrap_or_default();
    head.rfind([',', ';']).and_then(|end| head.get(..end)).unwrap_or(head)
}

/// `Ana (ana@x.test)` as `Ana <ana@x.test>`. No octet is looked at for more than one closing bracket.
fn angled(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('(') {
        out.push_str(before);
        // No bracket closes any more.
        let Some((inside, after)) = behind.split_once(')') else {
            out.push('(');
            rest = behind;
            break;
        };
        let blank = inside.rfind(char::is_whitespace);
        let has_address = inside.get(blank.unwrap_or(0)..).is_some_and(|word| word.contains('@'));
        if has_address && blank.is_none() {
            out.push('<');
            out.push_str(inside);
            out.push('>');
            rest = after;
        } else {
            // Of the brackets inside, only one behind the last blank can open what this one closes.
            let (skipped, left) = behind.split_at(blank.filter(|_| has_address).unwrap_or(inside.len()));
            out.push('(');
            out.push_str(skipped);
            rest = left;
        }
    }
    out.push_str(rest);
    out
}

/// `Ana ana@x.test` as `Ana <ana@x.test>`, for each of several.
fn bare_angled(value: &str) -> String {
    if value.contains(['<', '"']) || !value.contains('@') {
        return value.to_owned();
    }
    let person = |person: &str| match person.trim().rsplit_once(char::is_whitespace) {
        Some((name, address)) if address.contains('@') && !name.contains('@') => {
            format!("{} <{address}>", name.trim_end())
        }
        Some(_) | None => person.to_owned(),
    };
    let mut out = String::with_capacity(value.len() + 2);
    for piece in value.split_inclusive([',', ';']) {
        let end = piece.strip_suffix([',', ';']).unwrap_or(piece);
        out.push_str(&person(end));
        out.push_str(piece.get(end.len()..).unwrap_or_default());
    }
    out
}

/// The line without its quote marks.
pub(super) fn unquoted(line: &str) -> &str {
    let is_around = |c: char| matches!(c, '>' | '\u{feff}') || is_direction_mark(c) || c.is_whitespace();
    line.trim_start_matches(is_around).trim_end_matches(|c: char| is_direction_mark(c) || c.is_whitespace())
}

const MAX_LINES: usize = 40;
/// Characters of a subject that a program may have folded.
const MIN_FOLDED: usize = 40;
/// Characters of a label that we do not know.
const MAX_LABEL: usize = 25;
/// Words of a label that we do not know.
const MAX_LABEL_WORDS: usize = 4;
/// Octets of a rule.
const MIN_RULE: usize = 5;
/// Octets that all looks of one text may look at, each line of a look counted as one of [`MIN_LOOKED`] at least: that
/// is more than a thousand looks in vain, each of as many lines as a block has.
const MAX_LOOKED: usize = 2 * 1024 * 1024;
const MIN_LOOKED: usize = 32;
/// Octets of a value that are looked at.
const MAX_VALUE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], others: usize) -> Option<Block> {
        Looks::new().read(lines, others)
    }

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

    #[test]
    fn round_brackets_around_an_address_are_angles() {
        for (value, expected) in [
            ("Ana (ana@x.test)", "Ana <ana@x.test>"),
            ("Ana (Lee) (ana@x.test), Bo (bo@x.test)", "Ana (Lee) <ana@x.test>, Bo <bo@x.test>"),
            ("Ana (the (ana@x.test)", "Ana (the <ana@x.test>"),
            ("Ana ( ana@x.test)", "Ana ( ana@x.test)"),
            ("Ana (at ana@x.test) (", "Ana (at ana@x.test) ("),
            ("Ana ((ana@x.test) b)", "Ana <(ana@x.test> b)"),
            ("Ana ) (Lee (", "Ana ) (Lee ("),
        ] {
            assert_eq!(angled(value), expected);
        }
    }

    #[test]
    fn a_megabyte_of_brackets_takes_linear_time() {
        let many = "(".repeat(if cfg!(debug_assertions) { 4 << 20 } else { 32 << 20 });
        for (before, behind) in
            [("a@b ", ""), ("a@b ", ")"), ("a@b ", " )"), ("a@b ", "@ )"), ("a@b ", " @b c)")]
        {
            let value = format!("{before}{many}{behind}");
            assert_eq!(angled(&value), value);
        }
        for closed in ["(b)", "(b@ )", "( b@)"] {
            let value = closed.repeat(many.len() / closed.len());
            assert_eq!(angled(&value), value);
        }
    }

    #[test]
    fn a_value_is_looked_at_up_to_its_limit() {
        let entry = ", b@x.test";
        let longest = format!("{:w$}a@x.test{entry}", "", w = MAX_VALUE - entry.len() - "a@x.test".len());
        for (value, expected) in [(longest.clone(), 2), (format!("{longest}s"), 1), (longest + "s,", 1)] {
            assert_eq!(people(&value).len(), expected, "{} octets", value.len());
        }
        let many = ",b@x.test".repeat(MAX_VALUE / 9);
        let block = format!("To:{many},c@x.test\nFrom: ana@x.test\nSubject: x");
        let block = read(&block.lines().collect::<Vec<_>>(), 2).expect("a block");
        assert_eq!((block.to.len(), block.subject.as_deref()), (MAX_VALUE / 9, Some("x")));
    }

    #[test]
    fn looks_in_vain_end_at_their_limit() {
        let vain = vec!["zz: b@c.test"; MAX_LINES];
        let block = ["zz: ana@x.test", "yy: 5 Jan 2026", "xx: b@x.test"];
        let limit = MAX_LOOKED.div_ceil(MIN_LOOKED * MAX_LINES);
        for (count, is_read) in [(limit - 1, true), (limit, false)] {
            let mut looks = Looks::new();
            assert!((0..count).all(|_| looks.read_unknown(&vain).is_none_or(|block| block.date.is_none())));
            assert_eq!(looks.read_unknown(&block).is_some(), is_read, "behind {count} looks");
            assert_eq!(looks.read(&["From: a@b", "To: b@c", "Subject: x"], 2).is_some(), is_read);
        }
    }
}
