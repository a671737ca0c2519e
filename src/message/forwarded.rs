//! R28: the message that somebody forwarded by hand, attached whole or quoted inline in a client's format.

use super::quoted_header::{self, Block, unquoted};
use super::scan::{Shape, Tree};
use super::{Forwarded, addresses, attachment, body, date, labels};

/// What the message forwards; `text` is its body.
pub(super) fn find(tree: &Tree<'_>, subject: &str, text: &str) -> Option<Forwarded> {
    inline(subject, text).or_else(|| attached(tree))
}

/// A nested message: its own headers are better than what a client prints of them.
fn attached(tree: &Tree<'_>) -> Option<Forwarded> {
    let root = tree.parts.first()?;
    if matches!(root.content_type.value.as_str(), "multipart/report" | "multipart/digest") {
        return None;
    }
    let parts = attachment::parts(tree);
    let (n, index) = parts.iter().enumerate().find(|(_, index)| {
        tree.parts.get(**index).is_some_and(|part| part.shape == Shape::Message || part.is_encoded_message())
    })?;
    let octets = tree.decoded(*index);
    let inner = Tree::scan(&octets).ok()?;
    let fields = &inner.parts.first()?.fields;
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

/// A forward printed into the text: a separator and a header block, or a header block under a forward's subject.
fn inline(subject: &str, text: &str) -> Option<Forwarded> {
    let lines: Vec<&str> = text.lines().collect();
    let has_prefix = has_forward_prefix(subject);
    let mut was_quoted = false;
    for (at, line) in lines.iter().enumerate() {
        if labels::is_forward_separator(line) {
            let (start, block) = block_below(&lines, at + 1, 1)?;
            return Some(forward_of(&lines, start, block));
        }
        was_quoted |= line.starts_with('>');
        if has_prefix && !was_quoted {
            if let Some(block) = quoted_header::read(lines.get(at..)?, 2) {
                return Some(forward_of(&lines, at, block));
            }
            if labels::is_original_separator(line) {
                let (start, block) = block_below(&lines, at + 1, 1)?;
                return Some(forward_of(&lines, start, block));
            }
        }
    }
    None
}

/// The block on the next lines that are not blank.
fn block_below(lines: &[&str], from: usize, others: usize) -> Option<(usize, Block)> {
    let start = (from..lines.len()).take(5).find(|at| !unquoted(lines[*at]).is_empty())?;
    quoted_header::read(lines.get(start..)?, others).map(|block| (start, block))
}

fn forward_of(lines: &[&str], start: usize, block: Block) -> Forwarded {
    let rest = lines.get(start + block.lines..).unwrap_or_default();
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

fn strip_one_mark(line: &str) -> &str {
    line.strip_prefix('>').map_or(line, |rest| rest.strip_prefix(' ').unwrap_or(rest))
}

/// `Fwd:`, `WG:`, `TR:` and the prefixes of other languages.
pub(super) fn has_forward_prefix(subject: &str) -> bool {
    let lower = subject.trim_start_matches(['[', '(', ' ']).to_lowercase();
    let Some((prefix, _)) = lower.split_once([':', '：', ']']) else { return false };
    FORWARD_PREFIXES.contains(&prefix.trim())
}

const FORWARD_PREFIXES: [&str; 27] = [
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
    "i̇let",
    "ilet",
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
