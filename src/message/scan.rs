//! The structure of a message: which parts stand where, found in one linear pass over lines, without recursion.
//!
//! Promises that nothing over a structural limit gets further (SMTP H1, M8, M9): header octets, fields, parts,
//! nesting of multiparts and messages together, those inside base64-coded messages included, and what those take of
//! memory at once. All octet ranges
//! are ranges of the raw message. The scan and the reader of parts are one and the same, so that no message can
//! look simple to the guard and deep to the reader.

use std::borrow::Cow;
use std::ops::Range;

use super::TooComplex;
use super::fields::{Fields, line_end, read_block, trim_line_break};
use super::params::{self, Parameterised};
use super::transfer::Encoding;

/// A message taken apart. Part 0 is the message itself.
pub(super) struct Tree<'a> {
    pub(super) raw: &'a [u8],
    pub(super) parts: Vec<Part<'a>>,
}

/// One part: a leaf, or what holds further parts.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) parent: Option<usize>,
    pub(super) fields: Fields<'a>,
    pub(super) body: Range<usize>,
    /// The declared type, or the default of the place (RFC 2046 sections 5.1, 5.1.5).
    pub(super) content_type: Parameterised,
    pub(super) encoding: Encoding,
    pub(super) shape: Shape,
}

/// What stands inside a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Leaf,
    /// A message in clear: its parts are in the tree.
    Message,
    Multipart,
}

impl<'a> Tree<'a> {
    /// Finds all parts, or the limit that is broken.
    pub(super) fn scan(raw: &'a [u8]) -> Result<Self, TooComplex> {
        let octets = MAX_DECODED_OCTETS.max(raw.len().saturating_mul(3));
        let tree = walk(raw, Budget { parts: MAX_PARTS, nesting: MAX_NESTING, octets })?;
        Ok(Self { raw, parts: tree })
    }

    /// The parts directly inside this one, in order.
    pub(super) fn children(&self, of: usize) -> impl Iterator<Item = usize> {
        let parts = self.parts.iter().enumerate().skip(of + 1);
        parts.filter(move |(_, part)| part.parent == Some(of)).map(|(index, _)| index)
    }

    /// The octets of a part as sent.
    pub(super) fn body(&self, index: usize) -> &'a [u8] {
        self.parts.get(index).and_then(|part| self.raw.get(part.body.clone())).unwrap_or_default()
    }

    /// The octets of a part, decoded; a part that holds others is taken as it stands.
    pub(super) fn decoded(&self, index: usize) -> Cow<'a, [u8]> {
        let body = self.body(index);
        match self.parts.get(index) {
            Some(part) if part.shape == Shape::Leaf => part.encoding.decode(body),
            Some(_) | None => Cow::Borrowed(body),
        }
    }
}

/// What is left of the limits for a message inside a message.
#[derive(Clone, Copy)]
struct Budget {
    parts: usize,
    nesting: usize,
    /// Decoded, of all that it stands in.
    octets: usize,
}

fn walk(raw: &[u8], budget: Budget) -> Result<Vec<Part<'_>>, TooComplex> {
    let mut walk = Walk { raw, parts: Vec::new(), open: Vec::new(), budget };
    let mut at = walk.begin(0, None, TEXT)?;
    while let Some(line_start) = walk.next_dashes(at) {
        let end = line_end(raw, line_start);
        at = match walk.boundary_at(trim_line_break(&raw[line_start..end])) {
            None => end,
            Some((level, Mark::Closing)) => {
                walk.close_above(level, line_start);
                walk.open[level].boundary = None;
                end
            }
            Some((level, Mark::Opening)) => {
                walk.close_above(level, line_start);
                let parent = walk.open[level].part;
                let is_digest = walk.parts[parent].content_type.value == "multipart/digest";
                walk.begin(end, Some(parent), if is_digest { MESSAGE } else { TEXT })?
            }
        };
    }
    walk.close_all();
    walk.look_into_encoded_messages()?;
    Ok(walk.parts)
}

struct Walk<'a> {
    raw: &'a [u8],
    parts: Vec<Part<'a>>,
    /// From the message down to the part that the scan is in.
    open: Vec<Open>,
    budget: Budget,
}

struct Open {
    part: usize,
    /// None for what ends only with its parent.
    boundary: Option<Vec<u8>>,
}

enum Mark {
    Closing,
    Opening,
}

impl<'a> Walk<'a> {
    /// Reads the header of a part, and of the message inside it if it is one; answers where its body goes on.
    fn begin(&mut self, start: usize, parent: Option<usize>, default: &str) -> Result<usize, TooComplex> {
        let (mut at, mut parent, mut default) = (start, parent, default);
        loop {
            if self.parts.len() >= self.budget.parts {
                return Err(TooComplex { what: "parts", limit: MAX_PARTS });
            }
            let open = &self.open;
            let (fields, body) = read_block(self.raw, at, |line| boundary_of(open, line).is_some())?;
            let part = Part::new(parent, fields, body..self.raw.len(), default);
            let (index, shape) = (self.parts.len(), part.shape);
            let boundary = match shape {
                Shape::Multipart => part.content_type.param("boundary").map(|b| b.as_bytes().to_vec()),
                Shape::Leaf | Shape::Message => None,
            };
            self.parts.push(part);
            self.open.push(Open { part: index, boundary });
            let containers = self.open.len() - usize::from(shape == Shape::Leaf);
            if containers > self.budget.nesting {
                return Err(TooComplex { what: "nested parts", limit: MAX_NESTING });
            }
            if shape != Shape::Message {
                return Ok(body);
            }
            (at, parent, default) = (body, Some(index), TEXT);
        }
    }

    /// The next line that begins with two hyphens.
    fn next_dashes(&self, at: usize) -> Option<usize> {
        let rest = self.raw.get(at..)?;
        if rest.starts_with(b"--") && (at == 0 || self.raw[at - 1] == b'\n') {
            return Some(at);
        }
        memchr::memmem::find(rest, b"\n--").map(|found| at + found + 1)
    }

    fn boundary_at(&self, line: &[u8]) -> Option<(usize, Mark)> {
        boundary_of(&self.open, line)
    }

    /// The line break before a boundary belongs to the boundary (RFC 2046 section 5.1.1).
    fn close_above(&mut self, level: usize, boundary_line: usize) {
        let end = trim_line_break(&self.raw[..boundary_line]).len();
        for open in self.open.drain(level + 1..) {
            let body = &mut self.parts[open.part].body;
            body.end = end.max(body.start).min(self.raw.len());
            body.start = body.start.min(body.end);
        }
    }

    fn close_all(&mut self) {
        self.open.clear();
    }

    /// M8: base64 of a message of base64 of a message … counts like one in clear.
    fn look_into_encoded_messages(&self) -> Result<(), TooComplex> {
        let mut parts_left = self.budget.parts - self.parts.len();
        for part in self.parts.iter().filter(|part| part.is_encoded_message()) {
            let depth = self.depth(part) + 1;
            if depth > self.budget.nesting {
                return Err(TooComplex { what: "nested parts", limit: MAX_NESTING });
            }
            let octets = part.encoding.decode(&self.raw[part.body.clone()]);
            let Some(octets_left) = self.budget.octets.checked_sub(octets.len()) else {
                return Err(TooComplex { what: MESSAGES_INSIDE, limit: MAX_DECODED_OCTETS });
            };
            let nesting = self.budget.nesting - depth;
            let inner = walk(&octets, Budget { parts: parts_left, nesting, octets: octets_left })?;
            parts_left -= inner.len();
        }
        Ok(())
    }

    /// How many containers a part stands in.
    fn depth(&self, part: &Part<'_>) -> usize {
        std::iter::successors(part.parent, |parent| self.parts[*parent].parent).count()
    }
}

/// Which open multipart a line is a boundary of, the innermost first.
fn boundary_of(open: &[Open], line: &[u8]) -> Option<(usize, Mark)> {
    let rest = line.strip_prefix(b"--")?;
    open.iter().enumerate().rev().find_map(|(level, open)| {
        let tail = rest.strip_prefix(open.boundary.as_deref()?)?;
        match tail.trim_ascii_end() {
            b"" => Some((level, Mark::Opening)),
            b"--" => Some((level, Mark::Closing)),
            _ => None,
        }
    })
}

impl<'a> Part<'a> {
    fn new(parent: Option<usize>, fields: Fields<'a>, body: Range<usize>, default: &str) -> Self {
        let mut content_type = fields.last("content-type").map(params::parse).unwrap_or_default();
        if !content_type.value.contains('/') {
            content_type.value = default.to_owned();
        }
        let encoding = fields
            .plain("content-transfer-encoding")
            .map_or(Encoding::Identity, |label| Encoding::from_label(&label));
        let shape = if content_type.value.starts_with("multipart/") && has_boundary(&content_type) {
            Shape::Multipart
        } else if is_message(&content_type.value) && encoding == Encoding::Identity {
            Shape::Message
        } else {
            Shape::Leaf
        };
        Self { parent, fields, body, content_type, encoding, shape }
    }

    /// A whole message behind a transfer encoding: against RFC 2046 section 5.2.1, but seen.
    pub(super) fn is_encoded_message(&self) -> bool {
        self.shape == Shape::Leaf && is_message(&self.content_type.value)
    }

    /// A whole message attached like any file, as programs do that do not know its type.
    pub(super) fn is_message_file(&self) -> bool {
        let name = || {
            let disposition = self.disposition();
            let name = disposition.param("filename").or_else(|| self.content_type.param("name"));
            name.is_some_and(|name| name.trim_end().to_ascii_lowercase().ends_with(".eml"))
        };
        self.shape == Shape::Leaf && self.content_type.value == "application/octet-stream" && name()
    }
}

fn has_boundary(content_type: &Parameterised) -> bool {
    content_type.param("boundary").is_some_and(|boundary| !boundary.is_empty())
}

fn is_message(content_type: &str) -> bool {
    matches!(content_type, "message/rfc822" | "message/global" | "message/news")
}

const MESSAGES_INSIDE: &str = "octets of messages inside messages, or three times the message";
/// Octets of messages behind a transfer encoding inside each other, all of which are in memory at once; three times the
/// message where that is more. Base64 inside base64 without end comes to no more than that; quoted-printable would to
/// as many times as there are levels.
const MAX_DECODED_OCTETS: usize = 16 * 1024 * 1024;
const TEXT: &str = "text/plain";
const MESSAGE: &str = "message/rfc822";
/// M9: parts of one message, those of the messages inside it included.
pub(super) const MAX_PARTS: usize = 1_000;
/// H1, M8: multiparts and messages inside each other; the outermost multipart is the first.
pub(super) const MAX_NESTING: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn what(raw: &[u8]) -> Option<&'static str> {
        Tree::scan(raw).err().map(|refused| refused.what)
    }

    fn nested_messages(levels: usize) -> Vec<u8> {
        "Content-Type: message/rfc822\r\n\r\n".repeat(levels).into_bytes()
    }

    fn nested_multiparts(levels: usize) -> Vec<u8> {
        let open = |n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n");
        (0..levels).map(open).collect::<String>().into_bytes()
    }

    fn flat_parts(parts: usize) -> Vec<u8> {
        let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
        (head + &"--b\r\n\r\nx\r\n".repeat(parts)).into_bytes()
    }

    fn wrapped_in_base64(levels: usize) -> Vec<u8> {
        (0..levels).fold(b"Subject: x\r\n\r\nx".to_vec(), |inner, _| {
            let mut out =
                b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n".to_vec();
            out.extend(base64(&inner));
            out
        })
    }

    fn base64(octets: &[u8]) -> Vec<u8> {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        octets
            .chunks(3)
            .flat_map(|group| {
                let bits = group.iter().fold(0_usize, |bits, b| bits << 8 | usize::from(*b))
                    << (8 * (3 - group.len()));
                (0..=group.len()).map(move |i| alphabet[bits >> (18 - 6 * i) & 63]).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn h1_twenty_levels_are_read_and_one_more_is_refused() {
        assert_eq!(what(&nested_messages(MAX_NESTING)), None);
        assert_eq!(what(&nested_messages(MAX_NESTING + 1)), Some("nested parts"));
        assert_eq!(what(&nested_multiparts(MAX_NESTING)), None);
        assert_eq!(what(&nested_multiparts(MAX_NESTING + 1)), Some("nested parts"));
    }

    #[test]
    fn m8_messages_inside_base64_count_too() {
        assert_eq!(what(&wrapped_in_base64(MAX_NESTING)), None);
        assert_eq!(what(&wrapped_in_base64(MAX_NESTING + 1)), Some("nested parts"));
    }

    #[test]
    fn m8_messages_inside_messages_take_no_more_than_their_octets_at_once() {
        let wrap = |inner: Vec<u8>| {
            let head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";
            [head.as_slice(), &inner].concat()
        };
        let one = b"Subject: x\r\n\r\nx".to_vec();
        let two = wrap(one.clone());
        let raw = wrap(two.clone());
        let held = two.len() + one.len();
        let walked = |octets: usize| walk(&raw, Budget { parts: MAX_PARTS, nesting: MAX_NESTING, octets });
        assert_eq!(walked(held).map(|parts| parts.len()), Ok(1));
        let refused = walked(held - 1).err().map(|refused| refused.what);
        assert_eq!(refused, Some(MESSAGES_INSIDE));
        // Side by side they are not in memory at once.
        let head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n";
        let both = [&head[..], &two, b"\r\n--b\r\n", &two].concat();
        let budget = Budget { parts: MAX_PARTS, nesting: MAX_NESTING, octets: one.len() };
        assert_eq!(walk(&both, budget).map(|parts| parts.len()), Ok(3));
    }

    #[test]
    fn m9_a_thousand_parts_are_read_and_one_more_is_refused() {
        // The multipart itself is the first part.
        assert_eq!(what(&flat_parts(MAX_PARTS - 1)), None);
        assert_eq!(what(&flat_parts(MAX_PARTS)), Some("parts"));
    }

    #[test]
    fn h1_a_bomb_of_nested_messages_does_not_end_the_process() {
        let small_stack = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let bomb = nested_messages(45_000);
        assert!(bomb.len() > 1_400_000);
        let refused = small_stack.spawn(move || what(&bomb)).expect("a thread").join();
        assert_eq!(refused.expect("no panic"), Some("nested parts"));
    }

    #[test]
    fn a_body_ends_before_the_line_break_of_its_boundary() {
        let raw = b"Content-Type: multipart/mixed; boundary=\"b c\"\r\n\r\npre\r\n--b c\r\n\r\none --b c\r\n\r\n--b c \r\nContent-Type: text/html\r\n--b c--\r\nafter";
        let tree = Tree::scan(raw).expect("within limits");
        assert_eq!(
            tree.children(0).map(|c| tree.body(c)).collect::<Vec<_>>(),
            [b"one --b c\r\n".as_slice(), b""]
        );
    }

    #[test]
    fn an_outer_boundary_ends_inner_parts_that_were_left_open() {
        let raw = b"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=ab\n\n--ab\n\nin\n--a\n\nout\n--a--\n";
        let tree = Tree::scan(raw).expect("within limits");
        assert_eq!(tree.children(0).count(), 2);
        assert_eq!(tree.body(2), b"in");
        assert_eq!(tree.body(3), b"out");
    }
}
