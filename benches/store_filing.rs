//! How many filings a second the store takes: `cargo bench --bench store_filing [submitters [mails]]`.
//!
//! Submitters at once, each filing different 10 KB mails to 1,000 contacts one after another, durable before the
//! answer, on the real SQLite file in a temporary folder (`TMPDIR` picks the disk). Mail is text that packs to about
//! two thirds. Prints filings a second, the size of groups, latencies, and what a filing takes on disk.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../tests/support/store_world.rs"]
mod store_world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use store_world::{USER, World, email, submission};
use syncmx::filing::Outcome;
use syncmx::store::Submission;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let submitters = arguments.next().unwrap_or(64);
    let mails = arguments.next().unwrap_or(40_000);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run(submitters, mails));
}

async fn run(submitters: usize, mails: usize) {
    let mut world = World::new().await;
    world.run(r#"UPDATE accounts SET settings = '{"daily_limit":100000000}' WHERE name = 'Praxis'"#).await;
    // The first mails make the contacts.
    let first = file_all(&world, submitters, 0, CONTACTS).await;
    println!("{CONTACTS} mails that make a contact each: {:.0} filings/s", first.per_second);
    let before = world.store.batches();
    let figures = file_all(&world, submitters, CONTACTS, mails).await;
    let after = world.store.batches();
    let groups = after.committed - before.committed;
    println!(
        "{mails} mails of 10 KB from {submitters} submitters: {:.0} filings/s, {groups} groups of {:.1}",
        figures.per_second,
        (after.jobs - before.jobs) as f64 / groups as f64,
    );
    println!("latency: p50 {:?}, p99 {:?}, longest {:?}", figures.p50, figures.p99, figures.longest);
    world.store.close().await;
    let octets: u64 = ["syncmx.db", "syncmx.db-wal"]
        .iter()
        .filter_map(|name| std::fs::metadata(world.folder.path().join(name)).ok())
        .map(|file| file.len())
        .sum();
    println!("on disk: {} octets a mail", octets / (mails + CONTACTS) as u64);
    assert_eq!(usize::try_from(world.count("SELECT count(*) FROM messages").await), Ok(mails + CONTACTS));
}

struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    longest: Duration,
}

async fn file_all(world: &World, submitters: usize, from: usize, mails: usize) -> Figures {
    let next = Arc::new(AtomicUsize::new(from));
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..submitters {
        let (next, store) = (next.clone(), world.store.clone());
        let mailbox = world.sync_mailbox();
        tasks.spawn(async move {
            let mut took = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= from + mails {
                    return took;
                }
                let submission = mail(n, mailbox.clone());
                let asked = Instant::now();
                let filed = store.file(submission).await.unwrap();
                took.push(asked.elapsed());
                assert_eq!(filed.decided[0].1.outcome(), Outcome::Filed);
            }
        });
    }
    let mut took = tasks.join_all().await.concat();
    let per_second = mails as f64 / started.elapsed().as_secs_f64();
    took.sort_unstable();
    Figures { per_second, p50: took[mails / 2], p99: took[mails * 99 / 100], longest: took[mails - 1] }
}

fn mail(n: usize, mailbox: syncmx::address::Mailbox) -> Submission {
    let to = format!("patient{}@patient.test", n % CONTACTS);
    let mut mail = email(&format!("{n}.0123456789abcdef@praxis.test"), USER, &[&to]);
    mail.digest[..8].copy_from_slice(&(n as u64).to_be_bytes());
    mail.text = text(n as u64, 2000).into();
    mail.reply.new_text = mail.text.clone();
    let raw = format!("Subject: mail {n}\r\n\r\n{}", text(n as u64, 10_000)).into_bytes();
    submission(mail, vec![mailbox], raw)
}

/// Different for each mail, and about as dense as mail is.
fn text(seed: u64, octets: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(octets + 8);
    while text.len() < octets {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for shift in [0, 6, 12, 18, 24, 30] {
            text.push(char::from(LETTERS[usize::try_from((state >> shift) & 31).unwrap()]));
        }
    }
    text
}

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz ,.een";
const CONTACTS: usize = 1000;
