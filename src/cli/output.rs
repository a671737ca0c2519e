//! How commands print: JSON lines or text for people; colours only on a terminal, and `NO_COLOR` obeyed.

use std::io::{IsTerminal, Write};

/// Whether standard error may carry colours.
#[must_use]
pub(super) fn is_coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One line on standard output. A reader that has gone away is no error.
pub(super) fn line(text: &str) {
    let _gone = writeln!(std::io::stdout().lock(), "{text}");
}

/// One JSON value on a line.
pub(super) fn json(value: &impl serde::Serialize) {
    line(&serde_json::to_string(value).unwrap_or_default());
}
