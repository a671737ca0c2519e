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

/// The rules of filing.
const RULES: [&str; 56] = [
    "1", "2", "3", "4", "5", "10", "11", "12", "13", "14", "15", "20", "21", "22", "23", "24", "25", "26",
    "27", "27a", "28", "29", "30", "31", "32", "33", "34", "35", "36", "39", "40", "41", "42", "43", "45",
    "46", "47", "48", "49", "50", "51", "52", "53", "54", "55", "56", "57", "60", "61", "62", "63", "64",
    "70", "70a", "71", "72",
];

#[test]
fn every_rule_of_filing_has_a_test_that_begins_with_its_number() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut named = Vec::new();
    for path in files(&source()).into_iter().chain(files(&tests)) {
        let text = fs::read_to_string(path).unwrap();
        for name in text.split("fn r").skip(1).filter_map(|behind| behind.split('(').next()) {
            // `r5_r26_an_internal_mail_…` is a test of both.
            let numbers = std::iter::once(name).chain(name.split("_r").skip(1));
            named.extend(
                numbers.filter_map(|n| n.split('_').next()).map(|n| n.trim_start_matches('0').to_owned()),
            );
        }
    }
    let missing: Vec<&str> =
        RULES.into_iter().filter(|rule| !named.iter().any(|named| named == rule)).collect();
    assert!(missing.is_empty(), "no test begins with r{missing:?}");
}

/// The rows of the SMTP front by their letter: what must be answered, what is withstood. From 1 without a gap.
const ROWS: [(char, usize); 7] =
    [('a', 12), ('b', 10), ('c', 23), ('d', 22), ('e', 17), ('m', 22), ('s', 17)];

/// What is measured or tried out, as far as an ordinary test shows it; the rest is in `tests/faults` and `benches`.
const EXPERIMENTS: [usize; 21] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 27, 28];

#[test]
fn every_row_of_the_smtp_front_has_a_test_or_a_dialogue_that_begins_with_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = Vec::new();
    for path in files(&source()).into_iter().chain(files(&root.join("tests"))) {
        let text = fs::read_to_string(path).unwrap();
        for name in text.split("fn ").skip(1).filter_map(|behind| behind.split(['(', '<']).next()) {
            // `r14_e14_a_lookup_…` is a test of both.
            named.extend(name.split('_').take_while(|word| is_row(word)).map(str::to_owned));
        }
    }
    for entry in fs::read_dir(root.join("fixtures/smtp")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        named.extend(name.split('-').next().map(str::to_owned));
    }
    let rows = ROWS.into_iter().flat_map(|(letter, count)| (1..=count).map(move |n| format!("{letter}{n}")));
    let experiments = EXPERIMENTS.into_iter().map(|number| format!("x{number}"));
    let missing: Vec<String> = rows.chain(experiments).filter(|row| !named.contains(row)).collect();
    assert!(missing.is_empty(), "no test begins with {missing:?}");
}

/// A letter and a number.
fn is_row(word: &str) -> bool {
    let number = word.strip_prefix(|c: char| c.is_ascii_lowercase()).unwrap_or_default();
    !number.is_empty() && number.trim_end_matches('a').bytes().all(|octet| octet.is_ascii_digit())
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
