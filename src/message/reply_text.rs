//! The text of a reply told apart: what is new, what is quoted, what is signature.
//!
//! Every line goes to exactly one of the three, so no word is ever lost. Lines are classed by what clients write
//! (attributions, separators, header blocks, quote marks, footers) and by what the HTML marks. Linear in the text.
//! One of more than [`lines::MAX_LINES`] lines is a file rather than a letter: all of it is new.

use std::ops::Range;

use super::attribution::Finder;
use super::marks::Mark;
use super::quoted_header::Looks;
use super::{ReplyText, Text, labels, lines};

/// What a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    New,
    Quoted,
    Signature,
}

/// Splits `text`; `marks` are octet ranges of it (empty where the text does not come from HTML).
pub(super) fn split(text: &Text, marks: &[(Mark, Range<usize>)]) -> ReplyText {
    if lines::are_too_many(text) {
        return unsplit(text);
    }
    let mut finder = Finder::new();
    let lines = lines_of(text, &mut finder);
    let mut classes = vec![Class::New; lines.len()];
    let rules = apply_marks(&lines, marks, &mut classes);
    quote(&lines, &rules, &mut classes, &mut finder);
    keep_interleaved(&lines, &mut classes);
    sign(&lines, &mut classes);
    let has_new =
        lines.iter().zip(&classes).any(|(line, class)| *class != Class::Quoted && !lines::is_blank(line));
    if !has_new && !is_introduced(&lines, marks, &mut finder) {
        // Nothing but lines that look quoted, and nobody is quoted: then they are what the author sends.
        classes.iter_mut().for_each(|class| *class = Class::New);
    }
    assemble(text, &lines, &classes)
}

/// All of the text as new.
fn unsplit(text: &Text) -> ReplyText {
    let blank = text.len() - text.trim_start().len();
    let start = text.get(..blank).and_then(|blank| blank.rfind('\n')).map_or(0, |end| end + 1);
    let new_text = text.cut(start..text.trim_end().len().max(start)).unwrap_or_default();
    ReplyText { new_text, quoted: None, signature: None }
}

/// Whether the text begins as clients begin a quote: its author has written nothing at all.
fn is_introduced(lines: &[&str], marks: &[(Mark, Range<usize>)], finder: &mut Finder) -> bool {
    let is_text = |at: &usize| !lines::is_blank(lines[*at]) && !is_rule(lines[*at].trim());
    let Some(first) = (0..lines.len()).find(is_text) else { return false };
    if labels::is_forward_separator(lines[first]) {
        // What is passed on is what its author sends.
        return false;
    }
    // A whole block: a person, too, may begin a text with two fields.
    if labels::is_original_separator(lines[first]) || Looks::new().read(window(lines, first), 3).is_some() {
        return true;
    }
    let end = (first..lines.len().min(first + MAX_INTRODUCTION))
        .find(|end| finder.lines_ending_at(lines, *end) == end + 1 - first);
    let is_marked = |line: &&str| lines::is_blank(line) || line.trim_start().starts_with('>');
    let has_mark = marks.iter().any(|(mark, _)| *mark == Mark::Quote);
    end.is_some_and(|end| has_mark || lines[end + 1..].iter().all(is_marked))
}

/// Lines; one that holds text and the start of an attribution counts as two.
fn lines_of<'a>(text: &'a str, finder: &mut Finder) -> Vec<&'a str> {
    let mut lines = Vec::new();
    for line in lines::split(text) {
        match finder.start_within(line) {
            Some(at) if !line.trim_start().starts_with('>') => {
                let (before, behind) = line.split_at(at);
                lines.extend([before, behind]);
            }
            Some(_) | None => lines.push(line),
        }
    }
    lines
}

/// Classes lines by marks, which stand in the order of their starts; answers which lines stand below a rule across
/// the page.
fn apply_marks(lines: &[&str], marks: &[(Mark, Range<usize>)], classes: &mut [Class]) -> Vec<usize> {
    let mut rules = Vec::new();
    if marks.is_empty() {
        return rules;
    }
    let mut starts = Vec::with_capacity(lines.len() + 1);
    let mut at = 0;
    for line in lines {
        starts.push(at);
        at += line.len() + 1;
    }
    // Lines above this were marked, if a mark that begins no later than the next one reaches them.
    let mut reached = 0;
    for (mark, range) in marks {
        let first = starts.partition_point(|start| *start < range.start);
        let last = starts.partition_point(|start| *start < range.end);
        let class = match mark {
            Mark::Quote => Class::Quoted,
            Mark::Rule => {
                rules.push(first);
                continue;
            }
            Mark::Signature => Class::Signature,
        };
        let rest = classes.get_mut(first.max(reached)..last).unwrap_or_default();
        rest.iter_mut().filter(|known| **known == Class::New).for_each(|known| *known = class);
        reached = reached.max(last);
    }
    rules.sort_unstable();
    rules
}

/// Finds the quoted lines.
fn quote(lines: &[&str], rules: &[usize], classes: &mut [Class], finder: &mut Finder) {
    let mut looks = Looks::new();
    let mut at = 0;
    while at < lines.len() {
        if classes[at] != Class::New || lines[at].is_empty() {
            at += 1;
            continue;
        }
        let is_below_rule = rules.binary_search(&at).is_ok() || (at > 0 && is_long_rule(lines[at - 1]));
        let found = if is_below_rule && is_author_line(lines, at, &mut looks) {
            Some(Quote::Rest)
        } else {
            quote_at(lines, at, finder, &mut looks)
        };
        match found {
            Some(Quote::Rest) => {
                let start = with_rule_above(lines, at);
                classes[start..].iter_mut().for_each(|class| *class = Class::Quoted);
                return;
            }
            Some(Quote::Lines(range)) => {
                let range = with_rule_above(lines, range.start)..range.end;
                at = range.end;
                classes[range].iter_mut().for_each(|class| *class = Class::Quoted);
            }
            None => at += 1,
        }
    }
    attribute_marked(lines, classes, finder);
}

/// What HTML marks as quoted often begins below its attribution.
fn attribute_marked(lines: &[&str], classes: &mut [Class], finder: &mut Finder) {
    for at in 1..lines.len() {
        if classes[at] != Class::Quoted || classes[at - 1] == Class::Quoted {
            continue;
        }
        let above = (at.saturating_sub(3)..at).rev().find(|above| !lines::is_blank(lines[*above]));
        let Some(last) = above.filter(|last| classes[*last] == Class::New) else { continue };
        let count = finder.lines_ending_at(lines, last);
        if count > 0 {
            classes[last + 1 - count..at].iter_mut().for_each(|class| *class = Class::Quoted);
        }
    }
}

/// `From: ana@x.test`, below a rule.
fn is_author_line(lines: &[&str], at: usize, looks: &mut Looks) -> bool {
    let label = labels::label_of(lines[at]);
    label.is_some_and(|(label, value)| label == labels::Label::From && value.contains('@'))
        || looks.read(window(lines, at), 1).is_some()
}

enum Quote {
    Lines(Range<usize>),
    /// To the end of the message.
    Rest,
}

/// The quote that begins at this line, or whose attribution ends at it.
fn quote_at(lines: &[&str], at: usize, finder: &mut Finder, looks: &mut Looks) -> Option<Quote> {
    let line = lines[at];
    let count = finder.lines_ending_at(lines, at);
    if count > 0 && !(line.starts_with('>') && lines[at + 1 - count].starts_with('>')) {
        let start = at + 1 - count;
        let next = (at + 1..lines.len()).find(|next| !lines::is_blank(lines[*next]));
        return Some(match next {
            Some(next) if lines[next].trim_start().starts_with('>') => {
                Quote::Lines(start..end_of_marked(lines, next))
            }
            Some(_) | None => Quote::Lines(start..lines.len()),
        });
    }
    if line.starts_with('>') || line.starts_with(" >") {
        let end = end_of_marked(lines, at);
        return Some(if is_header_alone(lines, at, end, looks) {
            Quote::Rest
        } else {
            Quote::Lines(at..end)
        });
    }
    if lines::is_blank(line) {
        return None;
    }
    let is_start = labels::is_original_separator(line)
        || labels::is_forward_separator(line)
        || looks.read(window(lines, at), 2).is_some();
    is_start.then_some(Quote::Rest)
}

/// Some clients mark the header block and leave bare what stands below it.
fn is_header_alone(lines: &[&str], start: usize, end: usize, looks: &mut Looks) -> bool {
    (start..end.min(start + 2))
        .any(|at| looks.read(&lines[at..end], 2).is_some_and(|block| at + block.lines >= end))
}

/// The lines that a header block can take.
fn window<'a, 'b>(lines: &'b [&'a str], at: usize) -> &'b [&'a str] {
    &lines[at..lines.len().min(at + 40)]
}

/// Behind the last of a run of lines that begin with a quote mark; blank lines between them belong to it.
fn end_of_marked(lines: &[&str], start: usize) -> usize {
    let mut end = start;
    for (at, line) in lines.iter().enumerate().skip(start) {
        if line.trim_start().starts_with('>') {
            end = at + 1;
        } else if !lines::is_blank(line) {
            break;
        }
    }
    end
}

/// A rule or separator above a quote belongs to it.
fn with_rule_above(lines: &[&str], start: usize) -> usize {
    let mut first = start;
    for at in (start.saturating_sub(3)..start).rev() {
        let line = lines[at].trim();
        if is_rule(line)
            || is_between_rules(line)
            || labels::is_original_separator(line)
            || labels::is_forward_separator(line)
        {
            first = at;
        } else if !line.is_empty() {
            break;
        }
    }
    first
}

/// `----- Original Message -----`, in whatever language.
fn is_between_rules(line: &str) -> bool {
    let is_mark = |c: char| matches!(c, '-' | '_' | '=' | '*');
    let inner = line.trim_matches(is_mark);
    line.len() <= MAX_SEPARATOR_OCTETS
        && line.starts_with(is_mark)
        && inner.split_whitespace().count() <= MAX_SEPARATOR_WORDS
        && line.len() - inner.len() >= 2 * MIN_RULE_OCTETS
}

/// A rule that is long enough to divide a page.
fn is_long_rule(line: &str) -> bool {
    if lines::begins_as_text(line) {
        return false;
    }
    let line = line.trim();
    line.len() >= 20 && is_rule(line)
}

/// A row of five or more underscores, dashes, asterisks or equals signs.
fn is_rule(line: &str) -> bool {
    line.len() >= 5 && line.chars().all(|c| matches!(c, '_' | '-' | '=' | '*' | '—' | '–' | ' '))
}

/// Answers that stand between quotes make no sense without them: those quotes stay in the new text. So does a
/// quote that nobody introduced and that the text goes on from.
fn keep_interleaved(lines: &[&str], classes: &mut [Class]) {
    let is_text = |at: &usize| !lines::is_blank(lines[*at]);
    let is_new = |classes: &[Class], at: &usize| classes[*at] == Class::New && is_text(at);
    let Some(first_quote) = classes.iter().position(|class| *class == Class::Quoted) else { return };
    let Some(last) = (first_quote..lines.len()).rev().find(|at| is_new(classes, at)) else { return };
    let Some(first) = (first_quote..lines.len()).find(|at| is_new(classes, at)) else { return };
    let start = (0..first).rev().find(|at| is_new(classes, at)).map_or(0, |at| at + 1);
    let has_quote_between = (first..last).any(|at| classes[at] == Class::Quoted && is_text(&at));
    let is_marked = |at: usize| lines[at].trim_start().starts_with('>');
    let introduced = (start..first)
        .find(|at| classes[*at] == Class::Quoted && is_text(at))
        .is_some_and(|at| !is_marked(at));
    let is_all_marked = (start..last).any(is_marked);
    let opens_with_quote = start == 0 && !introduced;
    if is_all_marked && (has_quote_between || opens_with_quote) {
        classes[start..=last]
            .iter_mut()
            .filter(|class| **class == Class::Quoted)
            .for_each(|class| *class = Class::New);
    }
}

/// Finds the signature among the new lines.
fn sign(lines: &[&str], classes: &mut [Class]) {
    let separator =
        (0..lines.len()).find(|at| classes[*at] == Class::New && is_signature_separator(lines[*at]));
    if let Some(at) = separator {
        let end = (at..lines.len()).find(|end| classes[*end] == Class::Quoted).unwrap_or(lines.len());
        classes[at..end].iter_mut().for_each(|class| *class = Class::Signature);
    }
    sign_footers(lines, classes);
}

/// Footers stand last of what is new, several of them too, with at most a few lines (a link) below.
fn sign_footers(lines: &[&str], classes: &mut [Class]) {
    let (mut start, mut others) = (None, 0);
    for at in (0..lines.len()).rev() {
        if classes[at] != Class::New || lines::is_blank(lines[at]) {
            continue;
        }
        if labels::is_footer(lines[at]) || is_custom_footer(lines, at) {
            start = Some(at);
            others = 0;
        } else {
            others += 1;
            if others > MAX_BELOW_FOOTER {
                break;
            }
        }
    }
    if let Some(start) = start {
        classes[start..]
            .iter_mut()
            .filter(|class| **class == Class::New)
            .for_each(|class| *class = Class::Signature);
    }
}

/// `Sent from …`, whatever follows, as a paragraph of its own.
fn is_custom_footer(lines: &[&str], at: usize) -> bool {
    let line = lines[at].trim();
    line.starts_with("Sent from ")
        && line.split_whitespace().count() <= 8
        && at > 0
        && lines::is_blank(lines[at - 1])
        && lines.get(at + 1).is_none_or(|next| lines::is_blank(next))
}

/// `-- ` and what people make of it: two to four dashes or underscores.
fn is_signature_separator(line: &str) -> bool {
    if lines::begins_as_text(line) {
        return false;
    }
    let bare = line.trim();
    if bare.len() > MAX_DASHES_OCTETS {
        return false;
    }
    let is_dashes =
        (2..=4).contains(&bare.chars().count()) && bare.chars().all(|c| matches!(c, '-' | '_' | '–' | '—'));
    is_dashes || bare == "—"
}

/// A separator with words in it is no longer than this.
const MAX_SEPARATOR_OCTETS: usize = 120;
const MAX_SEPARATOR_WORDS: usize = 6;
/// Dashes on each side of its words.
const MIN_RULE_OCTETS: usize = 3;
/// Four dashes of the longest sort.
const MAX_DASHES_OCTETS: usize = 4 * '—'.len_utf8();
/// Lines of an attribution that opens a mail.
const MAX_INTRODUCTION: usize = 6;
/// Lines of text that may stand below a footer, for it to be one.
const MAX_BELOW_FOOTER: usize = 3;

fn assemble(text: &Text, lines: &[&str], classes: &[Class]) -> ReplyText {
    let of = |wanted: Class| {
        let kept: Vec<&str> =
            lines.iter().zip(classes).filter(|(_, class)| **class == wanted).map(|(line, _)| *line).collect();
        let mut text = trim_blank_lines(&kept).join("\n");
        text.truncate(text.trim_end().len());
        text
    };
    let some = |text: String| (!text.trim().is_empty()).then_some(text);
    ReplyText {
        new_text: new_in_one_piece(text, lines, classes).unwrap_or_else(|| of(Class::New).into()),
        quoted: some(of(Class::Quoted)),
        signature: some(of(Class::Signature)),
    }
}

/// The new text, where it stands in one piece, as it does in most mail.
fn new_in_one_piece(text: &Text, lines: &[&str], classes: &[Class]) -> Option<Text> {
    let is_new = |at: &usize| classes.get(*at) == Some(&Class::New);
    let is_filled = |at: &usize| is_new(at) && lines.get(*at).is_some_and(|line| !lines::is_blank(line));
    let first = (0..lines.len()).find(is_filled)?;
    let last = (0..lines.len()).rev().find(is_filled)?;
    if !(first..=last).all(|at| is_new(&at)) {
        return None;
    }
    let octets = |lines: &[&str]| lines.iter().map(|line| line.len() + 1).sum::<usize>();
    let start = octets(lines.get(..first)?);
    let end = start + octets(lines.get(first..=last)?) - 1;
    // Where a line counts as two, the text has no line end between them.
    let is_whole = octets(lines) == text.len() + 1;
    let piece = text.cut(start..end).filter(|_| is_whole)?;
    piece.cut(0..piece.trim_end().len())
}

fn trim_blank_lines<'a, 'b>(lines: &'b [&'a str]) -> &'b [&'a str] {
    let first = lines.iter().position(|line| !lines::is_blank(line)).unwrap_or(lines.len());
    let last = lines.iter().rposition(|line| !lines::is_blank(line)).map_or(first, |last| last + 1);
    &lines[first..last]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, new: &str, quoted: Option<&str>, signature: Option<&str>) {
        let reply = split(&text.into(), &[]);
        let found = (reply.new_text.as_str(), reply.quoted.as_deref(), reply.signature.as_deref());
        assert_eq!(found, (new, quoted, signature), "{text:?}");
    }

    #[test]
    fn new_text_quote_and_signature_are_told_apart() {
        check("Just this", "Just this", None, None);
        check(
            "Yes\n\nOn Mon, Jan 5, 2026 at 9:00 AM Ana\n<ana@x.test> wrote:\n\n> Really?\n",
            "Yes",
            Some("On Mon, Jan 5, 2026 at 9:00 AM Ana\n<ana@x.test> wrote:\n\n> Really?"),
            None,
        );
        check("Yes\n\n-- \nAna\nDoctor", "Yes", None, Some("-- \nAna\nDoctor"));
        check(
            "Yes\n\nSent from my iPhone\n\n> Really?",
            "Yes",
            Some("> Really?"),
            Some("Sent from my iPhone"),
        );
        check(
            "Yes\n________________________________\nFrom: Ana <ana@x.test>\nSent: Monday\nTo: Jo\nSubject: x\n\nReally?",
            "Yes",
            Some(
                "________________________________\nFrom: Ana <ana@x.test>\nSent: Monday\nTo: Jo\nSubject: x\n\nReally?",
            ),
            None,
        );
    }

    #[test]
    fn interleaved_answers_keep_their_quotes() {
        let text = "> one?\n\nYes.\n\n> two?\n\nNo.";
        check(text, text, None, None);
    }

    #[test]
    fn a_mail_of_a_quote_alone_has_no_new_text() {
        let all_quoted = |text: &str| check(text, "", Some(text), None);
        all_quoted("On Mon, Jan 5, 2026 at 9:00 AM Tom <tom@x.test> wrote:\n> Call her.\n>\n> Tom");
        all_quoted(
            "-----Original Message-----\nFrom: Tom <tom@x.test>\nSent: Monday\nTo: Jo\nSubject: x\n\nCall her.",
        );
        all_quoted(
            "________________________________\nVon: Tom <tom@x.test>\nGesendet: Montag\nAn: Jo\nBetreff: x\n\nRuf an.",
        );
        // Nobody is quoted by name: the author sends a passage.
        check("> A passage\n> of a text", "> A passage\n> of a text", None, None);
        // Further words, unmarked: who wrote which is not certain, and nothing may be hidden.
        let mixed = "On Mon, Jan 5, 2026 at 9:00 AM Tom <tom@x.test> wrote:\n\nCall her.\n\nI have called.";
        check(mixed, mixed, None, None);
    }

    /// An unoptimised build is thirty times slower.
    const HOSTILE_OCTETS: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 5 * 1024 * 1024 };

    #[test]
    fn megabytes_of_look_alikes_take_linear_time() {
        for line in [
            "> x\n",
            "On \n",
            "On 1 2 a@b:\n",
            "From: x\n",
            ":\n",
            "--\n",
            "wrote:\n",
            "-----\n",
            "Sent from my x\n",
            "\n",
            "a\n> b\n",
        ] {
            let text = line.repeat((HOSTILE_OCTETS / line.len()).min(lines::MAX_LINES / 2 - 1));
            let reply = split(&text.clone().into(), &[]);
            assert!(reply.new_text.len() <= text.len());
        }
    }

    #[test]
    fn megabytes_on_one_line_take_linear_time() {
        let size = HOSTILE_OCTETS * 16;
        for (start, repeated) in [
            ("To: a@b ", "("),
            ("To: a@b ", "<"),
            ("To: a@b ", "\""),
            ("To: x@", ":"),
            ("To: a@b ", "(a@b "),
            ("To: a@b ", "a@,"),
            ("From: ", "=?utf-8?Q?a"),
            ("Subject: ", "=?utf-8?Q?a"),
            ("Date: ", "1. "),
            ("> ", ">"),
            ("", "-"),
            ("From: a@b\nzz: ", "a@b,"),
        ] {
            let text = format!("{start}{}", repeated.repeat(size / repeated.len()));
            let reply = split(&text.clone().into(), &[]);
            assert!(reply.new_text.len() <= text.len());
        }
    }

    #[test]
    fn m10_a_text_of_as_many_lines_as_are_held_is_split_and_a_longer_one_is_new_as_a_whole() {
        let text = |lines: usize| format!("\n \nYes\n\n> Really?{}", "\n".repeat(lines - 5));
        let (held, longer) = (text(lines::MAX_LINES), text(lines::MAX_LINES + 1));
        check(&held, "Yes", Some("> Really?"), None);
        check(&longer, "Yes\n\n> Really?", None, None);
        check(&"\n".repeat(lines::MAX_LINES + 1), "", None, None);
    }

    /// Each mark alone to the end of the text would be ten thousand million steps.
    #[test]
    fn m10_marks_over_each_other_are_walked_once() {
        let lines = vec!["x"; 100_000];
        let mut classes = vec![Class::New; lines.len()];
        let quotes = (0..100_000).map(|n| (Mark::Quote, n + 2..usize::MAX));
        let marks: Vec<_> = std::iter::once((Mark::Signature, 0..2)).chain(quotes).collect();
        assert!(apply_marks(&lines, &marks, &mut classes).is_empty());
        assert_eq!(classes[0], Class::Signature);
        assert!(classes[1..].iter().all(|class| *class == Class::Quoted));
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_ever_lost(lines in proptest::collection::vec(line(), 0..30)) {
            let text = lines.concat();
            let reply = split(&text.clone().into(), &[]);
            let mut parts: Vec<&str> = reply.new_text.split_whitespace().collect();
            parts.extend(reply.quoted.as_deref().unwrap_or_default().split_whitespace());
            parts.extend(reply.signature.as_deref().unwrap_or_default().split_whitespace());
            let mut whole: Vec<&str> = text.split_whitespace().collect();
            parts.sort_unstable();
            whole.sort_unstable();
            proptest::prop_assert_eq!(parts, whole);
        }
    }

    fn line() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        prop_oneof![
            Just("\n".to_owned()),
            Just("some words\n".to_owned()),
            Just("> quoted\n".to_owned()),
            Just("On Mon, Jan 5, 2026 at 9:00 AM Ana <ana@x.test> wrote:\n".to_owned()),
            Just("-----Original Message-----\n".to_owned()),
            Just("From: a@x.test\nSent: Monday\nTo: b\nSubject: c\n".to_owned()),
            Just("-- \n".to_owned()),
            Just("Sent from my iPhone\n".to_owned()),
            Just("____________\n".to_owned()),
            "[ -~]{0,20}\n",
        ]
    }
}
