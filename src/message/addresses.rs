//! Address fields: From by the strict reading of R10, the lists of To, Cc and Reply-To by a liberal one.
//!
//! From decides who is spoken for, so anything that two programs might read differently is refused (SMTP M1,
//! H5–H7). The lists only inform: what can be read is kept, groups are flattened, the rest is named. Both read the
//! unfolded raw field, so quoted local parts survive. Linear in the length of the field.

use super::From;
use super::encoded_word;
use super::fields::{Fields, Spelling, clean_line, unfold};
use crate::address::{EmailAddress, NamedAddress};

/// R10: the one clean author of a header block.
pub(super) fn author(fields: &Fields<'_>) -> From {
    let mut all = fields.iter().filter(|field| is_from(field.name));
    match (all.next(), all.next()) {
        (None, _) => From::Bad("no From field"),
        (Some(_), Some(_)) => From::Bad("more than one From field"),
        (Some(field), None) if field.spelling == Spelling::Indented || field.name.len() != "from".len() => {
            From::Bad("a From field that is not spelled as one")
        }
        (Some(field), None) => strict(field.value).map_or_else(From::Bad, From::One),
    }
}

/// Control characters in a name hide it from one reader and not from the next: they do not count.
fn is_from(name: &[u8]) -> bool {
    let mut plain = name.iter().filter(|b| b.is_ascii_graphic());
    let mut wanted = b"from".iter();
    loop {
        match (plain.next(), wanted.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => {}
            _ => return false,
        }
    }
}

/// One mailbox and nothing else.
fn strict(value: &[u8]) -> Result<NamedAddress, &'static str> {
    let value = super::fields::trim_line_break(value);
    let flat = unfold(value);
    let has_bare_break = value.iter().enumerate().any(|(at, b)| match b {
        b'\r' => value.get(at + 1) != Some(&b'\n'),
        b'\n' => !matches!(value.get(at + 1), Some(b' ' | b'\t')),
        _ => false,
    });
    if has_bare_break || flat.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a control character in From");
    }
    let mut seen = Strict::default();
    let mut rest = flat.as_ref();
    while let Some(c) = rest.chars().next() {
        rest = seen.take(c, rest)?;
    }
    seen.finish()
}

/// What the strict reading has met so far.
#[derive(Default)]
struct Strict<'a> {
    /// Words and quoted strings before `<`, or the bare address.
    words: String,
    angle: Option<&'a str>,
    comment: Option<&'a str>,
    /// The last octet was white space, or nothing came yet.
    after_space: Space,
    /// A comment was the last thing; what touches it is refused.
    after_comment: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Space {
    No,
    #[default]
    Yes,
}

impl<'a> Strict<'a> {
    fn take(&mut self, c: char, rest: &'a str) -> Result<&'a str, &'static str> {
        let (taken, behind) = match c {
            '"' => delimited(rest, '"').ok_or("an open quote in From")?,
            '(' => comment(rest).ok_or("an open comment in From")?,
            '<' => delimited(rest, '>').ok_or("an open angle bracket in From")?,
            ',' => return Err("more than one address in From"),
            ':' | ';' => return Err("a group in From"),
            '>' | ')' | '\\' => return Err("From is not one address"),
            c => rest.split_at(c.len_utf8()),
        };
        let is_space = matches!(c, ' ' | '\t');
        match c {
            ' ' | '\t' => self.words.push(' '),
            '(' if self.after_space == Space::No && self.angle.is_none() => {
                return Err("a comment inside the address of From");
            }
            '(' => self.comment = Some(taken),
            '<' if self.angle.is_some() => return Err("more than one address in From"),
            '<' => self.angle = Some(taken),
            _ if self.angle.is_some() => return Err("text behind the address of From"),
            _ if self.after_comment && self.after_space == Space::No => {
                return Err("a comment inside the address of From");
            }
            _ => self.words.push_str(taken),
        }
        self.after_comment = c == '(' || (self.after_comment && is_space);
        self.after_space = if is_space { Space::Yes } else { Space::No };
        Ok(behind)
    }

    fn finish(self) -> Result<NamedAddress, &'static str> {
        let words = self.words.trim();
        let (spec, name) = match self.angle {
            Some(angle) => (inside(angle, '>'), words),
            None => (words, self.comment.map_or("", |comment| inside(comment, ')'))),
        };
        let spec = spec.trim_matches([' ', '\t']);
        if self.angle.is_some() && has_bare_at(words) {
            return Err("more than one address in From");
        }
        if self.comment.is_some_and(|comment| comment.contains(['@', '<', '>'])) {
            return Err("an address in a comment of From");
        }
        let local_is_encoded = spec.starts_with("=?");
        match EmailAddress::parse(spec) {
            Some(address) if !local_is_encoded => Ok(NamedAddress { name: display_name(name), address }),
            Some(_) => Err("an encoded word as the address of From"),
            None if !spec.contains('@') => Err("no address in From"),
            None => Err("From is not one clean address"),
        }
    }
}

/// An at sign outside quotes.
fn has_bare_at(words: &str) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    for c in words.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '@' if !quoted => return true,
            _ => {}
        }
    }
    false
}

/// The liberal reading of one address field.
#[derive(Default)]
pub(super) struct List {
    pub(super) found: Vec<NamedAddress>,
    /// Entries that hold no address.
    pub(super) unreadable: usize,
}

/// Reads an address list, at most [`MAX_ADDRESSES`] of it.
pub(super) fn list(value: &[u8]) -> List {
    let flat = super::charset::without_nul(unfold(value));
    list_text(&flat)
}

/// The same over text that is unfolded already (a header block quoted in a forward).
pub(super) fn list_text(text: &str) -> List {
    let mut out = List::default();
    let mut entry = Entry::default();
    let mut cursor = Cursor { rest: text, no_quote: false, no_angle: false, no_paren: false };
    while let Some(c) = cursor.rest.chars().next() {
        if out.found.len() >= MAX_ADDRESSES {
            return out;
        }
        cursor.step(c, &mut entry, &mut out);
    }
    entry.close(End::Field, &mut out);
    out
}

/// One entry as far as it has been read.
#[derive(Default)]
struct Entry<'a> {
    words: String,
    /// Whether the words have one.
    at_sign: bool,
    /// Commas in the words.
    commas: usize,
    angle: Option<&'a str>,
    comment: Option<&'a str>,
}

/// What ended an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Comma,
    Field,
    Group,
}

/// Where the reading stands, and which closing marks are known not to come any more (so that looking for them
/// stays linear).
struct Cursor<'a> {
    rest: &'a str,
    no_quote: bool,
    no_angle: bool,
    no_paren: bool,
}

impl<'a> Cursor<'a> {
    fn step(&mut self, c: char, entry: &mut Entry<'a>, out: &mut List) {
        let rest = self.rest;
        match c {
            '"' if !self.no_quote => match delimited(rest, '"') {
                Some((taken, behind)) => {
                    entry.push(taken);
                    self.rest = behind;
                    return;
                }
                None => self.no_quote = true,
            },
            '(' if !self.no_paren => match comment(rest) {
                Some((taken, behind)) => {
                    entry.comment = Some(inside(taken, ')'));
                    self.rest = behind;
                    return;
                }
                None => self.no_paren = true,
            },
            '<' if !self.no_angle => match delimited(rest, '>') {
                Some((taken, behind)) => {
                    // The last angle wins: `<a@b> <c@d>` names the first `<a@b>`.
                    if let Some(earlier) = entry.angle.replace(inside(taken, '>')) {
                        entry.push(earlier);
                    }
                    self.rest = behind;
                    return;
                }
                None => self.no_angle = true,
            },
            '[' => {
                let end = rest
                    .find([']', ','])
                    .map_or(rest.len(), |at| at + usize::from(rest.as_bytes()[at] == b']'));
                let (taken, behind) = rest.split_at(end.max(1));
                entry.push(taken);
                self.rest = behind;
                return;
            }
            ',' => entry.close(End::Comma, out),
            ';' => entry.close(End::Group, out),
            ':' if entry.angle.is_none() && !entry.at_sign => *entry = Entry::default(),
            c => entry.push(rest.split_at(c.len_utf8()).0),
        }
        self.rest = rest.split_at(c.len_utf8()).1;
    }
}

impl Entry<'_> {
    fn push(&mut self, taken: &str) {
        self.at_sign |= taken.contains('@');
        self.words.push_str(taken);
    }

    /// Turns what was read into an address; a name cut by an unquoted comma waits for its address.
    fn close(&mut self, end: End, out: &mut List) {
        let words = self.words.trim();
        if words.is_empty() && self.angle.is_none() {
            self.comment = None;
            // Else each comma would look at the blanks of all before it.
            self.words.clear();
            return;
        }
        if let Some(address) = self.angle.and_then(lenient_spec) {
            let name = if words.is_empty() { self.comment.unwrap_or_default() } else { words };
            out.found.push(NamedAddress { name: display_name(name), address });
        } else if let Some((name, address)) = self.at_sign.then(|| bare(words)).flatten() {
            let name = if name.is_empty() { self.comment.unwrap_or_default() } else { &name };
            out.found.push(NamedAddress { name: display_name(name), address });
        } else if end == End::Comma
            && self.angle.is_none()
            && words.len() < MAX_NAME
            && self.commas < MAX_COMMAS
        {
            self.commas += 1;
            self.words.truncate(self.words.trim_end().len());
            self.words.push_str(", ");
            return;
        } else {
            out.unreadable += 1;
        }
        *self = Self::default();
    }
}

/// `ana@x.test`, or the one word of several that is an address.
fn bare(words: &str) -> Option<(String, EmailAddress)> {
    if let Some(address) = lenient_spec(words) {
        return Some((String::new(), address));
    }
    let spec = words.split(char::is_whitespace).rfind(|word| word.contains('@'))?;
    let address = lenient_spec(spec)
        .or_else(|| lenient_spec(spec.trim_matches([',', '<', '>', '[', ']', '(', ')'])))?;
    let name = words.replacen(spec, "", 1);
    // What a comma cut off was an entry of its own.
    let name = name.rsplit(',').next().unwrap_or_default().trim().to_owned();
    Some((name, address))
}

/// An addr-spec with what clients put around it: spaces, `mailto:`, quotes, a source route.
fn lenient_spec(text: &str) -> Option<EmailAddress> {
    let text = text.trim().trim_matches(['<', '>', '\'']).trim();
    let text = text.strip_prefix("mailto:").unwrap_or(text);
    let text = if text.starts_with('@') { text.split_once(':').map_or(text, |(_, spec)| spec) } else { text };
    EmailAddress::parse(text).or_else(|| {
        let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        (squeezed.len() != text.len() && !text.contains('"'))
            .then(|| EmailAddress::parse(&squeezed))
            .flatten()
    })
}

/// A display name as a person reads it: unquoted, decoded, without what changes the direction of writing.
pub(super) fn display_name(words: &str) -> Option<String> {
    let mut plain = String::with_capacity(words.len());
    let mut chars = words.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {}
            '\\' => plain.extend(chars.next()),
            c => plain.push(c),
        }
    }
    let decoded = encoded_word::decode(&plain);
    let mut clean = clean_line(&decoded);
    clean.retain(|c| !is_direction_mark(c));
    let mut name = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.len() > 1 && name.starts_with('\'') && name.ends_with('\'') {
        name = name.trim_matches('\'').to_owned();
    }
    if let Some((end, _)) = name.char_indices().nth(MAX_NAME) {
        name.truncate(end);
    }
    (!name.is_empty()).then_some(name)
}

/// Overrides and isolates, which make a name or file name read as another.
pub(super) fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// From an opening mark to its closing one, both included; quotes inside angle brackets hide a `>`.
fn delimited(text: &str, close: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    let mut quoted = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if close == '"' || quoted => escaped = true,
            '"' if close != '"' => quoted = !quoted,
            c if c == close && !quoted => return Some(text.split_at(at + 1)),
            _ => {}
        }
    }
    None
}

/// A comment with those nested in it.
fn comment(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(text.split_at(at + 1));
                }
            }
            _ => {}
        }
    }
    None
}

/// Without the marks around it.
fn inside(text: &str, close: char) -> &str {
    let mut chars = text.chars();
    chars.next();
    let inner = chars.as_str();
    inner.strip_suffix(close).unwrap_or(inner)
}

/// Recipients beyond this many are not looked at.
pub(super) const MAX_ADDRESSES: usize = 10_000;
/// Commas in a name that nobody has quoted: at each all of it is looked at again.
const MAX_COMMAS: usize = 20;
/// Characters of a display name that are kept.
const MAX_NAME: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::fields::read_block;

    #[test]
    fn m10_blanks_before_commas_are_looked_at_once() {
        // Each time again they would be ten thousand million steps.
        let list = list_text(&format!("{}a@x.test", " ,".repeat(128 * 1024)));
        assert_eq!((list.found.len(), list.unreadable), (1, 0));
    }

    fn from_of(header: &str) -> From {
        author(&read_block(header.as_bytes(), 0, |_| false).expect("within limits").0)
    }

    #[track_caller]
    fn check(header: &str, expected: Option<(Option<&str>, &str)>) {
        let found = match from_of(header) {
            From::Bad(_) => None,
            From::One(one) => Some((one.name, one.address.as_str().to_owned())),
        };
        let expected = expected.map(|(name, address)| (name.map(str::to_owned), address.to_owned()));
        assert_eq!(found, expected, "{header:?}");
    }

    #[test]
    fn r10_one_clean_author_is_read_with_his_name() {
        check("From: ana@x.test\r\n", Some((None, "ana@x.test")));
        check("FROM: Ana <ana@x.test>\r\n", Some((Some("Ana"), "ana@x.test")));
        check("From : Ana <ana@x.test>\r\n", Some((Some("Ana"), "ana@x.test")));
        check("From: \"Lee, Ana\"\r\n <ana@x.test>\r\n", Some((Some("Lee, Ana"), "ana@x.test")));
        check("From: =?utf-8?Q?J=C3=BCrgen?= <j@x.test>\r\n", Some((Some("Jürgen"), "j@x.test")));
        check("From: \"a@b\"@x.test\r\n", Some((None, "\"a@b\"@x.test")));
        check("From: \"a b\"@x.test\r\n", Some((None, "\"a b\"@x.test")));
        check("From: ana@x.test (Ana Lee)\r\n", Some((Some("Ana Lee"), "ana@x.test")));
        check("From: \"ceo@victim.test\" <e@evil.test>\r\n", Some((Some("ceo@victim.test"), "e@evil.test")));
    }

    #[test]
    fn r10_m1_h5_anything_but_one_from_with_one_clean_address_is_bad() {
        for bad in [
            "To: a@x.test\r\n",
            "From: a@x.test\r\nFrom: b@x.test\r\n",
            "From: a@x.test\r\nFROM : a@x.test\r\n",
            " From: a@x.test\r\nFrom: a@x.test\r\n",
            " From: a@x.test\r\n",
            "\u{c}From: a@x.test\r\n",
            "From\u{c}: a@x.test\r\n",
            "\u{b}From: a@x.test\r\nFrom: b@x.test\r\n",
            "Fr\0om: a@x.test\r\n",
            "From: a@x.test, b@x.test\r\n",
            "From: staff: a@x.test;\r\n",
            "From: a@x.test.\r\n",
            "From: <a@x.test> <b@x.test>\r\n",
            "From: a@x.test <b@x.test>\r\n",
            "From: a@evil.test@x.test\r\n",
            "From: a\0@x.test\r\n",
            "From: a@x.test(.evil.test)\r\n",
            "From: a(x)@x.test\r\n",
            "From: (b@y.test) a@x.test\r\n",
            "From: <@evil.test:a@x.test>\r\n",
            "From: =?utf-8?Q?a=40x.test?=\r\n",
            "From: =?utf-8?Q?a?=@x.test\r\n",
            "From: \"a <a@x.test>\r\n",
            "From: <a@x.test\r\n",
            "From: a@x.test>\r\n",
            "From: <>\r\n",
            "From: a\r\n",
            "From:\r\n",
            "From: a@x.test b\r\n",
            "From: <a@x.test> b\r\n",
            "From: a @x.test\r\n",
            "From: undisclosed-recipients:;\r\n",
        ] {
            check(bad, None);
        }
    }

    #[track_caller]
    fn check_list(value: &str, expected: &[(Option<&str>, &str)], unreadable: usize) {
        let list = list(value.as_bytes());
        let found: Vec<_> = list.found.iter().map(|a| (a.name.as_deref(), a.address.as_str())).collect();
        assert_eq!((found.as_slice(), list.unreadable), (expected, unreadable), "{value:?}");
    }

    #[test]
    fn lists_are_read_in_their_bent_forms() {
        check_list("a@x.test, B <b@x.test>", &[(None, "a@x.test"), (Some("B"), "b@x.test")], 0);
        check_list("undisclosed-recipients:;", &[], 0);
        check_list(
            "team: a@x.test, b@x.test; c@x.test",
            &[(None, "a@x.test"), (None, "b@x.test"), (None, "c@x.test")],
            0,
        );
        check_list("\"Lee, Ana\" <a@x.test>,,", &[(Some("Lee, Ana"), "a@x.test")], 0);
        check_list("Lee, Ana <a@x.test>", &[(Some("Lee, Ana"), "a@x.test")], 0);
        check_list("'a@x.test' <a@x.test>", &[(Some("a@x.test"), "a@x.test")], 0);
        check_list("\"a b\"@x.test", &[(None, "\"a b\"@x.test")], 0);
        check_list("a@x.test (Ana)", &[(Some("Ana"), "a@x.test")], 0);
        check_list("nobody, a@[192.0.2.1]", &[(None, "a@[192.0.2.1]")], 0);
        check_list("nobody", &[], 1);
        check_list("\"open <a@x.test>", &[(Some("open"), "a@x.test")], 0);
        check_list("<@r.test:a@x.test>", &[(None, "a@x.test")], 0);
    }

    #[test]
    fn ten_thousand_recipients_are_read_and_no_more() {
        let value = "a@x.test,".repeat(MAX_ADDRESSES + 1);
        assert_eq!(list(value.as_bytes()).found.len(), MAX_ADDRESSES);
        for hostile in ["\"", "(", "<", "[", "a:", ",", "x <", "a@"] {
            let _ = list(hostile.repeat(200_000).as_bytes());
        }
    }

    #[test]
    fn a_name_has_twenty_commas_and_no_more() {
        let at_limit = "Lee, ".repeat(MAX_COMMAS) + "Ana";
        check_list(&format!("{at_limit} <a@x.test>"), &[(Some(&at_limit), "a@x.test")], 0);
        check_list(&format!("Lee, {at_limit} <a@x.test>"), &[(Some("Ana"), "a@x.test")], 1);
    }

    #[test]
    fn colons_behind_a_far_at_sign_take_linear_time() {
        let megabytes = |text: &str| text.repeat(if cfg!(debug_assertions) { 4 << 20 } else { 16 << 20 });
        let list = list_text(&format!("{}@{}", megabytes("x"), megabytes(":")));
        assert_eq!((list.found.len(), list.unreadable), (0, 1));
    }
}
