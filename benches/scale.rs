//! How reads and filings bear a growing store: `cargo bench --bench scale [--postgres] [sizes]`, such as
//! `10000 100000 1000000`.
//!
//! One account with 50,000 contacts, filled through the store's own writer with small mails of different words; at each
//! size the same questions are asked one after another, on the real SQLite file in a temporary folder (`TMPDIR` picks
//! the disk), or on a PostgreSQL that is started for it. Prints p50, p99 and the longest of each. An index that is
//! missing shows as a row that grows with the size.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "numbers of mails are small, and which word comes out does not matter"
)]

#[path = "../tests/support/store_world.rs"]
mod store_world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use store_world::{Engine, USER, World, email, submission};
use syncmx::address::EmailAddress;
use syncmx::filing::Outcome;
use syncmx::id::ContactId;
use syncmx::store::Submission;
use syncmx::store::directory::ContactFilter;
use syncmx::store::search::{Piece, SearchQuery};
use syncmx::store::views::{DeliveryFilter, SearchFilter, Slice};
use syncmx::time::Timestamp;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_postgres = arguments.iter().any(|argument| argument == "--postgres");
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000];
    }
    let engine = if is_postgres { Engine::Postgres } else { Engine::Sqlite };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run(engine, &sizes));
}

async fn run(engine: Engine, sizes: &[usize]) {
    let mut world = World::on(engine).await;
    world.run(r#"UPDATE accounts SET settings = '{"daily_limit":100000000}' WHERE name = 'Praxis'"#).await;
    let mut filed = 0;
    for size in sizes {
        let started = Instant::now();
        fill(&world, filed, *size).await;
        let filing = started.elapsed();
        let started = Instant::now();
        while world.store.index_some(&mut None, Piece::WHOLE).await.unwrap() {}
        let [filings, indexed] =
            [filing, started.elapsed()].map(|took| (size - filed) as f64 / took.as_secs_f64());
        if engine == Engine::Postgres {
            world.run("ANALYZE").await;
        }
        println!("{size} messages ({filings:.0} filings/s on the way, {indexed:.0} indexed/s behind them)");
        filed = *size + ask(&world, *size).await;
    }
}

/// From many sessions at once.
async fn fill(world: &World, from: usize, to: usize) {
    let next = Arc::new(AtomicUsize::new(from));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..SESSIONS {
        let (next, store, mailbox) = (next.clone(), world.store.clone(), world.sync_mailbox());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= to {
                    return;
                }
                let filed = store.file(mail(n, mailbox.clone())).await.unwrap();
                assert!(filed.decided.iter().all(|(_, decision)| decision.outcome() == Outcome::Filed));
            }
        });
    }
    tasks.join_all().await;
}

/// Each question some hundred times. Returns how many mails it has filed.
async fn ask(world: &World, size: usize) -> usize {
    let (store, account) = (&world.store, world.account);
    let contacts = contacts(world, size.min(CONTACTS)).await;
    let contact = |n: usize| contacts[spread(n) % contacts.len()];
    let page = Slice::first(50);
    measure("timeline", async |n| {
        store.timeline(account, contact(n), page).await.unwrap();
    })
    .await;
    measure("deliveries to an address", async |n| {
        let to = EmailAddress::parse(&address(spread(n) % size)).unwrap();
        let filter = DeliveryFilter { to: Some(to), ..DeliveryFilter::default() };
        store.deliveries(account, &filter, page).await.unwrap();
    })
    .await;
    measure("deliveries of a contact", async |n| {
        let filter = DeliveryFilter { contact: Some(contact(n)), ..DeliveryFilter::default() };
        store.deliveries(account, &filter, page).await.unwrap();
    })
    .await;
    let of = |contact| SearchFilter { contact, conversation: None };
    for (name, query, with_contact) in [
        ("search, one message has the word", "only", false),
        ("search, every message has the word", "praxis", false),
        ("search, a frequent and a rare word", "praxis w19000", false),
        ("search, a phrase of frequent words", "\"w1 w2\"", false),
        ("search, beginning of a word", "w1234*", false),
        ("search, on a contact's record", "praxis", true),
    ] {
        measure(name, async |n| {
            let text = if query == "only" { format!("only{}", spread(n) % size) } else { query.to_owned() };
            let filter = of(with_contact.then(|| contact(n)));
            store.search(account, &SearchQuery::parse(&text).unwrap(), filter, page).await.unwrap();
        })
        .await;
    }
    measure("filing, one alone", async |n| {
        store.file(mail(size + n, world.sync_mailbox())).await.unwrap();
    })
    .await;
    ROUNDS
}

async fn contacts(world: &World, wanted: usize) -> Vec<ContactId> {
    let mut found = Vec::new();
    for n in (0..wanted).step_by(wanted.div_ceil(500)) {
        let filter = ContactFilter { email: Some(address(n)), ..ContactFilter::default() };
        let page = world.store.contacts(world.account, &filter, Slice::first(1)).await.unwrap();
        found.extend(page.items.into_iter().map(|contact| contact.id));
    }
    found
}

async fn measure(name: &str, question: impl AsyncFn(usize)) {
    let mut took: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for n in 0..ROUNDS {
        let asked = Instant::now();
        question(n).await;
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took[(ROUNDS * share / 100).min(ROUNDS - 1)];
    println!("  {name:<40} p50 {:>10.1?}  p99 {:>10.1?}  longest {:>10.1?}", at(50), at(99), at(100));
}

fn mail(n: usize, mailbox: syncmx::address::Mailbox) -> Submission {
    let mut mail = email(&format!("{n}@praxis.test"), USER, &[&address(n)]);
    let words = (0..WORDS).map(|place| {
        // Word 1 stands in every other place or so, word 20,000 hardly anywhere.
        let share = (spread(n * WORDS + place) % 1_000_000) as f64 / 1_000_000.0;
        format!("w{}", (VOCABULARY.powf(share)) as usize)
    });
    mail.reply.new_text = format!("praxis only{n} {}", words.collect::<Vec<_>>().join(" ")).into();
    mail.text.clone_from(&mail.reply.new_text);
    mail.date = Some(Timestamp::from_millis(1_700_000_000_000 + n as i64 * 10_000));
    let raw = format!("Subject: {n}\r\n\r\n{}\r\n", mail.text);
    submission(mail, vec![mailbox], raw.into_bytes())
}

fn address(n: usize) -> String {
    format!("contact{}@patient.test", n % CONTACTS)
}

/// The same number each time, and no neighbour of the one before.
fn spread(n: usize) -> usize {
    (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) as usize >> 8
}

const CONTACTS: usize = 50_000;
const SESSIONS: usize = 256;
const ROUNDS: usize = 300;
/// Of a small mail.
const WORDS: usize = 40;
const VOCABULARY: f64 = 20_000.0;
