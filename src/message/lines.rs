//! Text cut into lines. A body has hundreds: they are found in blocks of octets, not character by character.

/// What stands between line feeds, as `str::split('\n')` cuts it.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    let mut start = 0;
    ends.filter_map(move |end| {
        let line = text.get(start..end);
        start = end + 1;
        line
    })
}

/// Whether a line holds white space alone.
pub(super) fn is_blank(line: &str) -> bool {
    !line.starts_with(|c: char| c.is_ascii_graphic()) && line.trim().is_empty()
}

/// Whether a line begins as text does, and not as rules, separators and decoration do.
pub(super) fn begins_as_text(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_standard_library() {
        for text in ["", "\n", "a", "a\n", "\na\n\nb\r\n\u{fc}\n\n", "ü\nß"] {
            assert_eq!(split(text).collect::<Vec<_>>(), text.split('\n').collect::<Vec<_>>(), "{text:?}");
        }
    }
}
