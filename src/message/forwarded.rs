//! R28: the message that somebody forwarded by hand, attached whole or quoted inline in a client's format.

use super::attachment::Item;
use super::attribution::Finder;
use super::labels::Label;
use super::quoted_header::{self, Block, Looks, unquoted};
use super::scan::{Shape, Tree};
use super::{Forwarded, addresses, attribution, body, date, label_words, labels, lines};
use crate::time::Timestamp;

/// What the message forwards; `text` is its body.
pub(super) fn find(tree: &Tree<'_>, items: &[Item], subject: &str, text: &str) -> Option<Forwarded> {
    inline(subject, text).or_else(|| attached(tree, items))
}

/// A nested message: its own headers are better than what a client prints of them.
fn attached(tree: &Tree<'_>, items: &[Item]) -> Option<Forwarded> {
    let root = tree.parts.first()?;
    if matches!(root.content_type.value.as_str(), "multipart/report" | "multipart/digest") {
        return None;
    }
    let (n, index) = items.iter().enumerate().find_map(|(n, item)| match item {
        Item::Part(index) => {
            let part = tree.parts.get(*index)?;
            (part.shape == Shape::Message || part.is_encoded_message() || part.is_message_file())
                .then_some((n, *index))
        }
        Item::Tnef(..) => None,
    })?;
    let octets = tree.decoded(index);
    let inner = Tree::scan(&octets).ok()?;
    let fields = &inner.parts.first()?.fields;
    if tree.parts.get(index)?.is_message_file() && fields.last("from").is_none() {
        return None;
    }
    let people = |name: &str| fields.last(name).map(|value| addresses::list(value).found).unwrap_or_default();
    // R10 holds for an original too: of several authors none is believed.
    let has_one_author = fields.all("from").count() == 1 && people("from").len() == 1;
    Some(Forwarded {
        from: people("from").into_iter().next().filter(|_| has_one_author),
        to: people("to"),
        cc: people("cc"),
        subject: fields.readable("subject").filter(|subject| !subject.is_empty()),
        date: fields.plain("date").and_then(|value| date::read(&value)),
        text: body::read(&inner).text,
        attachment: Some(n),
    })
}

/// A forward printed into the text. The first quote of the text decides: a forward's separator makes one; a plain
/// header block or attribution does under a forward's subject.
fn inline(subject: &str, text: &str) -> Option<Forwarded> {
    let lines: Vec<&str> =
        lines::split_bounded(text).map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let has_prefix = has_forward_prefix(subject);
    // Most mail forwards nothing: one look at each line tells.
    if !has_prefix && !lines.iter().any(|line| labels::is_forward_separator(line) || is_title(line)) {
        return None;
    }
    let mut finder = Finder::new();
    let mut looks = Looks::new();
    let mut marked = 0;
    for (at, line) in lines.iter().enumerate() {
        if labels::is_original_separator(line) {
            return block_below(&lines, at + 1, &mut looks)
                .filter(|_| has_prefix)
                .map(|(start, block)| forward_of(&lines, start, block));
        }
        if labels::is_forward_separator(line) {
            return block_below(&lines, at + 1, &mut looks)
                .map(|(start, block)| forward_of(&lines, start, block))
                .or_else(|| bare_forward(&lines, at + 1, subject));
        }
        if is_title(line)
            && let Some((start, block)) = block_below(&lines, at + 1, &mut looks)
            && (has_prefix || block.is_full())
        {
            return Some(forward_of(&lines, start, block));
        }
        if has_prefix && let Some(forward) = framed_forward(&lines, at, subject) {
            return Some(forward);
        }
        if line.starts_with('>') && unquoted(line).is_empty() {
            continue;
        }
        let below = lines.get(at..)?;
        let mut found = looks.read(below, 2);
        if found.is_none() && has_prefix {
            found = looks.read_unknown(below).filter(|block| block.date.is_some());
        }
        if let Some(block) = found {
            return has_prefix.then(|| forward_of(&lines, at, block));
        }
        if line.starts_with('>') {
            // Words that no table of ours holds may stand above the block.
            marked += 1;
            if marked > MAX_MARKED {
                return None;
            }
        } else if finder.lines_ending_at(&lines, at) > 0 {
            return if has_prefix { bare_forward(&lines, at + 1, subject) } else { None };
        }
    }
    None
}

/// `---------- words ----------`, in whatever language and by whatever sign.
fn is_title(line: &str) -> bool {
    title(line).is_some()
}

/// The words of such a line, or of one that has dashes before them alone.
fn open_title(line: &str) -> Option<&str> {
    title(line).or_else(|| {
        let words = unquoted(line).strip_prefix("-----")?.trim_start_matches('-').trim();
        (words.len() <= MAX_TITLE && words.chars().any(char::is_alphabetic)).then_some(words)
    })
}

/// The words of such a line.
fn title(line: &str) -> Option<&str> {
    let line = unquoted(line);
    let is_sign = |c: char| matches!(c, '-' | '=' | '_' | '*' | '~');
    let begins = |line: &mut dyn Iterator<Item = char>| line.take(3).filter(|c| is_sign(*c)).count() == 3;
    if line.len() > MAX_TITLE || !begins(&mut line.chars()) || !begins(&mut line.chars().rev()) {
        return None;
    }
    let words = line.trim_matches(|c: char| is_sign(c) || c == ' ');
    // Scissors.
    let words = words.strip_prefix("8<").map_or(words, |rest| rest.trim_start_matches(is_sign)).trim();
    words.chars().any(char::is_alphabetic).then_some(words)
}

/// The block on the next lines that are not blank.
fn block_below(lines: &[&str], from: usize, looks: &mut Looks) -> Option<(usize, Block)> {
    let start = (from..lines.len()).take(5).find(|at| !unquoted(lines[*at]).is_empty())?;
    let below = lines.get(start..)?;
    let block = looks
        .read(below, 1)
        .or_else(|| looks.read_unknown(below))
        .or_else(|| looks.read_without_colons(below))?;
    Some((start, block))
}

/// A forward that names the author in an attribution line, as Outlook for the Mac writes it; its subject is that of
/// the mail around it, unless labelled lines above the attribution say more.
fn bare_forward(lines: &[&str], behind: usize, subject: &str) -> Option<Forwarded> {
    let mut finder = Finder::new();
    let end =
        (behind.saturating_sub(1)..lines.len()).take(6).find(|at| finder.lines_ending_at(lines, *at) > 0)?;
    let start = end + 1 - finder.lines_ending_at(lines, end);
    let line = lines.get(start..=end)?.iter().map(|line| unquoted(line)).collect::<Vec<_>>().join(" ");
    let rest = lines.get(end + 1..).unwrap_or_default();
    let rest = text_below(lines.get(..=start).unwrap_or_default(), rest);
    let body: Vec<&str> =
        rest.iter().map(|line| strip_one_mark(line.strip_prefix("    ").unwrap_or(line))).collect();
    let mut forwarded = attributed(&line, subject, &body)?;
    let above = lines.get(..start).unwrap_or_default().iter().rev();
    for (label, value) in above.map_while(|line| labels::label_of(line)).take(MAX_LABELLED) {
        match label {
            Label::To => forwarded.to = quoted_header::people(value),
            Label::Cc => forwarded.cc = quoted_header::people(value),
            Label::Subject => forwarded.subject = Some(value.trim_end_matches(';').to_owned()),
            Label::Date | Label::From | Label::Other | Label::ReplyTo => {}
        }
    }
    Some(forwarded)
}

/// `>>> "Ana" <ana@x.test> 23.11.2026 09:14 >>>` above the text, as `GroupWise` writes it.
fn framed_forward(lines: &[&str], at: usize, subject: &str) -> Option<Forwarded> {
    let line = lines.get(at).filter(|line| line.len() <= MAX_FRAME)?;
    let line = line.trim().strip_prefix(">>>")?.strip_suffix(">>>")?;
    attributed(line, subject, lines.get(at + 1..).unwrap_or_default())
}

/// What an attribution tells.
fn attributed(line: &str, subject: &str, body: &[&str]) -> Option<Forwarded> {
    Some(Forwarded {
        from: Some(attribution::author(line)?),
        to: Vec::new(),
        cc: Vec::new(),
        subject: Some(without_forward_prefix(subject).to_owned()).filter(|subject| !subject.is_empty()),
        date: date::read(line),
        text: joined(body),
        attachment: None,
    })
}

/// The lines as one text, trimmed; it may be a large one.
fn joined(lines: &[&str]) -> String {
    let mut text = lines.join("\n");
    text.truncate(text.trim_end().len());
    text.drain(..text.len() - text.trim_start().len());
    text
}

fn forward_of(lines: &[&str], start: usize, block: Block) -> Forwarded {
    let above = lines.get(..=start).unwrap_or_default();
    let rest = text_below(above, lines.get(start + block.lines..).unwrap_or_default());
    // Apple Mail quotes the whole forward once, others what is below the block.
    let is_marked = |line: &&str| line.trim_start().starts_with('>');
    let mut filled = rest.iter().filter(|line| !lines::is_blank(line)).peekable();
    let is_quoted =
        lines.get(start).is_some_and(is_marked) || (filled.peek().is_some() && filled.all(is_marked));
    let body: Vec<&str> =
        rest.iter().map(|line| if is_quoted { strip_one_mark(line) } else { line }).collect();
    Forwarded {
        from: block.from,
        to: block.to,
        cc: block.cc,
        subject: block.subject,
        date: block.date.or_else(|| date_above(above)),
        text: joined(&body),
        attachment: None,
    }
}

/// The date in the words right above the block, the last line here: `Message du 23/11/26 09:14`. Between dashes it
/// is that of the forwarding.
fn date_above(above: &[&str]) -> Option<Timestamp> {
    let line = above.iter().rev().skip(1).find(|line| !unquoted(line).is_empty())?;
    let line = unquoted(line);
    if is_title(line) || line.len() > MAX_TITLE { None } else { date::read(line) }
}

/// The text below the block (whose first line is the last of `above`), without the rule or title that some set
/// before it and without what answers a title: all from `----- End forwarded message -----` on, or a title or rule
/// at the end.
fn text_below<'a, 'b>(above: &[&'b str], rest: &'a [&'b str]) -> &'a [&'b str] {
    let opening = above.iter().rev().skip(1).find(|line| !unquoted(line).is_empty());
    let first = rest.iter().find(|line| !unquoted(line).is_empty());
    let second = first.filter(|line| is_second_title(opening, line, rest));
    let rest = match second.and_then(|second| rest.iter().position(|line| line == second)) {
        Some(at) => rest.get(at + 1..).unwrap_or_default(),
        None => rest,
    };
    let titles: Vec<&str> =
        [opening, second].into_iter().flatten().filter_map(|line| open_title(line)).collect();
    let mut looks = Looks::new();
    let mut is_end = |at: &usize| titles.iter().any(|title| answers(title, rest, *at, &mut looks));
    if let Some(end) = (0..rest.len()).rev().find(|at| is_end(at)) {
        return &rest[..end];
    }
    match rest.iter().rposition(|line| !line.trim().is_empty()) {
        Some(last) if opening.is_some_and(|line| is_title(line)) && is_closing(rest[last]) => &rest[..last],
        Some(_) | None => rest,
    }
}

/// A rule, the title again, or another title which begins no message of its own.
fn is_second_title(opening: Option<&&str>, line: &str, rest: &[&str]) -> bool {
    let is_again =
        || opening.is_some_and(|opening| title(opening).is_some() && title(opening) == title(line));
    let is_separator = || labels::is_forward_separator(line) || labels::is_original_separator(line);
    quoted_header::is_rule(unquoted(line))
        || is_again()
        || (is_title(line) && !is_separator() && block_below(rest, 1, &mut Looks::new()).is_none())
}

/// Whether a line is the end that belongs to a title: half of its longer words are the title's, and no message
/// begins below it.
fn answers(opening: &str, lines: &[&str], at: usize, looks: &mut Looks) -> bool {
    let Some(title) = open_title(lines[at]).filter(|title| *title != opening) else { return false };
    let opening = labels::folded(opening);
    let folded = labels::folded(title);
    let words = folded.split_whitespace().filter(|word| word.chars().count() >= 4);
    let stems: Vec<String> = words.map(|word| word.chars().take(STEM).collect()).collect();
    let shared = stems.iter().filter(|stem| opening.contains(stem.as_str())).count();
    shared > 0
        && shared * 2 >= stems.len()
        && block_below(lines, at + 1, looks).is_none()
        && !looks.are_over()
}

/// A title between dashes, or a rule of nothing else.
fn is_closing(line: &str) -> bool {
    is_title(line) || quoted_header::is_rule(line.trim())
}

fn strip_one_mark(line: &str) -> &str {
    line.strip_prefix('>').map_or(line, |rest| rest.strip_prefix(' ').unwrap_or(rest))
}

/// `Fwd:`, `WG:`, `TR:` and the prefixes of other languages.
pub(super) fn has_forward_prefix(subject: &str) -> bool {
    let Some((prefix, _)) = subject.trim_start_matches(['[', '(', ' ']).split_once([':', '：']) else {
        return false;
    };
    label_words::FORWARD_PREFIXES.contains(&labels::folded(prefix).trim().trim_end_matches('.'))
}

/// The subject that the original had.
fn without_forward_prefix(subject: &str) -> &str {
    let mut bare = subject.trim();
    while has_forward_prefix(bare) {
        bare = bare.split_once([':', '：']).map_or("", |(_, rest)| rest.trim());
    }
    bare
}

/// Labelled lines above an attribution.
const MAX_LABELLED: usize = 4;
/// Lines of a quote above its header block.
const MAX_MARKED: usize = 3;
/// Octets of a title between dashes.
const MAX_TITLE: usize = 160;
/// Octets of an attribution between angles.
const MAX_FRAME: usize = 1_000;
/// Letters of a word that its endings leave alone.
const STEM: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// An unoptimised build is thirty times slower.
    const HOSTILE_OCTETS: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 5 * 1024 * 1024 };

    #[test]
    fn a_block_behind_few_lines_that_look_like_one_is_found_and_behind_a_hundred_thousand_not() {
        let block = "From: Ana <ana@x.test>\nDate: 5 Jan 2026\nTo: b@x.test\nSubject: x\n\nText";
        for (count, is_found) in [(10, true), (1_000, true), (100_000, false)] {
            let text = format!("{}\n\n{block}", "zz: b@c.test\n".repeat(count));
            assert_eq!(inline("Fwd: x", &text).is_some(), is_found, "{count}");
        }
        // Under another subject nothing is looked for but a separator.
        let text = format!("{}--- Forwarded message ---\n{block}", "zz: b@c.test\n".repeat(100_000));
        assert!(inline("x", &text).is_some());
    }

    #[test]
    fn m10_all_of_a_forward_is_told_however_many_lines_it_has() {
        let block = "---------- Forwarded message ---------\nFrom: Ana <ana@x.test>\nDate: 5 Jan 2026\n\
            Subject: x\nTo: b@x.test\n\n";
        for lines in [9, lines::MAX_LINES, lines::MAX_LINES + 9] {
            let body = format!("a\n{}> b", "\n".repeat(lines));
            let forward = inline("x", &format!("See below.\n\n{block}{body}\n")).expect("a forward");
            assert_eq!((forward.from.is_some(), forward.text == body), (true, true), "{lines}");
        }
    }

    #[test]
    fn an_attribution_between_angles_is_read_up_to_its_limit() {
        let forward = |octets: usize| {
            let named = "Ana <ana@x.test> 5 Jan 2026 >>>";
            let line = format!(">>>{:w$}{named}", "", w = octets - 3 - named.len());
            assert_eq!(line.len(), octets);
            inline("Fwd: x", &format!("{line}\nText")).map(|forward| forward.text)
        };
        assert_eq!(forward(MAX_FRAME).as_deref(), Some("Text"));
        assert_ne!(forward(MAX_FRAME + 1).as_deref(), Some("Text"));
    }

    #[test]
    fn megabytes_of_look_alikes_take_linear_time() {
        for lines in [
            "zz: b@c.test\n",
            "zz: b@c.test, b@c.test, b@c.test, b@c.test, b@c.test, b@c.test, b@c.test\nx\n",
            "From: b@c.test\n",
            "zz: 5 Jan 2026\n",
            "----- forwarded message -----\nzz: b@c.test\n",
            "----- any words -----\nzz: b@c.test\n",
            ">>> a@b >>>\n",
            ">\n",
            "To: b@c.test (((((\nzz: a\nCc: <<<<<\nSubject: =?utf-8?q?\nzz: (((((@\n",
        ] {
            let text = lines.repeat(HOSTILE_OCTETS / lines.len());
            for (subject, before) in [
                ("Fwd: x", ""),
                ("x", "----- any words -----\n"),
                ("Fwd: x", "--- Forwarded message ---\nFrom: a@x.test\nTo: b@x.test\n\n"),
            ] {
                let found = inline(subject, &format!("{before}{text}"));
                assert!(found.is_none_or(|found| found.text.len() <= before.len() + text.len()));
            }
        }
    }
}
