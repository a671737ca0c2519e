//! A piece of a message's new text, in which the words that were found are told apart.

use std::ops::Range;

use crate::store::search::Found;

/// Part of a snippet; all of them together are the piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnippetPart {
    /// Plain text on one line.
    pub text: String,
    /// Whether it is what was looked for.
    pub is_match: bool,
}

impl Found {
    /// From a little before the first match; from the start if the words stand elsewhere.
    pub(in crate::store) fn snippet(&self, text: &str) -> Vec<SnippetPart> {
        let first = self.0.first().map_or(0, |place| place.start);
        let start = step_back(text, first, BEFORE_CHARS);
        let end = step_on(text, start, SNIPPET_CHARS);
        let mut parts = Vec::new();
        let mut at = start;
        for place in self.0.iter().filter(|place| place.start < end) {
            push(&mut parts, text, at..place.start, false);
            // A match that is longer than the snippet is cut.
            push(&mut parts, text, place.start..place.end.min(end), true);
            at = place.end.min(end);
        }
        push(&mut parts, text, at..end, false);
        parts
    }
}

/// White space of any length is one space: a snippet is one line.
fn push(parts: &mut Vec<SnippetPart>, text: &str, range: Range<usize>, is_match: bool) {
    let mut line = String::new();
    let mut is_open = parts.last().is_none_or(|part: &SnippetPart| part.text.ends_with(' '));
    for c in text.get(range).unwrap_or_default().chars() {
        let is_space = c.is_whitespace() || c.is_control();
        if !is_space {
            line.push(c);
        } else if !is_open {
            line.push(' ');
        }
        is_open = is_space;
    }
    if !line.is_empty() {
        parts.push(SnippetPart { text: line, is_match });
    }
}

/// The beginning of a word, at most so many characters before.
fn step_back(text: &str, from: usize, chars: usize) -> usize {
    let before = text.get(..from).unwrap_or_default();
    let Some((start, _)) = before.char_indices().rev().nth(chars) else { return 0 };
    let window = before.get(start..).unwrap_or_default();
    window.find(char::is_whitespace).map_or(start, |space| start + space)
}

fn step_on(text: &str, from: usize, chars: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.char_indices().nth(chars).map_or(text.len(), |(end, _)| from + end)
}

/// Before the first match.
const BEFORE_CHARS: usize = 60;
/// Of a snippet, before white space is gathered.
pub(super) const SNIPPET_CHARS: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::search::SearchQuery;

    #[track_caller]
    fn check(query: &str, text: &str, snippet: &str) {
        let found = SearchQuery::parse(query).unwrap().find("subject", text).unwrap();
        let shown: String = found
            .snippet(text)
            .into_iter()
            .map(|part| if part.is_match { format!("[{}]", part.text) } else { part.text })
            .collect();
        assert_eq!(shown, snippet);
    }

    #[test]
    fn a_snippet_is_one_line_around_the_first_match() {
        check("knee pain", "My  knee\r\n\tpain.", "My [knee] [pain].");
        check("\"knee pain\"", "knee\r\n\tpain.", "[knee pain].");
        check("subject", "The text", "The text");
        check("subject", "", "");
        let long = "wörter ".repeat(100);
        let found = format!("{long}Knie {long}");
        let before = "wörter ".repeat(8);
        let behind = format!("{}wör", "wörter ".repeat(25));
        check("knie", &found, &format!("{before}[Knie] {behind}"));
    }

    #[test]
    fn a_match_at_the_limit_is_cut_there() {
        let text = "日".repeat(SNIPPET_CHARS + 1);
        check("日", &text, &format!("[{}]", "日".repeat(SNIPPET_CHARS)));
        let text = "x".repeat(SNIPPET_CHARS);
        check("subject", &format!("{text}y"), &text);
    }
}
