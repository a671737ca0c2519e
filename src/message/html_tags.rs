//! HTML cut into tags and text, as browsers cut it, in linear time.
//!
//! Comments, declarations and the content of elements that nobody reads (script, style, head and the like) are
//! left out.

/// A piece of the document.
pub(super) enum Token<'a> {
    Tag(Tag<'a>),
    /// Raw: references are not decoded.
    Text(&'a str),
}

/// One tag.
pub(super) struct Tag<'a> {
    /// Lower case, at most [`MAX_NAME`] characters, without a namespace.
    pub(super) name: String,
    /// The attributes as they stand.
    pub(super) rest: &'a str,
    pub(super) is_closing: bool,
}

/// Iterates over the pieces.
pub(super) struct Tags<'a> {
    rest: &'a str,
    /// Marks that were looked for in vain: they do not come any more.
    gone: Vec<Closer>,
    /// Whether the tags of `head` are tokens, too.
    with_head: bool,
}

/// A mark that ends something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closer {
    Comment,
    DoubleQuote,
    Head,
    SingleQuote,
}

impl<'a> Tags<'a> {
    pub(super) const fn new(html: &'a str) -> Self {
        Self { rest: html, gone: Vec::new(), with_head: false }
    }

    /// The tags inside `head` as well.
    pub(super) const fn with_head(html: &'a str) -> Self {
        Self { rest: html, gone: Vec::new(), with_head: true }
    }

    /// Moves on by `octets`, which end at a character.
    fn skip(&mut self, octets: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(octets.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A declaration or comment: `<!doctype …>`, `<!-- … -->`, `<![endif]>`, `<?xml … ?>`.
    fn skip_declaration(&mut self) {
        if self.rest.starts_with("<!--") && !self.gone.contains(&Closer::Comment) {
            // `<!-->` is a whole comment.
            match self.rest.get(2..).and_then(|rest| rest.find("-->")) {
                Some(at) => {
                    self.skip(at + 5);
                    return;
                }
                None => self.gone.push(Closer::Comment),
            }
        }
        let end = self.rest.find('>').map_or(self.rest.len(), |at| at + 1);
        self.skip(end);
    }

    fn tag(&mut self) -> Tag<'a> {
        let is_closing = self.rest.starts_with("</");
        let name_start = 1 + usize::from(is_closing);
        let bytes = self.rest.as_bytes();
        let name_end = bytes
            .iter()
            .skip(name_start)
            .position(|b| b.is_ascii_whitespace() || matches!(b, b'>' | b'/'))
            .map_or(bytes.len(), |at| at + name_start);
        let end = self.tag_end(name_end);
        let whole = self.skip(end);
        let name = whole.get(name_start..name_end).unwrap_or_default();
        let name: String = name.rsplit(':').next().unwrap_or_default().chars().take(MAX_NAME).collect();
        let rest = whole.get(name_end..).unwrap_or_default();
        Tag { name: name.to_ascii_lowercase(), rest: rest.trim_end_matches('>'), is_closing }
    }

    /// Behind the `>` that stands outside quoted attribute values.
    fn tag_end(&mut self, from: usize) -> usize {
        let bytes = self.rest.as_bytes();
        let mut at = from;
        while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'>', b'=', rest)) {
            at += found + 1;
            if bytes[at - 1] == b'>' {
                return at;
            }
            while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            let closer = match bytes.get(at) {
                Some(b'"') => Closer::DoubleQuote,
                Some(b'\'') => Closer::SingleQuote,
                Some(_) | None => continue,
            };
            if self.gone.contains(&closer) {
                continue;
            }
            match memchr::memchr(bytes[at], &bytes[at + 1..]) {
                Some(close) => at += close + 2,
                None => self.gone.push(closer),
            }
        }
        bytes.len()
    }

    /// Leaves out what stands inside an element that nobody reads.
    fn skip_content(&mut self, name: &str) {
        let is_head = name == "head";
        if is_head && self.gone.contains(&Closer::Head) {
            return;
        }
        let close = format!("</{name}");
        match find_ignoring_case(self.rest.as_bytes(), close.as_bytes()) {
            Some(at) => {
                self.skip(at);
            }
            None if is_head => self.gone.push(Closer::Head),
            None => {
                self.skip(self.rest.len());
            }
        }
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let bytes = self.rest.as_bytes();
            match (bytes[0], bytes.get(1)) {
                (b'<', Some(b'!' | b'?')) => self.skip_declaration(),
                (b'<', Some(next)) if next.is_ascii_alphabetic() || *next == b'/' => {
                    let tag = self.tag();
                    if !tag.is_closing && is_unread(&tag.name) && !(self.with_head && tag.name == "head") {
                        self.skip_content(&tag.name);
                        continue;
                    }
                    return Some(Token::Tag(tag));
                }
                _ => {
                    let end = memchr::memchr(b'<', &bytes[1..]).map_or(bytes.len(), |at| at + 1);
                    return Some(Token::Text(self.skip(end)));
                }
            }
        }
    }
}

/// Attributes of one tag, read when asked for.
pub(super) struct Attributes<'a> {
    list: Vec<(&'a str, &'a str)>,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(mut rest: &'a str) -> Self {
        let mut list = Vec::new();
        while list.len() < MAX_ATTRIBUTES {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            if name.is_empty() && behind.is_empty() {
                break;
            }
            let Some(value) = behind.trim_start().strip_prefix('=') else {
                rest = behind;
                list.push((name, ""));
                continue;
            };
            let value = value.trim_start();
            let (value, behind) = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let inner = value.get(1..).unwrap_or_default();
                    inner.split_once(quote).unwrap_or((inner, ""))
                }
                _ => value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
            };
            list.push((name, value));
            rest = behind;
        }
        Self { list }
    }

    /// The value of an attribute, raw; empty if there is none.
    pub(super) fn value(&self, name: &str) -> &'a str {
        self.list.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| *value)
    }
}

fn is_unread(name: &str) -> bool {
    matches!(name, "script" | "style" | "head" | "title" | "template" | "noframes" | "xml")
}

fn find_ignoring_case(text: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'<', text)
        .find(|at| text.get(*at..*at + wanted.len()).is_some_and(|found| found.eq_ignore_ascii_case(wanted)))
}

const MAX_NAME: usize = 32;
const MAX_ATTRIBUTES: usize = 64;
