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

/// Whether a text has more than [`MAX_LINES`]. Lines that are held cost more memory than short ones have octets.
pub(super) fn are_too_many(text: &str) -> bool {
    memchr::memchr_iter(b'\n', text.as_bytes()).nth(MAX_LINES - 1).is_some()
}

/// The lines of a text, at most [`MAX_LINES`]: the last of them holds all the rest.
pub(super) fn split_bounded(text: &str) -> impl Iterator<Item = &str> {
    text.splitn(MAX_LINES, '\n')
}

/// Whether a line holds white space alone.
pub(super) fn is_blank(line: &str) -> bool {
    !line.starts_with(|c: char| c.is_ascii_graphic()) && line.trim().is_empty()
}

/// Whether a line begins as text does, and not as rules, separators and decoration do.
pub(super) fn begins_as_text(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// No mail that people write or quote has more.
pub(super) const MAX_LINES: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_lines_are_counted_and_held_up_to_their_limit() {
        for (lines, held) in [(1, 1), (MAX_LINES, MAX_LINES), (MAX_LINES + 1, MAX_LINES)] {
            let text = vec![""; lines].join("\n");
            assert_eq!(are_too_many(&text), lines > MAX_LINES, "{lines}");
            assert_eq!(split_bounded(&text).count(), held);
            assert_eq!(split_bounded(&text).collect::<Vec<_>>().join("\n"), text);
        }
    }

    #[test]
    fn lines_are_those_of_the_standard_library() {
        for text in ["", "\n", "a", "a\n", "\na\n\nb\r\n\u{fc}\n\n", "ü\nß"] {
            assert_eq!(split(text).collect::<Vec<_>>(), text.split('\n').collect::<Vec<_>>(), "{text:?}");
        }
    }
}
