//! The lines of `check`: `red   mx sync.example.test: …; to mend it: …`, or one JSON object each.

use serde_json::json;

use crate::cli::output;

/// One thing that was asked, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What sort of thing: stable, for scripts.
    check: &'static str,
    /// Which one: a domain, an address, a file; may be empty.
    subject: String,
    state: State,
    said: String,
    /// How to mend it.
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Red,
    Warn,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Red => "red",
            Self::Warn => "warn",
        }
    }

    /// ECMA-48, "SGR": green, red, yellow.
    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Red => "\x1b[31m",
            Self::Warn => "\x1b[33m",
        }
    }
}

impl Line {
    pub(super) fn ok(check: &'static str, subject: &str, said: impl Into<String>) -> Self {
        Self { check, subject: subject.to_owned(), state: State::Ok, said: said.into(), mend: None }
    }

    pub(super) fn warn(
        check: &'static str,
        subject: &str,
        said: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { state: State::Warn, mend: Some(mend.into()), ..Self::ok(check, subject, said) }
    }

    pub(super) fn red(
        check: &'static str,
        subject: &str,
        said: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { state: State::Red, mend: Some(mend.into()), ..Self::ok(check, subject, said) }
    }

    #[cfg(test)]
    pub(super) const fn state(&self) -> &'static str {
        self.state.word()
    }

    pub(super) fn is_red(&self) -> bool {
        self.state == State::Red
    }

    fn text(&self, is_coloured: bool) -> String {
        let (on, off) = if is_coloured { (self.state.colour(), "\x1b[0m") } else { ("", "") };
        let subject = if self.subject.is_empty() { String::new() } else { format!(" {}", self.subject) };
        let mend = self.mend.as_ref().map(|mend| format!("; to mend it: {mend}")).unwrap_or_default();
        // What strangers said stays on its line and gives the terminal no orders.
        let said = format!("{}{subject}: {}{mend}", self.check, self.said).replace(char::is_control, " ");
        format!("{on}{:<4}{off}  {said}", self.state.word())
    }
}

/// Prints lines as they are.
pub(super) fn print(lines: &[Line], as_json: bool) {
    let is_coloured = output::is_stdout_coloured();
    for line in lines {
        if as_json {
            output::json(&json!({
                "check": line.check, "subject": line.subject, "state": line.state.word(), "said": line.said,
                "mend": line.mend,
            }));
        } else {
            output::line(&line.text(is_coloured));
        }
    }
}

/// What a stranger said, fit to be shown: printable, and not too much of it.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS).collect();
    format!("`{shown}`")
}

const QUOTED_CHARS: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_says_how_to_mend_it() {
        let red = Line::red("mx", "sync.example.test", "no record", "publish one");
        assert_eq!(red.text(false), "red   mx sync.example.test: no record; to mend it: publish one");
        assert_eq!(Line::ok("clock", "", "fine").text(false), "ok    clock: fine");
        assert_eq!(Line::ok("clock", "", "fine").text(true), "\x1b[32mok  \x1b[0m  clock: fine");
    }

    #[test]
    fn what_strangers_say_gives_the_terminal_no_orders() {
        let hostile = format!("\x1b[2J\r\n{}", "x".repeat(500));
        let shown = quoted(&hostile);
        assert!(!shown.contains(char::is_control) && shown.chars().count() <= QUOTED_CHARS + 2);
        assert!(!Line::ok("mx", "", "a\r\nb\x1b[2J").text(false).contains(char::is_control));
    }
}
