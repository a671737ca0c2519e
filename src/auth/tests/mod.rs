//! The guards of authentication against whole messages, a signer of our own and the zone `fixtures/dns/guards.zone`.
//!
//! The signer shares nothing with the verifier: canonical forms are written out by hand.

mod chains;
mod huge;
mod policies;
mod signatures;

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::{Authenticator, Subject, Verdict};
use crate::address::EmailAddress;
use crate::config;
use crate::zone::{Zone, ZoneServer};

pub(super) const FROM_GOOD: &str = "From: ana@good.test\r\n";
pub(super) const BODY: &str = "One line.\r\n";

/// A verifier, its DNS, and a key that is published as `k._domainkey` of `good.test`, `evil.test` and others.
pub(super) struct World {
    pub server: ZoneServer,
    pub authenticator: Authenticator,
    pub key: Ed25519KeyPair,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Zone)) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut zone = Zone::parse(include_str!("../../../fixtures/dns/guards.zone")).unwrap();
        for domain in
            ["good.test", "sub.good.test", "evil.test", "strict.test", "sub.strict.test", "plain.test"]
        {
            zone.add(&format!("k._domainkey.{domain}"), "TXT", &key_record(&key, "")).unwrap();
        }
        change(&mut zone);
        let server = ZoneServer::start(zone).await.unwrap();
        let dns = config::Dns { servers: vec![server.addr()], timeout: Duration::from_millis(400) };
        let authenticator = Authenticator::new(&dns, "mx.example.test").unwrap();
        Self { server, authenticator, key }
    }

    /// A signature field, `simple/simple`, over the named fields of the head and the body.
    pub(super) fn sign(&self, tags: &str, names: &[&str], head: &str, body: &str) -> String {
        let hash = base64(digest(&SHA256, body.as_bytes()).as_ref());
        let tags = format!("v=1; a=ed25519-sha256; s=k; h={}; bh={hash}; {tags}", names.join(":"));
        self.sign_field("DKIM-Signature", &tags, &covered(names, head))
    }

    /// A field that ends in `b=`, over what comes before it and itself.
    pub(super) fn sign_field(&self, name: &str, tags: &str, before: &str) -> String {
        let field = format!("{name}: {tags}; b=");
        let hash = digest(&SHA256, format!("{before}{field}").as_bytes());
        format!("{field}{}\r\n", base64(self.key.sign(hash.as_ref()).as_ref()))
    }

    /// A mail of `good.test`, signed by it.
    pub(super) fn signed_good(&self) -> String {
        let signature = self.sign("d=good.test", &["from"], FROM_GOOD, BODY);
        format!("{signature}{FROM_GOOD}\r\n{BODY}")
    }

    /// From a stranger's client: SPF never passes for anybody.
    pub(super) async fn verify(&self, from: &str, raw: &str) -> Verdict {
        self.verify_sent(from, "x@unrelated.test", [203, 0, 113, 1], raw).await
    }

    pub(super) async fn verify_sent(&self, from: &str, sender: &str, ip: [u8; 4], raw: &str) -> Verdict {
        let (from, sender) = (EmailAddress::parse(from), EmailAddress::parse(sender));
        let subject = Subject {
            client_ip: ip.into(),
            helo: "mail.good.test",
            mail_from: sender.as_ref(),
            from: from.as_ref(),
            original: None,
        };
        self.authenticator.verify(subject, raw.as_bytes()).await
    }
}

/// The named fields, each with the last one of its name first.
fn covered(names: &[&str], head: &str) -> String {
    let mut lines: Vec<&str> = head.split_inclusive("\r\n").collect();
    let mut covered = String::new();
    for name in names {
        let at = lines.iter().rposition(|line| {
            line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
        });
        if let Some(at) = at {
            covered.push_str(lines.remove(at));
        }
    }
    covered
}

pub(super) fn key_record(key: &Ed25519KeyPair, tags: &str) -> String {
    format!("v=DKIM1; k=ed25519; {tags}p={}", base64(key.public_key().as_ref()))
}

pub(super) fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let sixth = (bits >> (18 - 6 * n) & 63) as usize;
            text.push(if n <= chunk.len() { char::from(ALPHABET[sixth]) } else { '=' });
        }
    }
    text
}

/// Ten names are asked side by side for each message: what waits for one answer must be small.
#[tokio::test]
async fn the_checks_of_a_message_wait_in_little_memory() {
    let world = World::new().await;
    let subject = Subject {
        client_ip: [192, 0, 2, 1].into(),
        helo: "x.test",
        mail_from: None,
        from: None,
        original: None,
    };
    let octets = size_of_val(&world.authenticator.verify(subject, b""));
    assert!(octets <= 48 * 1024, "{octets} octets");
}
