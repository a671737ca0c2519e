//! X12, M10: what reading a large message takes of memory: alone in a process, whose peak the kernel tells.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "support/bombs.rs"]
mod bombs;
#[path = "support/memory_of.rs"]
mod memory_of;

use std::process::Command;

use memory_of::peak_kib;
use syncmx::message;

/// X12 allows 64 MiB above idle, the message itself included.
const LIMIT_KIB: u64 = 64 * 1024;
const OCTETS: usize = 30_000_000;
/// An unoptimised build is thirty times slower.
const BOMB_OCTETS: usize = if cfg!(debug_assertions) { 6_000_000 } else { OCTETS };
/// What a message takes of memory beside itself, in its own sizes: three octets for each of a single-byte charset,
/// before and behind the mending of line ends.
const TIMES: usize = 7;

#[test]
fn x12_a_body_of_one_line_of_30_mb_is_read_within_its_memory() {
    let mut raw = b"From: a@b.test\r\n\r\n".to_vec();
    raw.resize(raw.len() + OCTETS, b'y');
    raw.extend_from_slice(b"\r\n");
    if let Some(grown) = grown_by("one line", &raw) {
        assert!(grown + u64::try_from(raw.len() / 1024).unwrap() < LIMIT_KIB, "{grown} KiB");
    }
}

#[test]
fn m10_no_shape_of_a_message_takes_more_than_a_few_times_its_size() {
    let limit = u64::try_from(BOMB_OCTETS * TIMES / 1024).unwrap();
    let over: Vec<_> = bombs::all(BOMB_OCTETS)
        .into_iter()
        .filter_map(|bomb| {
            let head = format!("From: a@b.test\r\nSubject: Fwd: x\r\n{}\r\n\r\n", bomb.mime);
            grown_by(bomb.name, &[head.as_bytes(), &bomb.body].concat()).map(|grown| (bomb.name, grown))
        })
        .filter(|(_, grown)| *grown > limit)
        .collect();
    assert!(over.is_empty(), "over {limit} KiB: {over:?}");
}

/// What reading this takes at its peak, in KiB, in a process of its own; none where nothing tells.
fn grown_by(name: &str, raw: &[u8]) -> Option<u64> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail");
    std::fs::write(&path, raw).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "alone", "--nocapture"]).env(MAIL, &path);
    let output = child.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{name}: {said}");
    let grown = said.lines().find_map(|line| line.split_once(GROWN)).map(|(_, grown)| grown.parse().unwrap());
    match grown {
        Some(grown) => println!("{name}: {grown} KiB for {} KiB", raw.len() / 1024),
        None => println!("skipped: no /proc"),
    }
    grown
}

/// Reads one mail, in the process that another test has started for it.
#[test]
fn alone() {
    let Some(path) = std::env::var_os(MAIL) else { return };
    let raw = std::fs::read(path).unwrap();
    let this = std::process::id();
    let Some(before) = peak_kib(this) else { return };
    match message::parse(&raw) {
        Ok(email) => assert!(email.from.address().is_some()),
        // Its levels are within the limits, what they hold is not.
        Err(limit) => assert!(limit.what.starts_with("octets of messages inside messages"), "{limit}"),
    }
    println!("\n{GROWN}{}", peak_kib(this).unwrap() - before);
}

/// The file that is to be read.
const MAIL: &str = "SYNCMX_TEST_MAIL";
const GROWN: &str = "grown by KiB: ";
