//! Invariants of the source tree, read off the files: which modules are pure, and which crates stay where.
#![expect(clippy::unwrap_used, reason = "a test that cannot read the source has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Files (or folders) without async, clock, randomness or I/O, for good.
const PURE: [&str; 18] = [
    "smtp/session.rs",
    "smtp/step.rs",
    "smtp/tally.rs",
    "smtp/transaction.rs",
    "smtp/line.rs",
    "smtp/command.rs",
    "smtp/path.rs",
    "smtp/data.rs",
    "smtp/reply.rs",
    "address/mod.rs",
    "address/token.rs",
    "auth/align.rs",
    "message",
    "filing",
    "outbox/compose.rs",
    "outbox/copy.rs",
    "outbox/notice.rs",
    "outbox/schedule.rs",
];

/// What a pure file must not contain, outside comments and tests.
const IMPURE: [&str; 9] = [
    "async ",
    "tokio",
    "sqlx",
    "::now(",
    "std::net::Tcp",
    "std::fs",
    "::generate(",
    "rand::fill",
    "std::env",
];

/// A crate and the only places that may name it.
const CONFINED: [(&str, &[&str]); 4] = [
    ("sqlx", &["store"]),
    ("mail_parser", &["message"]),
    ("mail_auth", &["auth", "cli/demo"]),
    ("mail_send", &["outbox"]),
];

#[test]
fn pure_files_hold_no_async_clock_randomness_or_io() {
    for entry in PURE {
        for path in files(&source().join(entry)) {
            for (number, line) in code_lines(&path) {
                for word in IMPURE {
                    assert!(
                        !line.contains(word),
                        "{}:{number} is pure but has `{word}`: {line}",
                        path.display()
                    );
                }
            }
        }
    }
}

#[test]
fn each_library_stays_in_its_module() {
    for path in files(&source()) {
        let relative = path.strip_prefix(source()).unwrap().to_string_lossy().into_owned();
        for (library, places) in CONFINED {
            if places.iter().any(|place| relative.starts_with(place)) {
                continue;
            }
            for (number, line) in code_lines(&path) {
                assert!(
                    !line.contains(&format!("{library}::")),
                    "{relative}:{number} names {library}: {line}"
                );
            }
        }
    }
}

#[test]
fn every_file_says_at_its_top_what_it_is() {
    for path in files(&source()) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no contract at its top", path.display());
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The Rust files at or below a path; none where it does not exist.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.flat_map(|entry| files(&entry.unwrap().path())).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found
}

/// Lines of code before the tests at the bottom, without comments, numbered from 1. `filing/rules.rs` is all test.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    if path.ends_with("filing/rules.rs") {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .collect()
}
