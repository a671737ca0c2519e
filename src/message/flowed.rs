//! `format=flowed` (RFC 3676): lines that were broken for width become one again.

/// Whether the space that marks a soft break belongs to the text (`DelSp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spaces {
    Delete,
    Keep,
}

impl Spaces {
    pub(super) fn of(delsp: Option<&str>) -> Self {
        if delsp.is_some_and(|value| value.eq_ignore_ascii_case("yes")) { Self::Delete } else { Self::Keep }
    }
}

/// Joins soft-broken lines of equal quote depth. Signature separators are never joined.
pub(super) fn unflow(text: &str, spaces: Spaces) -> String {
    let mut out = String::with_capacity(text.len());
    // The quote depth of the line that waits for its continuation.
    let mut open: Option<usize> = None;
    for (number, line) in text.split('\n').enumerate() {
        let content = line.trim_start_matches('>');
        let depth = line.len() - content.len();
        let content = content.strip_prefix(' ').unwrap_or(content);
        let is_separator = content == "-- ";
        if open != Some(depth) || is_separator {
            out.extend((number > 0).then_some('\n'));
            out.extend(std::iter::repeat_n('>', depth));
            out.extend((depth > 0 && !content.is_empty()).then_some(' '));
        }
        let is_soft = content.ends_with(' ') && !is_separator;
        let kept = if is_soft && spaces == Spaces::Delete { content.strip_suffix(' ') } else { None };
        out.push_str(kept.unwrap_or(content));
        open = is_soft.then_some(depth);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, spaces: Spaces, expected: &str) {
        assert_eq!(unflow(text, spaces), expected);
    }

    #[test]
    fn soft_breaks_are_joined_within_one_depth() {
        check("one \ntwo\nthree", Spaces::Keep, "one two\nthree");
        check("ein \nwort", Spaces::Delete, "einwort");
        check("> a \n> b\n>> c \nd", Spaces::Keep, "> a b\n>> c \nd");
        check("x \n-- \nAna", Spaces::Keep, "x \n-- \nAna");
        check(" From me\n\nend", Spaces::Keep, "From me\n\nend");
        check("a\n", Spaces::Keep, "a\n");
    }
}
