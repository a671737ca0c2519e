//! ARC chains of our own making.

use aws_lc_rs::digest::{SHA256, digest};

use super::{BODY, FROM_GOOD, World, base64};
use crate::auth::{Arc, AuthResult};

/// Seals the message once more, as `domain`, saying `results`.
fn seal(world: &World, raw: &str, instance: usize, domain: &str, results: &str) -> String {
    let cv = if instance == 1 { "none" } else { "pass" };
    seal_with(world, raw, instance, domain, results, cv)
}

fn seal_with(world: &World, raw: &str, instance: usize, domain: &str, results: &str, cv: &str) -> String {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    let hash = base64(digest(&SHA256, body.as_bytes()).as_ref());
    let results = format!("ARC-Authentication-Results: i={instance}; {domain}; {results}\r\n");
    let tags = format!("i={instance}; a=ed25519-sha256; c=simple/simple; d={domain}; s=k; h=from; bh={hash}");
    let message = world.sign_field("ARC-Message-Signature", &tags, FROM_GOOD);

    // Relaxed: of each earlier set and of this one results, message signature, seal.
    let earlier = head.split_inclusive("\r\n").filter(|line| line.starts_with("ARC-"));
    let mut sets: Vec<String> = Vec::new();
    for chunk in earlier.map(relaxed).collect::<Vec<_>>().chunks(3) {
        sets.insert(0, [&chunk[1], &chunk[2], &chunk[0]].map(String::as_str).concat());
    }
    let before = format!("{}{}{}", sets.concat(), relaxed(&results), relaxed(&message));
    let tags = format!("i={instance}; a=ed25519-sha256; cv={cv}; d={domain}; s=k");
    let seal = world.sign_field_relaxed("ARC-Seal", &tags, &before);
    format!("{seal}{results}{message}{raw}")
}

/// The fields of these tests have single spaces and no folds.
fn relaxed(field: &str) -> String {
    let (name, value) = field.split_once(": ").unwrap();
    format!("{}:{value}", name.to_lowercase())
}

impl World {
    fn sign_field_relaxed(&self, name: &str, tags: &str, before: &str) -> String {
        let unsigned = format!("{}:{tags}; b=", name.to_lowercase());
        let hash = digest(&SHA256, format!("{before}{unsigned}").as_bytes());
        format!("{name}: {tags}; b={}\r\n", base64(self.key.sign(hash.as_ref()).as_ref()))
    }

    async fn arc(&self, raw: &str) -> Arc {
        self.verify("ana@good.test", raw).await.arc
    }
}

fn chain(world: &World, count: usize) -> String {
    let mut raw = format!("{FROM_GOOD}\r\n{BODY}");
    for instance in 1..=count {
        let domain = if instance % 2 == 0 { "evil.test" } else { "good.test" };
        raw = seal(world, &raw, instance, domain, "spf=fail; dmarc=pass (p=reject) header.from=good.test");
    }
    raw
}

#[tokio::test]
async fn a_chain_that_verifies_names_its_last_sealer_and_what_he_attests() {
    let world = World::new().await;
    for (count, sealer) in [(1, "good.test"), (2, "evil.test"), (3, "good.test")] {
        let arc = world.arc(&chain(&world, count)).await;
        let expected =
            Arc { result: AuthResult::Pass, last_sealer: Some(sealer.to_owned()), attests_dmarc_pass: true };
        assert_eq!(arc, expected, "{count}");
    }
    let raw = format!("{FROM_GOOD}\r\n{BODY}");
    for (results, attests) in [
        ("dmarc=pass (p=reject) header.from=good.test", true),
        ("dmarc=pass action=none header.from=\"Good.test\"", true),
        ("dmarc=pass header.from=other.test", false),
        ("dmarc=pass header.from=good.test; dmarc=pass header.from=other.test", false),
        ("dmarc=pass header.from=sub.good.test", false),
        ("dmarc=pass", false),
        ("spf=pass header.from=good.test; dmarc=pass (p=reject)", false),
    ] {
        let sealed = seal(&world, &raw, 1, "good.test", results);
        assert_eq!(world.arc(&sealed).await.attests_dmarc_pass, attests, "{results}");
    }
    let lied = seal(&world, &raw, 1, "good.test", "dmarc=fail reason=\"; dmarc=pass\"");
    assert!(!world.arc(&lied).await.attests_dmarc_pass);
    assert_eq!(world.arc(&raw).await.result, AuthResult::None);
}

#[tokio::test]
async fn e15_a_chain_with_a_fault_anywhere_fails() {
    let world = World::new().await;
    let good = chain(&world, 2);
    for (from, to) in [
        ("One line", "Another line"),
        ("ana@good.test", "bea@good.test"),
        ("cv=pass", "cv=fail"),
        ("cv=none", "cv=pass"),
        ("i=2; evil.test; spf=fail", "i=2; evil.test; spf=pass"),
        ("i=1; good.test; spf=fail", "i=1; good.test; spf=pass"),
        ("ARC-Authentication-Results: i=1", "X-Results: i=1"),
        ("ARC-Authentication-Results: i=1", "ARC-Authentication-Results: i=2"),
        ("ARC-Seal: i=2", "ARC-Seal: i=3"),
    ] {
        assert!(good.contains(from), "{from}");
        assert_eq!(world.arc(&good.replace(from, to)).await.result, AuthResult::Fail, "{from} → {to}");
    }
    let repeated = good.replacen("ARC-Authentication-Results: i=1; x\r\n", "", 1);
    let repeated = format!("ARC-Authentication-Results: i=1; x\r\n{repeated}");
    assert_eq!(world.arc(&repeated).await.result, AuthResult::Fail);
}

#[tokio::test]
async fn e15_a_sealer_who_found_the_chain_broken_ends_it() {
    let world = World::new().await;
    let one = chain(&world, 1);
    for cv in ["fail", "none", "odd"] {
        let sealed = seal_with(&world, &one, 2, "evil.test", "dmarc=pass", cv);
        assert_eq!(world.arc(&sealed).await.result, AuthResult::Fail, "{cv}");
    }
    let first = seal_with(&world, &format!("{FROM_GOOD}\r\n{BODY}"), 1, "good.test", "dmarc=pass", "pass");
    assert_eq!(world.arc(&first).await.result, AuthResult::Fail);
}

#[tokio::test]
async fn e15_fifty_sets_are_taken_and_one_more_is_not() {
    let world = World::new().await;
    assert_eq!(world.arc(&chain(&world, 50)).await.result, AuthResult::Pass);
    assert_eq!(world.arc(&chain(&world, 51)).await.result, AuthResult::Fail);
}

#[tokio::test]
async fn a_key_that_could_not_be_fetched_is_a_temperror_and_one_that_is_missing_a_fail() {
    let world = World::with(|zone| zone.servfail("k._domainkey.broken.test").unwrap()).await;
    let raw = format!("{FROM_GOOD}\r\n{BODY}");
    let broken = seal(&world, &raw, 1, "broken.test", "dmarc=pass");
    assert_eq!(world.arc(&broken).await.result, AuthResult::TempError);
    let absent = seal(&world, &raw, 1, "absent.test", "dmarc=pass");
    assert_eq!(world.arc(&absent).await.result, AuthResult::Fail);
}
