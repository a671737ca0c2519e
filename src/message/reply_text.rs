//! The text of a reply told apart: what is new, what is quoted, what is signature.
//!
//! Every line goes to exactly one of the three, so no word is ever lost. Lines are classed by what clients write
//! (attributions, separators, header blocks, quote marks, footers) and by what the HTML marks. Linear in the text.

use std::ops::Range;

use super::marks::Mark;
use super::{ReplyText, attribution, labels, quoted_header};

/// What a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    New,
    Quoted,
    Signature,
}

/// Splits `text`; `marks` are octet ranges of it (empty where the text does not come from HTML).
pub(super) fn split(text: &str, marks: &[(Mark, Range<usize>)]) -> ReplyText {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut classes = vec![Class::New; lines.len()];
    apply_marks(&lines, marks, &mut classes);
    quote(&lines, &mut classes);
    keep_interleaved(&lines, &mut classes);
    sign(&lines, &mut classes);
    assemble(&lines, &classes)
}

fn apply_marks(lines: &[&str], marks: &[(Mark, Range<usize>)], classes: &mut [Class]) {
    if marks.is_empty() {
        return;
    }
    let mut starts = Vec::with_capacity(lines.len() + 1);
    let mut at = 0;
    for line in lines {
        starts.push(at);
        at += line.len() + 1;
    }
    for (mark, range) in marks {
        let class = match mark {
            Mark::Quote => Class::Quoted,
            Mark::Signature => Class::Signature,
        };
        let first = starts.partition_point(|start| *start < range.start);
        let last = starts.partition_point(|start| *start < range.end);
        for known in classes.iter_mut().take(last).skip(first).filter(|known| **known == Class::New) {
            *known = class;
        }
    }
}

/// Finds the quoted lines.
fn quote(lines: &[&str], classes: &mut [Class]) {
    let mut at = 0;
    while at < lines.len() {
        if classes[at] != Class::New {
            at += 1;
            continue;
        }
        match quote_at(lines, at) {
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
}

enum Quote {
    Lines(Range<usize>),
    /// To the end of the message.
    Rest,
}

/// The quote that begins at this line, or whose attribution ends at it.
fn quote_at(lines: &[&str], at: usize) -> Option<Quote> {
    let line = lines[at];
    if line.starts_with('>') || line.starts_with(" >") {
        return Some(Quote::Lines(at..end_of_marked(lines, at)));
    }
    if line.trim().is_empty() {
        return None;
    }
    if labels::is_original_separator(line)
        || labels::is_forward_separator(line)
        || quoted_header::read(window(lines, at), 2).is_some()
    {
        return Some(Quote::Rest);
    }
    let count = attribution::lines_ending_at(lines, at);
    if count == 0 {
        return None;
    }
    let start = at + 1 - count;
    let next = (at + 1..lines.len()).find(|next| !lines[*next].trim().is_empty());
    match next {
        Some(next) if lines[next].trim_start().starts_with('>') => {
            Some(Quote::Lines(start..end_of_marked(lines, next)))
        }
        Some(_) => Some(if start == at { Quote::Rest } else { Quote::Lines(start..lines.len()) }),
        None => Some(Quote::Lines(start..lines.len())),
    }
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
        } else if !line.trim().is_empty() {
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
        if is_rule(line) || labels::is_original_separator(line) || labels::is_forward_separator(line) {
            first = at;
        } else if !line.is_empty() {
            break;
        }
    }
    first
}

/// A row of five or more underscores, dashes, asterisks or equals signs.
fn is_rule(line: &str) -> bool {
    line.len() >= 5 && line.chars().all(|c| matches!(c, '_' | '-' | '=' | '*' | '—' | '–' | ' '))
}

/// Answers that stand between quotes make no sense without them: those quotes stay in the new text.
fn keep_interleaved(lines: &[&str], classes: &mut [Class]) {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut open = None;
    for (at, line) in lines.iter().enumerate() {
        if classes[at] == Class::New && !line.trim().is_empty() {
            open = Some(open.map_or(at..at + 1, |run: Range<usize>| run.start..at + 1));
        } else if classes[at] == Class::Quoted {
            runs.extend(open.take());
        }
    }
    runs.extend(open);
    let Some(first_quote) = classes.iter().position(|class| *class == Class::Quoted) else { return };
    let behind_a_quote = |run: &Range<usize>| run.start > first_quote;
    let answers: Vec<&Range<usize>> = runs.iter().filter(|run| behind_a_quote(run)).collect();
    if let [first, .., last] = answers.as_slice() {
        let from = first.start;
        // The quote that the first answer speaks to.
        let is_text = |at: &usize| classes[*at] == Class::New && !lines[*at].trim().is_empty();
        let start = (0..from).rev().find(is_text).map_or(0, |at| at + 1);
        let is_marked = lines[start..last.start].iter().any(|line| line.trim_start().starts_with('>'));
        if is_marked {
            classes[start..last.end]
                .iter_mut()
                .filter(|c| **c == Class::Quoted)
                .for_each(|c| *c = Class::New);
        }
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

/// Mobile footers stand last of what is new.
fn sign_footers(lines: &[&str], classes: &mut [Class]) {
    let mut seen = 0;
    for at in (0..lines.len()).rev() {
        if classes[at] != Class::New || lines[at].trim().is_empty() {
            continue;
        }
        seen += 1;
        if labels::is_footer(lines[at]) {
            let run = at..lines.len();
            for index in run {
                if classes[index] == Class::New {
                    classes[index] = Class::Signature;
                }
            }
        }
        if seen >= 4 {
            return;
        }
    }
}

/// `-- ` and what people make of it: two to four dashes or underscores.
fn is_signature_separator(line: &str) -> bool {
    let bare = line.trim();
    let is_dashes =
        (2..=4).contains(&bare.chars().count()) && bare.chars().all(|c| matches!(c, '-' | '_' | '–' | '—'));
    is_dashes || bare == "—"
}

fn assemble(lines: &[&str], classes: &[Class]) -> ReplyText {
    let of = |wanted: Class| {
        let kept: Vec<&str> =
            lines.iter().zip(classes).filter(|(_, class)| **class == wanted).map(|(line, _)| *line).collect();
        trim_blank_lines(&kept).join("\n").trim_end().to_owned()
    };
    let some = |text: String| (!text.trim().is_empty()).then_some(text);
    ReplyText {
        new_text: of(Class::New),
        quoted: some(of(Class::Quoted)),
        signature: some(of(Class::Signature)),
    }
}

fn trim_blank_lines<'a, 'b>(lines: &'b [&'a str]) -> &'b [&'a str] {
    let first = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(lines.len());
    let last = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(first, |last| last + 1);
    &lines[first..last]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, new: &str, quoted: Option<&str>, signature: Option<&str>) {
        let reply = split(text, &[]);
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
            let text = line.repeat(HOSTILE_OCTETS / line.len());
            let reply = split(&text, &[]);
            assert!(reply.new_text.len() <= text.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_ever_lost(lines in proptest::collection::vec(line(), 0..30)) {
            let text = lines.concat();
            let reply = split(&text, &[]);
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
