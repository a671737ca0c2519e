//! SMTP.md S11: answers that are larger than anybody needs.

use std::time::Duration;

use super::{BODY, FROM_GOOD, World, key_record};
use crate::address::EmailAddress;
use crate::auth::dns::MAX_QUERIES;
use crate::auth::{AuthResult, Authenticator, Subject, Verdict};
use crate::config;
use crate::zone::Zone;

/// What is made of a mail from this sender and client, and how many questions the DNS was asked for it.
async fn judged(world: &World, sender: &str, ip: [u8; 4], raw: &str) -> (Verdict, u64) {
    // An answer of 64 KiB comes over TCP, and a busy machine takes its time.
    let dns = config::Dns { servers: vec![world.server.addr()], timeout: Duration::from_secs(15) };
    let authenticator = Authenticator::new(&dns, "mx.example.test").unwrap();
    let (before, mail_from) = (world.server.query_count(), EmailAddress::parse(sender));
    let subject = Subject {
        client_ip: ip.into(),
        helo: "mail.good.test",
        mail_from: mail_from.as_ref(),
        from: mail_from.as_ref(),
        original: None,
    };
    let verdict = authenticator.verify(subject, raw.as_bytes()).await;
    let asked = world.server.query_count() - before;
    // A truncated answer is asked for once more over TCP.
    assert!(asked <= 2 * u64::try_from(MAX_QUERIES).unwrap(), "{sender}: {asked} questions");
    (verdict, asked)
}

#[tokio::test]
async fn s11_a_text_of_60_kib_is_read_and_takes_nothing_from_what_stands_beside_it() {
    let world = World::with(|zone| {
        zone.add("big.test", "TXT", &"x".repeat(60_000)).unwrap();
        zone.add("big.test", "TXT", "v=spf1 ip4:203.0.113.1 -all").unwrap();
        zone.add("long.test", "TXT", &format!("v=spf1 {}-all", "ip4:192.0.2.1 ".repeat(4_000))).unwrap();
        let key = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let record = key_record(&key, &format!("n={}; ", "y".repeat(50_000)));
        zone.add("k._domainkey.big.test", "TXT", &record).unwrap();
    })
    .await;
    let signature = world.sign("d=big.test", &["from"], FROM_GOOD, BODY);
    let raw = format!("{signature}{FROM_GOOD}\r\n{BODY}");
    let (verdict, _) = judged(&world, "a@big.test", [203, 0, 113, 1], &raw).await;
    assert_eq!((verdict.spf.result, verdict.dkim[0].result), (AuthResult::Pass, AuthResult::Pass));
    let (verdict, _) = judged(&world, "a@long.test", [203, 0, 113, 1], "\r\n").await;
    assert_eq!(verdict.spf.result, AuthResult::Fail, "four thousand networks, and it is in none");
}

#[tokio::test]
async fn s11_of_two_hundred_texts_the_first_hundred_are_looked_at() {
    let world = World::with(|zone| {
        for n in 0..200 {
            zone.add("many.test", "TXT", &format!("{n:03} is no policy")).unwrap();
        }
        zone.add("many.test", "TXT", "v=spf1 +all").unwrap();
    })
    .await;
    let (verdict, _) = judged(&world, "a@many.test", [203, 0, 113, 1], "\r\n").await;
    assert_eq!(verdict.spf.result, AuthResult::None);
}

#[tokio::test]
async fn s11_of_five_hundred_mail_hosts_none_is_asked_for_and_of_two_hundred_names_two() {
    let world = World::with(|zone| {
        zone.add("mx.test", "TXT", "v=spf1 mx -all").unwrap();
        for n in 0..500 {
            zone.add("mx.test", "MX", &format!("{n} h{n}.mx.test")).unwrap();
        }
        for n in 0..200 {
            zone.add("9.113.0.203.in-addr.arpa", "PTR", &format!("n{n}.names.test.")).unwrap();
        }
    })
    .await;
    let (verdict, asked) = judged(&world, "a@mx.test", [203, 0, 113, 9], "\r\n").await;
    assert_eq!((verdict.spf.result, verdict.iprev), (AuthResult::PermError, AuthResult::Fail));
    assert!(!verdict.takes_no_mail);
    assert!(asked <= 25, "{asked}");
}

#[tokio::test]
async fn s11_a_chain_of_twenty_aliases_ends_somewhere() {
    let world = World::with(|zone| {
        zone.add("chain.test", "TXT", "v=spf1 a:c0.chain.test -all").unwrap();
        for n in 0..20 {
            zone.add(&format!("c{n}.chain.test"), "CNAME", &format!("c{}.chain.test.", n + 1)).unwrap();
        }
        zone.add("c20.chain.test", "A", "203.0.113.1").unwrap();
        zone.add("loop.test", "TXT", "v=spf1 a:l0.loop.test -all").unwrap();
        zone.add("l0.loop.test", "CNAME", "l1.loop.test.").unwrap();
        zone.add("l1.loop.test", "CNAME", "l0.loop.test.").unwrap();
    })
    .await;
    // The resolver follows it as far as it likes; a circle leads to no address.
    for (sender, expected) in [("a@chain.test", AuthResult::Pass), ("a@loop.test", AuthResult::Fail)] {
        let (verdict, asked) = judged(&world, sender, [203, 0, 113, 1], "\r\n").await;
        assert_eq!(verdict.spf.result, expected, "{sender}");
        assert!(asked <= 30, "{sender}: {asked}");
    }
}

#[tokio::test]
async fn s11_what_holds_for_no_time_is_asked_once_for_each_message_and_kept_for_none() {
    let world = World::with(|zone| {
        *zone =
            Zone::parse("$TTL 0\nzero.test. TXT \"v=spf1 a a:zero.test -all\"\nzero.test. A 203.0.113.1\n")
                .unwrap();
    })
    .await;
    let dns = config::Dns { servers: vec![world.server.addr()], timeout: Duration::from_secs(15) };
    let authenticator = Authenticator::new(&dns, "mx.example.test").unwrap();
    let mut asked = Vec::new();
    for _ in 0..2 {
        let before = world.server.query_count();
        let spf = authenticator.check_spf([203, 0, 113, 1].into(), "h.test", "a@zero.test").await;
        assert_eq!(spf.result, AuthResult::Pass);
        asked.push(world.server.query_count() - before);
    }
    assert_eq!(asked, [2, 2], "the policy and the address, each time");
}
