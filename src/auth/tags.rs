//! Tag lists (RFC 6376 section 3.2), the common form of DKIM, ARC and DMARC texts, and the base64 in them. Pure.
//!
//! Promises that a list with a doubled tag, or with anything that is no `name=value`, is none: otherwise two readers
//! could take two values from it.

/// A tag list. Names keep their case; values are without the white space around them.
#[derive(Debug)]
pub(super) struct Tags<'t> {
    list: Vec<(&'t [u8], &'t [u8])>,
}

impl<'t> Tags<'t> {
    /// Reads a list; none if it is malformed.
    pub(super) fn parse(text: &'t [u8]) -> Option<Self> {
        let mut list: Vec<(&[u8], &[u8])> = Vec::with_capacity(12);
        let mut parts = text.split(|b| *b == b';').peekable();
        while let Some(part) = parts.next() {
            if part.trim_ascii().is_empty() && parts.peek().is_none() {
                break;
            }
            let equals = memchr::memchr(b'=', part)?;
            let (name, value) = (part.get(..equals)?.trim_ascii(), part.get(equals + 1..)?.trim_ascii());
            let is_known = list.iter().any(|(known, _)| *known == name);
            if is_known || !is_name(name) || list.len() == MAX_TAGS {
                return None;
            }
            list.push((name, value));
        }
        Some(Self { list })
    }

    /// The value of a tag.
    pub(super) fn value(&self, name: &str) -> Option<&'t [u8]> {
        self.list.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| *value)
    }

    /// The value without white space, as text; none where the tag is missing or no UTF-8.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.value(name)?;
        String::from_utf8(value.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect()).ok()
    }

    /// The parts of a colon-separated value, in lower case.
    pub(super) fn parts(&self, name: &str) -> Option<Vec<String>> {
        let text = self.text(name)?.to_ascii_lowercase();
        Some(text.split(':').map(str::to_owned).collect())
    }

    /// The decoded value of a base64 tag.
    pub(super) fn base64(&self, name: &str) -> Option<Vec<u8>> {
        base64(self.value(name)?)
    }

    /// The value of a tag that is a number of at most 18 digits: `Ok(None)` where the tag is missing.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, NotANumber> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        let number = value.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0')));
        if is_number { Ok(Some(number)) } else { Err(NotANumber) }
    }

    /// The name of the first tag.
    pub(super) fn first(&self) -> Option<&'t [u8]> {
        self.list.first().map(|(name, _)| *name)
    }
}

/// A numeric tag that holds something else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotANumber;

const MAX_TAGS: usize = 64;

fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Base64 (RFC 4648 section 4), white space ignored; none for anything else in it, or nothing at all.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0_u32, 0_u32);
    for byte in text.iter().filter(|b| !b.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            let [_, a, b, c] = bits.to_be_bytes();
            octets.extend_from_slice(&[a, b, c]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 0 | 2) => octets.extend((bits >> 4).to_be_bytes().into_iter().skip(3)),
        (3, 0 | 1) => octets.extend((bits >> 2).to_be_bytes().into_iter().skip(2)),
        _ => return None,
    }
    (!octets.is_empty()).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e10_a_doubled_tag_voids_the_list() {
        assert!(Tags::parse(b"v=1; d=a.test;\r\n\ts = x ; ").is_some_and(|tags| {
            tags.value("s") == Some(b"x") && tags.first() == Some(b"v") && tags.value("D").is_none()
        }));
        for bad in ["v=1; v=1", "v", "=1", "v=1;;d=x", "1v=1", ""] {
            assert!(Tags::parse(bad.as_bytes()).is_none_or(|tags| tags.list.is_empty()), "{bad}");
        }
    }

    #[test]
    fn base64_is_read_across_folds_and_nothing_else_is_let_through() {
        assert_eq!(base64(b"Zm9v\r\n YmFy").as_deref(), Some(b"foobar".as_slice()));
        assert_eq!(base64(b"Zm8=").as_deref(), Some(b"fo".as_slice()));
        assert_eq!(base64(b"Zg==").as_deref(), Some(b"f".as_slice()));
        for bad in ["", "Z", "Zg=", "Zm9v-", "Zg==Zg=="] {
            assert_eq!(base64(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_number_has_at_most_18_digits() {
        let number = |text: &str| Tags::parse(text.as_bytes()).map(|tags| tags.number("x"));
        assert_eq!(number("x=12"), Some(Ok(Some(12))));
        assert_eq!(number("y=12"), Some(Ok(None)));
        for bad in ["x=", "x=-1", "x=1000000000000000000"] {
            assert_eq!(number(bad), Some(Err(NotANumber)), "{bad}");
        }
    }
}
