//! X12, M10: what reading a large message takes of memory. Alone in its process, whose peak the kernel tells.

#[path = "support/bombs.rs"]
mod bombs;
#[path = "support/memory_of.rs"]
mod memory_of;

use std::time::Instant;

use memory_of::{peak_kib, resident_kib};
use syncmx::message;

/// X12 allows 64 MiB above idle, the message itself included.
const LIMIT_KIB: u64 = 64 * 1024;
const OCTETS: usize = 30_000_000;
/// An unoptimised build is thirty times slower.
const BOMB_OCTETS: usize = if cfg!(debug_assertions) { 6_000_000 } else { OCTETS };
/// What a message takes of memory beside itself, in its own sizes: three octets for each of a single-byte charset,
/// before and behind the mending of line ends.
const TIMES: usize = 7;

/// One test: the peak is that of the process.
#[test]
fn x12_m10_no_message_takes_more_than_its_share_of_memory() {
    let this = std::process::id();
    let Some(before) = peak_kib(this) else {
        println!("skipped: no /proc");
        return;
    };
    let mut raw = b"From: a@b.test\r\n\r\n".to_vec();
    raw.reserve_exact(OCTETS + 2);
    raw.resize(raw.len() + OCTETS, b'y');
    raw.extend_from_slice(b"\r\n");
    let email = message::parse(&raw).unwrap();
    assert_eq!((email.text.len(), email.reply.new_text.len()), (OCTETS + 1, OCTETS));
    let grown = peak_kib(this).unwrap() - before;
    println!("{grown} KiB at the peak for a message of {} KiB", raw.len() / 1024);
    assert!(grown < LIMIT_KIB, "{grown} KiB");
    drop((raw, email));

    let limit = u64::try_from(BOMB_OCTETS * TIMES / 1024).unwrap();
    let mut over = Vec::new();
    for bomb in bombs::all(BOMB_OCTETS) {
        let raw = [b"From: a@b.test\r\nSubject: Fwd: x\r\n", bomb.mime.as_bytes(), b"\r\n\r\n", &bomb.body]
            .concat();
        // The peak begins anew from what is resident.
        if std::fs::write("/proc/self/clear_refs", "5").is_err() {
            println!("skipped: the peak cannot be reset here");
            return;
        }
        let (before, started) = (resident_kib(this).unwrap(), Instant::now());
        let read = message::parse(&raw);
        let grown = peak_kib(this).unwrap().saturating_sub(before);
        println!("{}: {grown} KiB for {} KiB, {:?}", bomb.name, raw.len() / 1024, started.elapsed());
        // Twenty levels are within the limits, what they hold is not.
        assert!(read.is_ok() || bomb.name == "messages inside messages", "{}: {:?}", bomb.name, read.err());
        if grown > limit {
            over.push((bomb.name, grown));
        }
    }
    assert!(over.is_empty(), "over {limit} KiB: {over:?}");
}
