//! Which signatures count.

use super::{BODY, FROM_GOOD, World, base64, key_record};
use crate::address::EmailAddress;
use crate::auth::{AlignedBy, Alignment, AuthResult, Dkim, Original, Subject, Uncovered};

#[track_caller]
fn check(dkim: &[Dkim], result: AuthResult, why: Option<&str>) {
    assert_eq!(dkim.len(), 1, "{dkim:?}");
    assert_eq!((dkim[0].result, dkim[0].why.as_deref()), (result, why));
}

#[tokio::test]
async fn a_signed_mail_passes_and_aligns() {
    let world = World::new().await;
    let verdict = world.verify("ana@good.test", &world.signed_good()).await;
    check(&verdict.dkim, AuthResult::Pass, None);
    assert_eq!(verdict.dkim[0].signed_fields, ["from"]);
    assert_eq!(verdict.dmarc.result, AuthResult::Pass);
    let aligned = Alignment::Aligned { by: AlignedBy::Dkim, domain: "good.test".to_owned() };
    assert_eq!(verdict.alignment, aligned);
}

#[tokio::test]
async fn a_changed_body_or_field_fails() {
    let world = World::new().await;
    let raw = world.signed_good();
    let body = world.verify("ana@good.test", &raw.replace("One", "Two")).await;
    check(&body.dkim, AuthResult::Fail, Some("the body has changed"));
    let field = world.verify("ana@good.test", &raw.replace("ana@", "bea@")).await;
    check(&field.dkim, AuthResult::Fail, Some("the signature does not fit"));
    assert_eq!((field.dmarc.result, field.alignment), (AuthResult::Fail, Alignment::NotAligned));
}

#[tokio::test]
async fn h3_the_verifier_looks_at_ten_signatures_whatever_it_is_given() {
    let world = World::new().await;
    let junk = |n: usize| format!("DKIM-Signature: {n}\r\n");
    let junk = |count: usize| (0..count).map(junk).collect::<String>();
    let verdict = world.verify("ana@good.test", &format!("{}{}", junk(9), world.signed_good())).await;
    assert_eq!((verdict.dkim.len(), verdict.dmarc.result), (10, AuthResult::Pass));
    let verdict = world.verify("ana@good.test", &format!("{}{}", junk(10), world.signed_good())).await;
    assert_eq!((verdict.dkim.len(), verdict.dmarc.result), (10, AuthResult::Fail));
}

#[tokio::test]
async fn h8_h9_a_pass_without_from_or_in_anothers_name_is_none() {
    let world = World::new().await;
    let head = "Subject: x\r\nFrom: ana@good.test\r\n";
    let signature = world.sign("d=good.test", &["subject"], head, BODY);
    let verdict = world.verify("ana@good.test", &format!("{signature}{head}\r\n{BODY}")).await;
    check(&verdict.dkim, AuthResult::PermError, Some("From is not signed"));
    assert_eq!(verdict.dmarc.result, AuthResult::Fail);

    let signature = world.sign("d=evil.test; i=ana@good.test", &["from"], FROM_GOOD, BODY);
    let verdict = world.verify("ana@good.test", &format!("{signature}{FROM_GOOD}\r\n{BODY}")).await;
    check(&verdict.dkim, AuthResult::PermError, Some("i= is outside d="));
    assert_eq!(verdict.alignment, Alignment::NotAligned);
}

#[tokio::test]
async fn h14_m5_a_length_short_of_the_body_counts_for_nothing_and_one_of_all_of_it_counts() {
    let world = World::new().await;
    let signature = world.sign(&format!("d=good.test; l={}", BODY.len()), &["from"], FROM_GOOD, BODY);
    let whole = world.verify("ana@good.test", &format!("{signature}{FROM_GOOD}\r\n{BODY}")).await;
    check(&whole.dkim, AuthResult::Pass, None);
    let appended =
        world.verify("ana@good.test", &format!("{signature}{FROM_GOOD}\r\n{BODY}Pay here.\r\n")).await;
    check(&appended.dkim, AuthResult::Neutral, Some("l= leaves a part of the body unsigned"));
    let signature = world.sign("d=good.test; l=0", &["from"], FROM_GOOD, BODY);
    let none = world.verify("ana@good.test", &format!("{signature}{FROM_GOOD}\r\n{BODY}")).await;
    check(&none.dkim, AuthResult::Neutral, Some("l= leaves a part of the body unsigned"));
    let signature = world.sign(&format!("d=good.test; l={}", BODY.len() + 1), &["from"], FROM_GOOD, BODY);
    let beyond = world.verify("ana@good.test", &format!("{signature}{FROM_GOOD}\r\n{BODY}")).await;
    assert_ne!(beyond.dkim[0].result, AuthResult::Pass, "more than there is: {:?}", beyond.dkim);
    assert_eq!(beyond.alignment, Alignment::NotAligned);
}

#[tokio::test]
async fn e10_a_key_record_limits_what_its_key_is_for() {
    let small = [&[0x30, 0x64, 0x02, 0x5d, 0x00][..], &[0xaa; 92], &[0x02, 0x03, 1, 0, 1]].concat();
    for (tags, expected, why) in [
        ("h=sha1; ", AuthResult::PermError, "the key is not for sha256"),
        ("s=tlsrpt; ", AuthResult::PermError, "the key is not for email"),
        ("t=y; ", AuthResult::Neutral, "the key is for testing"),
        ("t=s; ", AuthResult::PermError, "i= is below d="),
    ] {
        let world = World::with(|zone| {
            let key = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
            zone.add("k._domainkey.other.test", "TXT", &key_record(&key, tags)).unwrap();
        })
        .await;
        let signature = world.sign("d=other.test; i=@a.other.test", &["from"], FROM_GOOD, BODY);
        let verdict = world.verify("ana@good.test", &format!("{signature}{FROM_GOOD}\r\n{BODY}")).await;
        check(&verdict.dkim, expected, Some(why));
    }
    let world = World::with(|zone| {
        zone.add("k._domainkey.revoked.test", "TXT", "v=DKIM1; p=").unwrap();
        zone.add("k._domainkey.small.test", "TXT", &format!("v=DKIM1; p={}", base64(&small))).unwrap();
    })
    .await;
    for (domain, why) in [
        ("revoked.test", "the key is revoked"),
        ("small.test", "the key has fewer than 1024 bits"),
        ("absent.test", "there is no key"),
    ] {
        let signature = world.sign(&format!("d={domain}"), &["from"], FROM_GOOD, BODY);
        let signature = signature.replace("ed25519-sha256", "rsa-sha256");
        let verdict = world.verify("ana@good.test", &format!("{signature}{FROM_GOOD}\r\n{BODY}")).await;
        check(&verdict.dkim, AuthResult::PermError, Some(why));
    }
}

#[tokio::test]
async fn e11_of_two_keys_at_one_selector_one_that_fits_will_do() {
    let world = World::with(|zone| {
        let other = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        zone.add("k._domainkey.good.test", "TXT", &key_record(&other, "")).unwrap();
        zone.add("k._domainkey.good.test", "TXT", "something else").unwrap();
    })
    .await;
    let verdict = world.verify("ana@good.test", &world.signed_good()).await;
    check(&verdict.dkim, AuthResult::Pass, None);
}

#[tokio::test]
async fn h2_a_header_block_over_the_limit_has_no_signatures() {
    let world = World::new().await;
    let padding = "X: y\r\n".repeat(crate::auth::content::MAX_FIELDS);
    let raw = world.signed_good().replace("\r\n\r\n", &format!("\r\n{padding}\r\n"));
    let verdict = world.verify("ana@good.test", &raw).await;
    assert_eq!((verdict.dkim.len(), verdict.alignment), (0, Alignment::NotAligned));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_mail_is_digested_off_the_reactor_with_the_same_result() {
    let world = World::new().await;
    let body = "A line of a large mail, again and again.\r\n".repeat(50_000);
    let signature = world.sign("d=good.test", &["from"], FROM_GOOD, &body);
    let raw = format!("{signature}{FROM_GOOD}\r\n{body}");
    check(&world.verify("ana@good.test", &raw).await.dkim, AuthResult::Pass, None);
    let changed = world.verify("ana@good.test", &raw.replacen("again", "Again", 1)).await;
    check(&changed.dkim, AuthResult::Fail, Some("the body has changed"));
}

#[tokio::test]
async fn r28_an_attached_original_is_proven_by_its_own_signature_alone() {
    let world = World::new().await;
    let original = world.signed_good();
    let (good, evil) =
        (EmailAddress::parse("ana@good.test").unwrap(), EmailAddress::parse("ana@evil.test").unwrap());
    let verdict = async |raw: &str, from: &EmailAddress| {
        let subject = Subject {
            client_ip: [203, 0, 113, 1].into(),
            helo: "mail.good.test",
            mail_from: None,
            from: None,
            original: Some(Original { raw: raw.as_bytes(), from }),
        };
        world.authenticator.verify(subject, b"Subject: Fwd\r\n\r\n").await
    };
    let found = verdict(&original, &good).await;
    assert_eq!(found.alignment, Alignment::NotAligned);
    let expected = Alignment::Aligned { by: AlignedBy::Dkim, domain: "good.test".to_owned() };
    assert_eq!(found.original, Some(expected));
    assert_eq!(verdict(&original, &evil).await.original, Some(Alignment::NotAligned), "another author");
    let changed = original.replace("One line", "Another line");
    assert_eq!(verdict(&changed, &good).await.original, Some(Alignment::NotAligned));
    assert_eq!(
        verdict("From: ana@good.test\r\n\r\nx\r\n", &good).await.original,
        Some(Alignment::NotAligned)
    );
}

#[tokio::test]
async fn m3_m4_fields_that_no_aligned_signature_covers_are_named() {
    let world = World::new().await;
    let head = "To: b@x.test\r\nSubject: One\r\nFrom: ana@good.test\r\n";
    let uncovered = async |names: &[&str], above: &str, client: [u8; 4]| {
        let signature = world.sign("d=good.test", names, head, BODY);
        let raw = format!("{above}{signature}{head}\r\n{BODY}");
        world.verify_sent("ana@good.test", "ana@good.test", client, &raw).await.uncovered
    };
    let stranger = [203, 0, 113, 1];
    assert_eq!(uncovered(&["from", "to", "subject"], "", stranger).await, Uncovered::default());
    assert_eq!(uncovered(&["from", "to"], "", stranger).await.unsigned, ["Subject"]);
    let replayed = uncovered(&["from", "to", "subject"], "Subject: Two\r\n", stranger).await;
    assert_eq!((replayed.unsigned.is_empty(), replayed.added), (true, vec!["Subject"]));
    let answer_elsewhere = uncovered(&["from", "to", "subject"], "Reply-To: x@evil.test\r\n", stranger).await;
    assert_eq!(answer_elsewhere.unsigned, ["Reply-To"]);
    let oversigned = uncovered(&["from", "from", "to", "subject", "subject"], "", stranger).await;
    assert_eq!(oversigned, Uncovered::default());
    // SPF proves the client: nobody stood in between.
    assert_eq!(uncovered(&["from"], "", [192, 0, 2, 7]).await, Uncovered::default());
}
