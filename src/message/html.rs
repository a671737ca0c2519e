//! HTML → the text it says, and where its markup says that something is quoted or a signature.
//!
//! Not a sanitiser and no DOM: one linear pass over tags, bounded in depth and marks, that never fails. Script, style
//! and head are left out, everything a reader sees stays.

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
    /// How many of each name of [`TRACKED`] are among them.
    open_names: [usize; TRACKED.len()],
    preformatted: usize,
    lists: Vec<Option<usize>>,
    /// Open lists beyond [`MAX_DEPTH`].
    deeper_lists: usize,
    marks: Vec<(Mark, Range<usize>)>,
    /// Marks that hold here, and no end of theirs has come.
    quotes: usize,
    signatures: usize,
    /// Where the last rule stands.
    rule: Option<usize>,
}

struct Open {
    /// Its place among [`TRACKED`].
    name: usize,
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
            "ul" => self.open_list(None),
            "ol" => self.open_list(Some(0)),
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
        let opened = tracked(&tag.name).filter(|_| self.open.len() < MAX_DEPTH);
        let mark = match meaning {
            Some((mark, reach)) if self.marks.len() < MAX_MARKS && self.says_more(mark) => {
                self.note(mark, reach, opened.is_some())
            }
            Some(_) | None => None,
        };
        if let Some(name) = opened {
            self.open.push(Open { name, mark });
            self.open_names[name] += 1;
        }
    }

    /// Whether a mark here is not said already by the one that it stands in.
    fn says_more(&self, mark: Mark) -> bool {
        match mark {
            Mark::Quote => self.quotes == 0,
            Mark::Rule => self.rule != Some(self.out.len()),
            // What is quoted stays so, signatures too.
            Mark::Signature => self.quotes == 0 && self.signatures == 0,
        }
    }

    /// Begins a mark; answers its number if it is to end with the element.
    fn note(&mut self, mark: Mark, reach: Reach, is_opened: bool) -> Option<usize> {
        let start = self.out.len();
        let end = match (mark, reach) {
            (Mark::Rule, _) => start,
            (Mark::Quote | Mark::Signature, Reach::ToTheEnd) => usize::MAX,
            (Mark::Quote | Mark::Signature, Reach::Element) if is_opened => start,
            // An element without an end holds nothing.
            (Mark::Quote | Mark::Signature, Reach::Element) => return None,
        };
        self.marks.push((mark, start..end));
        match mark {
            Mark::Quote => self.quotes += 1,
            Mark::Rule => {
                self.rule = Some(start);
                return None;
            }
            Mark::Signature => self.signatures += 1,
        }
        (reach == Reach::Element).then(|| self.marks.len() - 1)
    }

    /// Ends a mark that ends with its element.
    fn end(&mut self, mark: usize, end: usize) {
        let Some((mark, range)) = self.marks.get_mut(mark) else { return };
        range.end = end;
        match mark {
            Mark::Quote => self.quotes = self.quotes.saturating_sub(1),
            Mark::Rule => {}
            Mark::Signature => self.signatures = self.signatures.saturating_sub(1),
        }
    }

    fn open_list(&mut self, number: Option<usize>) {
        if self.lists.len() < MAX_DEPTH {
            self.lists.push(number);
        } else {
            self.deeper_lists += 1;
        }
    }

    fn close_list(&mut self) {
        match self.deeper_lists.checked_sub(1) {
            Some(deeper) => self.deeper_lists = deeper,
            None => {
                self.lists.pop();
            }
        }
    }

    fn close(&mut self, tag: &Tag<'_>) {
        self.break_line(breaks_around(&tag.name));
        match tag.name.as_str() {
            "ul" | "ol" => self.close_list(),
            "pre" => self.preformatted = self.preformatted.saturating_sub(1),
            _ => {}
        }
        // What is looked through is closed, too: nothing is looked through for what is not open.
        let Some(name) = tracked(&tag.name).filter(|name| self.open_names[*name] > 0) else { return };
        let Some(level) = self.open.iter().rposition(|open| open.name == name) else { return };
        for Open { name, mark } in self.open.split_off(level) {
            self.open_names[name] = self.open_names[name].saturating_sub(1);
            if let Some(mark) = mark {
                self.end(mark, self.out.len());
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
            Some(Some(number)) if self.deeper_lists == 0 => {
                *number += 1;
                self.out.push_str(&format!("{number}. "));
            }
            Some(_) | None => self.out.push_str("- "),
        }
    }

    fn finish(mut self) -> Rendered {
        let length = self.out.trim_end().len();
        self.out.truncate(length);
        // What was still open reaches to the end.
        for mark in std::mem::take(&mut self.open).into_iter().filter_map(|open| open.mark) {
            self.end(mark, usize::MAX);
        }
        for (_, range) in &mut self.marks {
            range.end = range.end.min(length);
            range.start = range.start.min(range.end);
        }
        self.marks.retain(|(mark, range)| *mark == Mark::Rule || !range.is_empty());
        // Blanks that were taken back at a line's end may have put one before the one above it.
        self.marks.sort_by_key(|(_, range)| range.start);
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

/// The place of a name among [`TRACKED`].
fn tracked(name: &str) -> Option<usize> {
    TRACKED.iter().position(|known| *known == name)
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

/// Elements whose end can end a mark.
const TRACKED: [&str; 11] =
    ["div", "blockquote", "span", "table", "section", "p", "pre", "font", "td", "tr", "center"];
/// Deeper elements are read as text without being tracked (SMTP M14).
const MAX_DEPTH: usize = 256;
/// Marks of a page that say more than those around them; what nobody marks is new text.
const MAX_MARKS: usize = 20_000;
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
    fn m10_a_mark_inside_another_of_its_kind_is_not_noted_again() {
        let marks = |html: &str| render(html).marks;
        let quote = "<blockquote type=cite>a";
        assert_eq!(marks(&quote.repeat(3)), [(Mark::Quote, 0..7)]);
        assert_eq!(
            marks(&format!("{quote}</blockquote>{quote}")),
            [(Mark::Quote, 0..1), (Mark::Quote, 1..4)]
        );
        assert_eq!(marks(&"a<a name=zwchr>b</a>".repeat(100_000)).len(), 1, "the first reaches to the end");
        assert_eq!(marks(&"<hr>".repeat(100_000)), [(Mark::Rule, 0..0)]);
        let inside =
            |outer: &str, inner: &str| marks(&format!("<div id={outer}>a<p id={inner}>b</p>c</div>d"));
        assert_eq!(inside("replySplit", "Signature"), [(Mark::Quote, 0..7)]);
        assert_eq!(inside("Signature", "Signature"), [(Mark::Signature, 0..7)]);
        assert_eq!(inside("Signature", "replySplit"), [(Mark::Signature, 0..7), (Mark::Quote, 1..4)]);
        // A name without an end holds nothing, deep elements neither.
        assert!(marks(&"<a name=Signature>a</a>".repeat(9)).is_empty());
        assert!(marks(&format!("{}<p id=Signature>a", "<div>".repeat(MAX_DEPTH))).is_empty());
    }

    #[test]
    fn m10_marks_and_lists_are_held_up_to_their_limits() {
        let marked = |count: usize| render(&"a<p id=Signature>b</p>".repeat(count)).marks.len();
        assert_eq!([marked(MAX_MARKS), marked(MAX_MARKS + 1)], [MAX_MARKS, MAX_MARKS]);
        let item = |outer: usize| render(&format!("{}<ol><li>a", "<ul>".repeat(outer))).text;
        assert_eq!([item(MAX_DEPTH - 1), item(MAX_DEPTH)], ["1. a", "- a"]);
        let (opened, closed) = ("<ul>".repeat(MAX_DEPTH), "</ul>".repeat(MAX_DEPTH));
        assert_eq!(render(&format!("<ol>{opened}{closed}<li>a")).text, "1. a");
    }

    #[test]
    fn an_end_closes_what_was_opened_inside_and_one_of_nothing_closes_nothing() {
        let marks = |html: &str| render(html).marks;
        let quote = "<div id=replySplit>a";
        assert_eq!(marks(&format!("{quote}<p><td></div>b")), [(Mark::Quote, 0..1)]);
        assert_eq!(marks(&format!("{quote}</p></tr>b")), [(Mark::Quote, 0..4)]);
        assert_eq!(marks(&format!("<p>{quote}</p>b</div>c")), [(Mark::Quote, 0..1)]);
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
