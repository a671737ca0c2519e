//! The header block of a raw message as fields, byte for byte, and where the body begins. Pure.
//!
//! Promises that the fields, in order, are the header block: nothing of it is skipped, and names and values are slices
//! of it. A line that is no field and continues none is a field without a name. Lines end with LF, as the message
//! parser reads them; a CR before it is part of the line end.

use memchr::memchr;

/// One header field with its folding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'m> {
    /// All of it, with the last line end.
    pub whole: &'m [u8],
    /// What stands before the colon; empty for what is no field.
    pub name: &'m [u8],
    /// What stands after the colon, with the last line end.
    pub value: &'m [u8],
}

impl Field<'_> {
    /// Whether this is the field of that name: white space before the colon (RFC 5322 section 4.5) and case aside.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Cuts the header block, field by field; [`Fields::rest`] is then the body.
#[derive(Clone, Debug)]
pub(super) struct Fields<'m> {
    rest: &'m [u8],
    is_done: bool,
}

impl<'m> Fields<'m> {
    pub(super) const fn of(raw: &'m [u8]) -> Self {
        Self { rest: raw, is_done: false }
    }

    /// What has not been cut yet: once the iterator has ended, the body without the empty line before it.
    pub(super) const fn rest(&self) -> &'m [u8] {
        self.rest
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Field<'m>;

    fn next(&mut self) -> Option<Field<'m>> {
        if self.is_done || self.rest.is_empty() {
            return None;
        }
        if let Some(body) = self.rest.strip_prefix(b"\r\n").or_else(|| self.rest.strip_prefix(b"\n")) {
            (self.rest, self.is_done) = (body, true);
            return None;
        }
        let (whole, rest) = self.rest.split_at_checked(field_end(self.rest))?;
        self.rest = rest;
        let first_line = memchr(b'\n', whole).unwrap_or(whole.len());
        let colon =
            memchr(b':', whole).filter(|colon| *colon < first_line && !starts_with_white_space(whole));
        let (name, value) = match colon {
            Some(colon) => (whole.get(..colon)?, whole.get(colon + 1..)?),
            None => (b"".as_slice(), whole),
        };
        Some(Field { whole, name, value })
    }
}

/// Where the field that begins here ends: at the first line end that no continuation follows.
fn field_end(block: &[u8]) -> usize {
    let mut from = 0;
    while let Some(newline) = block.get(from..).and_then(|rest| memchr(b'\n', rest)) {
        from += newline + 1;
        if !starts_with_white_space(block.get(from..).unwrap_or_default()) {
            return from;
        }
    }
    block.len()
}

const fn starts_with_white_space(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folded_fields_stray_lines_and_the_body_are_told_apart() {
        let raw = b"From: a\r\n b\r\nstray\r\nSubject : x\n\tmore\r\n\r\nTo: body\r\n";
        let mut fields = Fields::of(raw);
        let found: Vec<Field<'_>> = fields.by_ref().collect();
        let names: Vec<&[u8]> = found.iter().map(|field| field.name).collect();
        assert_eq!(names, [b"From".as_slice(), b"", b"Subject "]);
        assert_eq!(found[0].value, b" a\r\n b\r\n");
        assert!(found[2].is("subject"));
        assert_eq!(fields.rest(), b"To: body\r\n");
    }

    proptest! {
        #[test]
        fn m7_header_block_and_body_together_are_the_message(raw in "[a:\r\n \t]{0,60}") {
            let mut fields = Fields::of(raw.as_bytes());
            let mut joined: Vec<u8> = fields.by_ref().flat_map(|field| field.whole.to_vec()).collect();
            prop_assert!(fields.next().is_none());
            let rest = fields.rest();
            let blank = raw.len() - joined.len() - rest.len();
            prop_assert!(blank <= 2);
            joined.extend_from_slice(&raw.as_bytes()[joined.len()..joined.len() + blank]);
            joined.extend_from_slice(rest);
            prop_assert_eq!(joined, raw.as_bytes());
        }
    }
}
