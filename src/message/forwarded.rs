//! R28: the message that somebody forwarded by hand, attached whole or quoted inline in a client's format.

use super::attachment::Item;
use super::attribution::Finder;
use super::quoted_header::{self, Block, unquoted};
use super::scan::{Shape, Tree};
use super::{Forwarded, addresses, attribution, body, date, labels, lines};

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
    Some(Forwarded {
        from: people("from").into_iter().next(),
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
    let lines: Vec<&str> = lines::split(text).map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let has_prefix = has_forward_prefix(subject);
    // Most mail forwards nothing: one look at each line tells.
    if !has_prefix && !lines.iter().any(|line| labels::is_forward_separator(line) || is_dashed_title(line)) {
        return None;
    }
    let mut finder = Finder::new();
    for (at, line) in lines.iter().enumerate() {
        if labels::is_forward_separator(line)
            || (is_dashed_title(line) && !labels::is_original_separator(line))
        {
            if let Some((start, block)) = block_below(&lines, at + 1) {
                return Some(forward_of(&lines, start, block));
            }
            if labels::is_forward_separator(line) {
                return bare_forward(&lines, at + 1, subject);
            }
        }
        if labels::is_original_separator(line) {
            return block_below(&lines, at + 1)
                .filter(|_| has_prefix)
                .map(|(start, block)| forward_of(&lines, start, block));
        }
        if line.starts_with('>') {
            if unquoted(line).is_empty() {
                continue;
            }
            // Below words that no table of ours holds.
            return quoted_header::read(lines.get(at..)?, 2)
                .filter(|_| has_prefix)
                .map(|block| forward_of(&lines, at, block));
        }
        if let Some(block) = quoted_header::read(lines.get(at..)?, 2) {
            return has_prefix.then(|| forward_of(&lines, at, block));
        }
        if finder.lines_ending_at(&lines, at) > 0 {
            return if has_prefix { bare_forward(&lines, at + 1, subject) } else { None };
        }
    }
    None
}

/// `---------- words ----------`, in whatever language.
fn is_dashed_title(line: &str) -> bool {
    let line = unquoted(line);
    let title = line.trim_matches(['-', ' ']);
    let is_title = !title.is_empty() && title.len() < 80 && title.chars().any(char::is_alphabetic);
    is_title && line.starts_with("-----") && line.ends_with("-----")
}

/// The block on the next lines that are not blank.
fn block_below(lines: &[&str], from: usize) -> Option<(usize, Block)> {
    let start = (from..lines.len()).take(5).find(|at| !unquoted(lines[*at]).is_empty())?;
    let below = lines.get(start..)?;
    let block = quoted_header::read(below, 1).or_else(|| quoted_header::read_unknown(below))?;
    Some((start, block))
}

/// A forward that names the author in an attribution line, as Outlook for the Mac writes it; its subject is that of
/// the mail around it.
fn bare_forward(lines: &[&str], behind: usize, subject: &str) -> Option<Forwarded> {
    let mut finder = Finder::new();
    let end =
        (behind.saturating_sub(1)..lines.len()).take(6).find(|at| finder.lines_ending_at(lines, *at) > 0)?;
    let count = finder.lines_ending_at(lines, end);
    let line =
        lines.get(end + 1 - count..=end)?.iter().map(|line| unquoted(line)).collect::<Vec<_>>().join(" ");
    let rest = lines.get(end + 1..).unwrap_or_default();
    let rest = without_end_title(lines.get(..=end + 1 - count).unwrap_or_default(), rest);
    let body: Vec<&str> =
        rest.iter().map(|line| strip_one_mark(line.strip_prefix("    ").unwrap_or(line))).collect();
    Some(Forwarded {
        from: Some(attribution::author(&line)?),
        to: Vec::new(),
        cc: Vec::new(),
        subject: Some(without_forward_prefix(subject).to_owned()).filter(|subject| !subject.is_empty()),
        date: date::read(&line),
        text: body.join("\n").trim().to_owned(),
        attachment: None,
    })
}

fn forward_of(lines: &[&str], start: usize, block: Block) -> Forwarded {
    let rest = lines.get(start + block.lines..).unwrap_or_default();
    let rest = without_end_title(lines.get(..=start).unwrap_or_default(), rest);
    // Apple Mail quotes the whole forward once.
    let is_quoted = lines.get(start).is_some_and(|line| line.trim_start().starts_with('>'));
    let body: Vec<&str> =
        rest.iter().map(|line| if is_quoted { strip_one_mark(line) } else { line }).collect();
    Forwarded {
        from: block.from,
        to: block.to,
        cc: block.cc,
        subject: block.subject,
        date: block.date,
        text: body.join("\n").trim().to_owned(),
        attachment: None,
    }
}

/// Without the `----- End forwarded message -----` that answers a title between dashes above the first line of the
/// forward, the last of `above`.
fn without_end_title<'a, 'b>(above: &[&str], rest: &'a [&'b str]) -> &'a [&'b str] {
    let opening = above.iter().rev().skip(1).find(|line| !line.trim().is_empty());
    let last = rest.iter().rposition(|line| !line.trim().is_empty());
    match last {
        Some(last) if opening.is_some_and(|line| is_dashed_title(line)) && is_closing(rest[last]) => {
            &rest[..last]
        }
        Some(_) | None => rest,
    }
}

/// A title between dashes, or a rule of nothing else.
fn is_closing(line: &str) -> bool {
    let line = line.trim();
    is_dashed_title(line) || (line.len() >= 10 && line.bytes().all(|octet| octet == b'-'))
}

fn strip_one_mark(line: &str) -> &str {
    line.strip_prefix('>').map_or(line, |rest| rest.strip_prefix(' ').unwrap_or(rest))
}

/// `Fwd:`, `WG:`, `TR:` and the prefixes of other languages.
pub(super) fn has_forward_prefix(subject: &str) -> bool {
    let Some((prefix, _)) = subject.trim_start_matches(['[', '(', ' ']).split_once([':', '：']) else {
        return false;
    };
    FORWARD_PREFIXES.contains(&labels::folded(prefix).trim().trim_end_matches('.'))
}

/// The subject that the original had.
fn without_forward_prefix(subject: &str) -> &str {
    let mut bare = subject.trim();
    while has_forward_prefix(bare) {
        bare = bare.split_once([':', '：']).map_or("", |(_, rest)| rest.trim());
    }
    bare
}

const FORWARD_PREFIXES: [&str; 28] = [
    "전달",
    "fwd",
    "fw",
    "wg",
    "tr",
    "rv",
    "i",
    "enc",
    "doorst",
    "vs",
    "vb",
    "vl",
    "vid",
    "pd",
    "pdl",
    "továbbítás",
    "tov",
    "ilet",
    "пер",
    "ilt",
    "转发",
    "轉寄",
    "転送",
    "fyw",
    "переслать",
    "пересл",
    "прд",
    "πρθ",
];
