//! Which parts are the text that a person reads, and what they say.
//!
//! Text parts stand in order; of alternatives the plain one counts, HTML where there is none. What is not body is
//! an attachment, so every part is one of the two and nothing is lost.

use std::borrow::Cow;
use std::ops::Range;

use super::html;
use super::marks::Mark;
use super::scan::{Part, Shape, Tree};
use super::{attachment, charset, flowed, protection, remote, tnef};

/// The body of a message.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Plain text, `\n` line ends, no NUL.
    pub(super) text: String,
    /// What the markup marks in `text`, where that is what one page says.
    pub(super) marks: Vec<(Mark, Range<usize>)>,
    pub(super) has_html: bool,
    /// What all HTML parts would load from elsewhere.
    pub(super) remote_content: usize,
}

/// What a leaf is to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Attachment,
    Html,
    /// Part of an alternative that no client shows (AMP).
    Ignored,
    Text,
}

/// The parts that are shown, in order: for each the part and its role.
pub(super) fn shown(tree: &Tree<'_>) -> Vec<(usize, Role)> {
    leaves(tree).into_iter().filter(|(_, role)| matches!(role, Role::Html | Role::Text)).collect()
}

/// All parts of the outermost message that hold no others, in order, with their roles. A nested message is one.
pub(super) fn leaves(tree: &Tree<'_>) -> Vec<(usize, Role)> {
    let mut out = Vec::new();
    let mut inside_message: Vec<bool> = Vec::with_capacity(tree.parts.len());
    for (index, part) in tree.parts.iter().enumerate() {
        let hidden = part.parent.is_some_and(|parent| inside_message[parent]);
        // The outermost part is the message itself, whatever its type.
        inside_message.push(hidden || part.shape == Shape::Message);
        if !hidden && (part.shape != Shape::Multipart || tree.children(index).next().is_none()) {
            out.push((index, role(tree, part)));
        }
    }
    out
}

fn role(tree: &Tree<'_>, part: &Part<'_>) -> Role {
    let disposition = part.disposition();
    if disposition.value == "attachment" {
        return Role::Attachment;
    }
    let is_alternative = part.parent.is_some_and(|parent| is_type(tree, parent, "multipart/alternative"));
    match part.content_type.value.as_str() {
        "text/plain" | "text" => Role::Text,
        "text/html" => Role::Html,
        "text/x-amp-html" if is_alternative => Role::Ignored,
        // A multipart without a single part, or a root that is some kind of text: better shown than hidden.
        other if other.starts_with("multipart/") => Role::Text,
        other if other.starts_with("text/") && part.parent.is_none() && other != "text/calendar" => {
            Role::Text
        }
        _ => Role::Attachment,
    }
}

fn is_type(tree: &Tree<'_>, index: usize, content_type: &str) -> bool {
    tree.parts.get(index).is_some_and(|part| part.content_type.value == content_type)
}

/// Reads the body. Where no part is text, it may stand inside one: what S/MIME signed, or Outlook packed.
pub(super) fn read(tree: &Tree<'_>) -> Body {
    let body = read_parts(tree);
    if body.has_html || !body.text.trim().is_empty() {
        return body;
    }
    signed(tree).or_else(|| wrapped(tree)).unwrap_or(body)
}

/// The body of what S/MIME signed; not of what was signed inside that again.
fn signed(tree: &Tree<'_>) -> Option<Body> {
    let entity = leaves(tree).into_iter().find_map(|(index, _)| protection::signed_entity(tree, index))?;
    let inner = Tree::scan(&entity).ok()?;
    let body = read_parts(&inner);
    (!body.text.trim().is_empty()).then_some(Body { has_html: false, ..body })
}

fn read_parts(tree: &Tree<'_>) -> Body {
    let shown = shown(tree);
    let has_html = shown.iter().any(|(_, role)| *role == Role::Html);
    let plain: Vec<usize> =
        shown.iter().filter(|(_, role)| *role == Role::Text).map(|(index, _)| *index).collect();
    let mut plain_texts: Vec<(usize, String)> =
        plain.into_iter().map(|index| (index, plain_text(tree, index))).collect();
    // Those that say something.
    let filled: Vec<usize> =
        plain_texts.iter().filter(|(_, text)| !text.trim().is_empty()).map(|(index, _)| *index).collect();
    let mut text = String::new();
    let mut only_page = None;
    let (mut from_html, mut remote_content) = (0, 0);
    for (index, role) in &shown {
        match role {
            Role::Text => {
                let found = plain_texts.iter_mut().find(|(known, _)| known == index);
                append(&mut text, found.map(|(_, text)| std::mem::take(text)).unwrap_or_default());
            }
            Role::Html => {
                let markup = html_text(tree, *index);
                remote_content += remote::count(&markup);
                if !has_plain_alternative(tree, *index, &filled) {
                    let page = html::render(&markup);
                    from_html += 1;
                    let length = page.text.len();
                    append(&mut text, page.text);
                    only_page = Some((text.len() - length..text.len(), page.marks));
                }
            }
            Role::Attachment | Role::Ignored => {}
        }
    }
    let mut marks = Vec::new();
    if let Some((page, marked)) = only_page.filter(|_| from_html == 1 && filled.is_empty()) {
        // The marks' ranges fit the text only if the text is the page and nothing else.
        text.truncate(page.end);
        text.drain(..page.start);
        marks = marked;
    }
    Body { text, marks, has_html, remote_content }
}

/// The body that Outlook packed into `winmail.dat`.
fn wrapped(tree: &Tree<'_>) -> Option<Body> {
    let index = leaves(tree)
        .into_iter()
        .map(|(index, _)| index)
        .find(|index| attachment::is_tnef(&tree.parts[*index]))?;
    let contents = tnef::read(&tree.decoded(index))?;
    if let Some(text) = contents.text.filter(|text| !text.trim().is_empty()) {
        return Some(Body { text: lines(Cow::Owned(text)), ..Body::default() });
    }
    let markup = contents.html?;
    let (page, remote_content) = (html::render(&markup), remote::count(&markup));
    Some(Body { text: page.text, marks: page.marks, has_html: false, remote_content })
}

/// Whether the same alternative holds plain text that says something.
fn has_plain_alternative(tree: &Tree<'_>, html: usize, filled: &[usize]) -> bool {
    let ancestors =
        |of: usize| std::iter::successors(Some(of), |index| tree.parts.get(*index).and_then(|p| p.parent));
    let alternatives: Vec<usize> =
        ancestors(html).filter(|a| is_type(tree, *a, "multipart/alternative")).collect();
    filled.iter().any(|index| ancestors(*index).any(|ancestor| alternatives.contains(&ancestor)))
}

/// The first is taken as it is: it may be very large.
fn append(text: &mut String, more: String) {
    if text.is_empty() {
        *text = more;
        return;
    }
    if !text.ends_with('\n') && !more.is_empty() {
        text.push('\n');
    }
    text.push_str(&more);
}

/// A text part as lines with `\n` ends.
pub(super) fn plain_text(tree: &Tree<'_>, index: usize) -> String {
    let Some(part) = tree.parts.get(index) else { return String::new() };
    // Each step of a body of 36 MB ends before the next one begins.
    let text = {
        let octets = tree.decoded(index);
        lines(charset::decode(part.content_type.param("charset"), &octets))
    };
    let is_flowed =
        part.content_type.param("format").is_some_and(|format| format.eq_ignore_ascii_case("flowed"));
    let text = if is_flowed {
        flowed::unflow(&text, flowed::Spaces::of(part.content_type.param("delsp")))
    } else {
        text
    };
    match part.content_type.value.as_str() {
        "text/enriched" | "text/richtext" => html::render(&text).text,
        _ => text,
    }
}

/// The HTML of a part as text, by its declared charset or the one that it names itself.
pub(super) fn html_text(tree: &Tree<'_>, index: usize) -> String {
    let Some(part) = tree.parts.get(index) else { return String::new() };
    let octets = tree.decoded(index);
    let label = part
        .content_type
        .param("charset")
        .map(Cow::Borrowed)
        .or_else(|| meta_charset(&octets).map(Cow::Owned));
    charset::without_nul(charset::decode(label.as_deref(), &octets)).into_owned()
}

/// `<meta charset=…>` or `<meta … content="text/html; charset=…">` near the top.
fn meta_charset(octets: &[u8]) -> Option<String> {
    let head: Vec<u8> = octets.iter().take(1_024).map(u8::to_ascii_lowercase).collect();
    let meta = memchr::memmem::find(&head, b"<meta")?;
    let at = meta + memchr::memmem::find(&head[meta..], b"charset=")? + b"charset=".len();
    let label: Vec<u8> = head[at..]
        .iter()
        .copied()
        .skip_while(|b| matches!(b, b'"' | b'\''))
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        .collect();
    String::from_utf8(label).ok().filter(|label| !label.is_empty())
}

/// CRLF and lone CR → LF; no NUL.
fn lines(text: Cow<'_, str>) -> String {
    if memchr::memchr2(b'\r', 0, text.as_bytes()).is_none() {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(at) = memchr::memchr2(b'\r', 0, rest.as_bytes()) {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        rest = match behind.strip_prefix('\r') {
            Some(behind) => {
                out.push('\n');
                behind.strip_prefix('\n').unwrap_or(behind)
            }
            None => behind.get(1..).unwrap_or_default(),
        };
    }
    out.push_str(rest);
    out
}
