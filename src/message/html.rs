//! HTML → the text it says, and where its markup says that something is quoted or a signature.
//!
//! Not a sanitiser and no DOM: one linear pass over tags, bounded in depth, that never fails. Script, style and
//! head are left out, everything a reader sees stays.

use std::ops::Range;

use super::entities;
use super::html_tags::{Attributes, Tag, Tags, Token};
use super::marks::{self, Mark, Reach};

/// The text of an HTML part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// What the markup marks, as octet ranges of `text`, in the order of their starts.
    pub(super) marks: Vec<(Mark, Range<usize>)>,
}

/// Renders a document or fragment.
pub(super) fn render(html: &str) -> Rendered {
    let mut page = Page::default();
    for token in Tags::new(html) {
        match token {
            Token::Text(text) => page.text(&entities::decode(text)),
            Token::Tag(tag) if tag.is_closing => page.close(&tag),
            Token::Tag(tag) => page.open(&tag),
        }
    }
    page.finish()
}

#[derive(Default)]
struct Page {
    out: String,
    /// Line breaks owed before the next word.
    breaks: usize,
    is_space_owed: bool,
    open: Vec<Open>,
    /// Depth of open elements beyond [`MAX_DEPTH`].
    preformatted: usize,
    lists: Vec<Option<usize>>,
    marks: Vec<(Mark, Range<usize>)>,
}

struct Open {
    name: String,
    /// An entry of `marks` that ends with the element.
    mark: Option<usize>,
}

impl Page {
    fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            for (at, line) in text.split('\n').enumerate() {
                if at > 0 {
                    self.settle();
                    self.out.push('\n');
                }
                if !line.is_empty() {
                    self.settle();
                    self.out.extend(line.chars().filter(|c| *c != '\r').map(plain));
                }
            }
            return;
        }
        for piece in text.split_inclusive(is_collapsible) {
            let word = piece.trim_end_matches(is_collapsible);
            if !word.is_empty() {
                self.settle();
                self.out.extend(word.chars().filter(|c| !is_invisible(*c)).map(plain));
            }
            self.is_space_owed |= word.len() < piece.len();
        }
    }

    /// Pays what is owed before a word.
    fn settle(&mut self) {
        if self.out.is_empty() {
            self.breaks = 0;
        } else if self.breaks > 0 {
            let trimmed = self.out.trim_end_matches(' ').len();
            self.out.truncate(trimmed);
            self.out.extend(std::iter::repeat_n('\n', self.breaks));
        } else if self.is_space_owed && !self.out.ends_with(['\n', ' ']) {
            self.out.push(' ');
        }
        self.breaks = 0;
        self.is_space_owed = false;
    }

    fn break_line(&mut self, at_least: usize) {
        self.breaks = self.breaks.max(at_least);
    }

    fn open(&mut self, tag: &Tag<'_>) {
        match tag.name.as_str() {
            "br" => self.breaks = (self.breaks + 1).min(MAX_BREAKS),
            "hr" => self.rule(),
            "img" => self.is_space_owed = true,
            "li" => self.item(),
            "td" | "th" => self.is_space_owed = true,
            "ul" => self.lists.push(None),
            "ol" => self.lists.push(Some(0)),
            _ => {}
        }
        self.break_line(breaks_around(&tag.name));
        self.preformatted += usize::from(tag.name == "pre");
        self.mark(tag);
    }

    /// Notes what the markup means, and that the element is open.
    fn mark(&mut self, tag: &Tag<'_>) {
        let meaning =
            if marks::may_mean(&tag.name) { marks::of(&tag.name, &Attributes::of(tag.rest)) } else { None };
        let mark = meaning.map(|(mark, reach)| {
            let end = if reach == Reach::Element { self.out.len() } else { usize::MAX };
            self.marks.push((mark, self.out.len()..end));
            (self.marks.len() - 1, reach)
        });
        if !is_void(&tag.name) && is_tracked(&tag.name) && self.open.len() < MAX_DEPTH {
            let mark = mark.filter(|(_, reach)| *reach == Reach::Element).map(|(index, _)| index);
            self.open.push(Open { name: tag.name.clone(), mark });
        }
    }

    fn close(&mut self, tag: &Tag<'_>) {
        self.break_line(breaks_around(&tag.name));
        match tag.name.as_str() {
            "ul" | "ol" => {
                self.lists.pop();
            }
            "pre" => self.preformatted = self.preformatted.saturating_sub(1),
            _ => {}
        }
        if !is_tracked(&tag.name) {
            return;
        }
        let Some(level) = self.open.iter().rposition(|open| open.name == tag.name) else { return };
        let end = self.out.len();
        for mark in self.open.drain(level..).filter_map(|open| open.mark) {
            if let Some((_, range)) = self.marks.get_mut(mark) {
                range.end = end;
            }
        }
    }

    fn rule(&mut self) {
        self.break_line(1);
    }

    fn item(&mut self) {
        self.break_line(1);
        self.settle();
        match self.lists.last_mut() {
            Some(Some(number)) => {
                *number += 1;
                self.out.push_str(&format!("{number}. "));
            }
            Some(None) | None => self.out.push_str("- "),
        }
    }

    fn finish(mut self) -> Rendered {
        let length = self.out.trim_end().len();
        self.out.truncate(length);
        // What was still open reaches to the end.
        for mark in self.open.iter().filter_map(|open| open.mark) {
            if let Some((_, range)) = self.marks.get_mut(mark) {
                range.end = usize::MAX;
            }
        }
        for (_, range) in &mut self.marks {
            range.end = range.end.min(length);
            range.start = range.start.min(range.end);
        }
        self.marks.retain(|(mark, range)| *mark == Mark::Rule || !range.is_empty());
        Rendered { text: self.out, marks: self.marks }
    }
}

/// Line breaks that an element asks for before and behind it.
fn breaks_around(name: &str) -> usize {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "pre" => 2,
        "div" | "tr" | "table" | "ul" | "ol" | "dl" | "dt" | "dd" | "section" | "article" | "header"
        | "footer" | "address" | "center" | "form" | "fieldset" | "caption" | "body" | "title" | "option" => {
            1
        }
        _ => 0,
    }
}

fn is_void(name: &str) -> bool {
    matches!(
        name,
        "br" | "hr" | "img" | "meta" | "link" | "input" | "base" | "area" | "col" | "wbr" | "source"
    )
}

/// Elements whose end can end a mark.
fn is_tracked(name: &str) -> bool {
    matches!(
        name,
        "div" | "blockquote" | "span" | "table" | "section" | "p" | "pre" | "font" | "td" | "tr" | "center"
    )
}

fn is_collapsible(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\0' | '\u{ad}' | '\u{200b}' | '\u{feff}') || (c.is_control() && c != '\t')
}

fn plain(c: char) -> char {
    if c == '\u{a0}' { ' ' } else { c }
}

/// Deeper elements are read as text without being tracked (SMTP M14).
const MAX_DEPTH: usize = 256;
/// An empty page of line breaks is no text.
const MAX_BREAKS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(html: &str, expected: &str) {
        assert_eq!(render(html).text, expected, "{html}");
    }

    #[test]
    fn what_a_reader_sees_is_kept_and_nothing_else() {
        check(
            "<html><head><title>T</title><style>p{}</style></head><body><p>One</p><p>Two<br>Three</p></body>",
            "One\n\nTwo\nThree",
        );
        check("a<script>if (a < b) {}</script>b <!-- c > d -->e", "ab e");
        check("<ul><li>a<li>b</ul><ol><li>c</li><li>d</li></ol>", "- a\n- b\n1. c\n2. d");
        check("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc");
        check("1 < 2 &amp; 3&nbsp;&gt; 2", "1 < 2 & 3 > 2");
        check("<a href=\"http://x.test/?a>b\">link</a>", "link");
        check("<pre>a\n  b</pre>c", "a\n  b\n\nc");
        check("<div>a</div><div><br></div><div>b</div>", "a\n\nb");
    }

    #[test]
    fn marked_quotes_and_signatures_are_found() {
        let page = render(
            "<div>new</div><div class=\"gmail_signature\">Ana</div><div class=\"gmail_quote\">On x wrote<blockquote>old</blockquote></div>",
        );
        let parts: Vec<_> = page
            .marks
            .iter()
            .map(|(mark, range)| (*mark, page.text.get(range.clone()).unwrap_or_default().trim()))
            .collect();
        assert_eq!(parts[0], (Mark::Signature, "Ana"));
        assert_eq!(parts[1], (Mark::Quote, "On x wrote\n\nold"));
    }

    #[test]
    fn m14_hostile_markup_takes_linear_time() {
        for hostile in
            ["<div>", "<", "<a \"", "<!--", "<style>", "</div>", "&", "<a b='", "<![", "<head>", "<li>"]
        {
            let _ = render(&hostile.repeat(300_000));
        }
    }
}
