//! The words by which mail programs, in the languages of our users, introduce what they quote: header labels,
//! separators, verbs of attribution lines, mobile footers.
//!
//! Only tables and their look-up. The words are those of the programs' own translations.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::label_words::*;

/// What a label of a quoted header block names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Cc,
    Date,
    From,
    /// A label that such blocks hold and that says nothing to us.
    Other,
    ReplyTo,
    Subject,
    To,
}

/// `From: Ana <ana@x.test>` → the label and the rest of the line. Quote marks, asterisks and other decoration
/// around the label are passed over.
pub(super) fn label_of(line: &str) -> Option<(Label, &str)> {
    // Most lines have no colon near their start, in ASCII or full width (whose first octet is 0xef).
    let head = line.as_bytes();
    memchr::memchr2(b':', 0xef, &head[..head.len().min(MAX_LABEL_OCTETS)])?;
    let line = line.trim_start_matches(|c: char| {
        matches!(c, '>' | '|' | '*' | '_' | '\u{a0}') || is_direction_mark(c) || c.is_whitespace()
    });
    let mut chars = line.char_indices().take(MAX_LABEL_CHARS);
    let (at, colon) = chars.find(|(_, c)| matches!(c, ':' | '：'))?;
    let (word, rest) = (line.get(..at)?, line.get(at + colon.len_utf8()..)?);
    let label = label_named(word)?;
    let is_around = |c: char| matches!(c, '*' | '\u{a0}') || is_direction_mark(c) || c.is_whitespace();
    Some((label, rest.trim_start_matches(is_around)))
}

/// What these words, decorated or not, name as a label.
pub(super) fn label_named(words: &str) -> Option<Label> {
    let is_around = |c: char| matches!(c, '*' | '_' | '\u{a0}') || is_direction_mark(c) || c.is_whitespace();
    let words = words.trim_matches(is_around);
    if words.is_empty() || words.len() > MAX_LABEL_OCTETS {
        return None;
    }
    LABEL_OF.get(folded(words).as_str()).copied()
}

/// Marks that set the direction of the text and are not seen.
pub(super) const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a line introduces an original message: `-----Original Message-----` and its translations.
pub(super) fn is_original_separator(line: &str) -> bool {
    let bare = line.trim_start();
    decorated(bare).is_some_and(|words| ORIGINAL.contains(&words.as_str()))
        || ORIGINAL_PREFIXES.iter().any(|prefix| bare.starts_with(prefix))
}

/// Whether a line introduces a message that is forwarded: `---------- Forwarded message ---------`,
/// `Begin forwarded message:` and their translations.
pub(super) fn is_forward_separator(line: &str) -> bool {
    decorated(line).is_some_and(|words| FORWARDED.contains(&words.as_str()))
        || colon_phrase(line).is_some_and(|words| FORWARDED_COLON.contains(&words.as_str()))
}

/// The words of a line between dashes, lower case.
fn decorated(line: &str) -> Option<String> {
    let line = line.trim_start_matches(|c: char| c == '>' || c.is_whitespace());
    if !line.starts_with(['-', '_', '=', '*', '–', '—', '~']) {
        return None;
    }
    let line = line.trim_end();
    if line.len() > MAX_SEPARATOR_OCTETS {
        return None;
    }
    let words = line.trim_matches(|c: char| {
        matches!(c, '-' | '_' | '=' | '*' | '–' | '—' | '~' | ':') || c.is_whitespace()
    });
    (!words.is_empty()).then(|| folded(words))
}

fn colon_phrase(line: &str) -> Option<String> {
    let words = line.trim_end_matches(|c: char| c == '>' || c.is_whitespace()).strip_suffix([':', '：'])?;
    let words = words.trim_start_matches(|c: char| c == '>' || c.is_whitespace());
    (words.len() <= MAX_SEPARATOR_OCTETS).then(|| folded(words.trim()))
}

/// Lower case; the dot that a Turkish capital I leaves behind is dropped, and apostrophes are made plain.
pub(super) fn folded(words: &str) -> String {
    words.to_lowercase().replace('\u{2019}', "'").replace('\u{307}', "")
}

/// Whether lower-case text holds a verb of attribution.
pub(super) fn has_verb(lower: &str) -> bool {
    VERB.as_ref().is_some_and(|verb| verb.is_match(lower))
}

/// Whether lower-case text begins as attribution lines do.
pub(super) fn has_opener(lower: &str) -> bool {
    OPENERS.iter().any(|opener| lower.starts_with(opener))
}

/// The same by the words that are hardly ever chance.
pub(super) fn has_strong_opener(lower: &str) -> bool {
    STRONG_OPENERS.iter().any(|opener| lower.starts_with(opener))
}

/// Whether a line is what a phone or web mailer adds below.
pub(super) fn is_footer(line: &str) -> bool {
    let line = line.trim_matches(|c: char| {
        matches!(c, '*' | '_' | '-' | '[' | '<' | '>' | '(' | ')' | '"') || c.is_whitespace()
    });
    if line.len() > MAX_FOOTER_OCTETS || line.is_empty() {
        return false;
    }
    let mut lower = line.to_lowercase();
    lower.retain(|c| !matches!(c, '[' | ']'));
    let is_sent = || {
        SENT.iter().any(|word| lower.starts_with(word))
            || SENT_BEHIND.iter().any(|word| lower.trim_end_matches('.').ends_with(word))
    };
    let has_device = || DEVICES.iter().any(|device| lower.contains(device));
    let first = lower.as_bytes().first();
    FOOTERS.iter().any(|footer| footer.as_bytes().first() == first && lower.starts_with(footer))
        || (is_sent() && has_device())
}

const MAX_LABEL_CHARS: usize = 40;
/// Decoration and label together.
const MAX_LABEL_OCTETS: usize = 240;
const MAX_SEPARATOR_OCTETS: usize = 120;
const MAX_FOOTER_OCTETS: usize = 160;

/// By label, made once.
static LABEL_OF: LazyLock<HashMap<&'static str, Label>> = LazyLock::new(|| {
    LABELS.iter().flat_map(|(label, words)| words.iter().map(|word| (*word, *label))).collect()
});

/// Any of the verbs, made once: a set of literals always compiles.
static VERB: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let any: Vec<String> = VERBS.iter().map(|verb| regex::escape(verb)).collect();
    Regex::new(&any.join("|")).ok()
});
