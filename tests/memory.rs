//! X12: what reading a large message takes of memory. Alone in its process, whose peak the kernel tells.

#[path = "support/memory_of.rs"]
mod memory_of;

use memory_of::peak_kib;
use syncmx::message;

/// X12 allows 64 MiB above idle, the message itself included.
const LIMIT_KIB: u64 = 64 * 1024;
const OCTETS: usize = 30_000_000;

#[test]
fn x12_a_body_of_one_line_of_30_mb_is_read_within_its_memory() {
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
}
