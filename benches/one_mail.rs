//! What one mail of 10 KB costs, part by part, without sockets: `cargo bench --bench one_mail -- [--mails N]
//! [--group N] [--part parse|examine|file]`.
//!
//! `parse` reads the message, `examine` authenticates it too (DNS answers are warm), `file` is the whole way from the
//! last byte of DATA to the answer, with groups of N that arrive together. Prints the processor's time a mail. Its use
//! is to count instructions, which other work on the machine does not change: benches/README.md has the commands.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where it fails")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "support/mails.rs"]
mod mails;
#[path = "../tests/support/store_world.rs"]
mod store_world;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mails::{CONTACTS, HELO, MAIL_FROM, cpu_of, signed_mails};
use store_world::{World, client, served};
use syncmx::address::{EmailAddress, Mailbox};
use syncmx::auth::Authenticator;
use syncmx::cli::demo::practice;
use syncmx::config;
use syncmx::intake::{Intake, SubjectParts, examine};
use syncmx::message;
use syncmx::smtp::{Body, Client, Envelope, ForwardPath, Handler, Received, Recipient};
use syncmx::zone::{Zone, ZoneServer};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (mut mails, mut group, mut part) = (2000, 32, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--mails" => mails = arguments.next().unwrap().parse().unwrap(),
            "--group" => group = arguments.next().unwrap().parse().unwrap(),
            "--part" => part = arguments.next(),
            _ => {}
        }
    }
    let is_wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let zone = ZoneServer::start(Zone::parse(practice::ZONE).unwrap()).await.unwrap();
    let dns = config::Dns { servers: vec![zone.addr()], timeout: Duration::from_secs(5) };
    let authenticator = Authenticator::new(&dns, "mx.example.test").unwrap();
    let raws: Vec<Bytes> =
        signed_mails(0, mails + CONTACTS, OCTETS).unwrap().into_iter().map(Bytes::from).collect();
    let (first, raws) = raws.split_at(CONTACTS);
    if is_wanted("parse") {
        let before = cpu();
        for raw in raws {
            black_box(message::parse(raw).unwrap());
        }
        report("parse", cpu() - before, mails);
    }
    if is_wanted("examine") {
        let subject = subject();
        let before = cpu();
        for raw in raws {
            black_box(
                examine(&authenticator, &subject, &Arc::new(Received::from(raw.to_vec()))).await.unwrap(),
            );
        }
        report("examine", cpu() - before, mails);
    }
    if is_wanted("file") {
        let world = world().await;
        let intake = Intake::new(world.store.clone(), authenticator, served(), "mx.example.test".to_owned());
        // The first mails make the contacts.
        file_all(&intake, &world.sync_mailbox(), first, group).await;
        let before = cpu();
        file_all(&intake, &world.sync_mailbox(), raws, group).await;
        report("file", cpu() - before, mails);
        world.store.close().await;
    }
}

async fn world() -> World {
    let mut world = World::new().await;
    world.run(r#"UPDATE accounts SET settings = '{"daily_limit":100000000}' WHERE name = 'Praxis'"#).await;
    let identity = "UPDATE user_emails SET email_key = 'lena.albrecht@praxis-morgenrot.test', \
                    address = 'lena.albrecht@praxis-morgenrot.test'";
    world.run(identity).await;
    world
}

async fn file_all(intake: &Intake, mailbox: &Mailbox, raws: &[Bytes], group: usize) {
    for group in raws.chunks(group) {
        let filing =
            group.iter().map(|raw| intake.message(envelope(mailbox, raw.len()), Body::from(raw.to_vec())));
        for reply in futures_util::future::join_all(filing).await {
            assert_eq!(reply.code, 250, "{reply:?}");
        }
    }
}

fn envelope(mailbox: &Mailbox, octets: usize) -> Envelope {
    let path = ForwardPath::Address(EmailAddress::parse("drweber-0123456789ab@sync.example.test").unwrap());
    Envelope {
        client: Client { ip: CLIENT.into(), helo: HELO.to_owned(), ..client() },
        reverse_path: EmailAddress::parse(MAIL_FROM),
        recipients: vec![Recipient { path, mailbox: mailbox.clone() }],
        smtputf8: false,
        requiretls: false,
        defect: None,
        received_octets: octets as u64,
    }
}

fn subject() -> SubjectParts {
    SubjectParts {
        client_ip: CLIENT.into(),
        helo: HELO.to_owned(),
        mail_from: EmailAddress::parse(MAIL_FROM),
        opens_journals: true,
        is_for_postmaster: false,
    }
}

fn cpu() -> Duration {
    cpu_of("self").unwrap()
}

fn report(part: &str, spent: Duration, mails: usize) {
    println!("{part}: {} us a mail", spent.as_micros() / mails as u128);
}

const OCTETS: usize = 10 * 1024;
const CLIENT: [u8; 4] = [127, 0, 0, 20];
