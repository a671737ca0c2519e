//! How commands print: JSON lines or text for people; colours only on a terminal, and `NO_COLOR` obeyed.

use std::io::{IsTerminal, Write};

/// Whether standard error may carry colours.
#[must_use]
pub(super) fn is_coloured() -> bool {
    std::io::stderr().is_terminal() && !is_colour_refused()
}

/// Whether standard output may carry colours.
#[must_use]
pub(super) fn is_stdout_coloured() -> bool {
    std::io::stdout().is_terminal() && !is_colour_refused()
}

fn is_colour_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// One line on standard output. A reader that has gone away is no error.
pub(super) fn line(text: &str) {
    let _gone = writeln!(std::io::stdout().lock(), "{text}");
}

/// One JSON value on a line.
pub(super) fn json(value: &impl serde::Serialize) {
    line(&serde_json::to_string(value).unwrap_or_default());
}

/// Octets as they are. A reader that has gone away is no error.
pub(super) fn octets(octets: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(octets).and_then(|()| out.flush());
}

/// How far a long work has come: one line on standard error, which the next replaces on a terminal.
pub(super) fn progress(text: &str) {
    let mut err = std::io::stderr().lock();
    let _gone =
        if std::io::stderr().is_terminal() { write!(err, "\r{text}\x1b[K") } else { writeln!(err, "{text}") };
}
