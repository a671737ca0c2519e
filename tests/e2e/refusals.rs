//! What is refused, and with which words.

use syncmx::cli::demo::practice;
use syncmx::zone::Zone;

use crate::api::{Desk, assert_refused, assert_rule_spoke};
use crate::app::TestApp;
use crate::mail::{Draft, FORGER, LENA, Sender};

#[tokio::test]
async fn r13_m16_a_forged_user_of_a_reject_domain_is_refused_5_7_26() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let answers = app.send(&FORGER, &desk.sync, &Draft::default().raw()).await;
    assert_refused(answers.decisive(), "550 5.7.26");
    let delivery = desk.expect(&answers, "550 5.7.26", "rejected", "dmarc_reject").await;
    assert_rule_spoke(&delivery, "R13");
    assert_eq!(delivery["auth"]["dmarc"]["result"], "fail");
    assert_eq!(desk.timeline(&desk.anna).await.len(), 0);
}

#[tokio::test]
async fn r13_a_broken_signature_proves_nothing() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut signed = LENA.sign(&Draft::default().raw());
    signed.extend_from_slice(b"P.S. Please pay at once.\r\n");
    let stolen = Sender { dkim: None, ..FORGER };
    let answers = app.send(&stolen, &desk.sync, &signed).await;
    let delivery = desk.expect(&answers, "550 5.7.26", "rejected", "dmarc_reject").await;
    assert_ne!(delivery["auth"]["dkim"][0]["result"], "pass");
}

#[tokio::test]
async fn r30_a_forged_patient_waits_for_a_look() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let raw = Draft {
        from: "Anna <anna.bergmann@web-post.test>",
        to: "x@praxis-morgenrot.test",
        ..Draft::default()
    }
    .raw();
    let answers = app.send(&FORGER, &desk.sync, &raw).await;
    desk.expect(&answers, "250 2.0.0", "held", "unverified_sender").await;
    assert_eq!(desk.timeline(&desk.anna).await.len(), 0);
}

#[tokio::test]
async fn r15_a_stranger_may_not_write_to_a_sync_address() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let raw = Draft { from: "Gewinn <info@irgendwo.test>", ..Draft::default() }.raw();
    let answers = app.send(&FORGER, &desk.sync, &raw).await;
    assert_refused(answers.decisive(), "550 5.7.1");
    let delivery = desk.expect(&answers, "550 5.7.1", "rejected", "sender_not_allowed").await;
    assert_rule_spoke(&delivery, "R15");
}

#[tokio::test]
async fn an_unknown_address_is_refused_5_1_1_with_a_trace_and_the_same_text_whatever_is_wrong() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let (local, domain) = desk.sync.split_once('@').unwrap();
    let mut last_changed = local.to_owned();
    let last = if last_changed.pop() == Some('0') { '1' } else { '0' };
    last_changed.push(last);
    let forged_token = format!("r-{}@reply.example.test", "0".repeat(50));
    let mut texts = Vec::new();
    for rcpt in [
        &format!("{last_changed}@{domain}"),
        &format!("nobody@{domain}"),
        &forged_token,
        "nobody@reply.example.test",
    ] {
        let answers = app.send(&LENA, rcpt, &Draft::default().raw()).await;
        assert_refused(&answers.recipients[0], "550 5.1.1");
        texts.push(answers.recipients[0].text.split(" [trace").next().unwrap().to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[tokio::test]
async fn a_foreign_domain_is_refused_as_relay() {
    let app = TestApp::start().await;
    for rcpt in ["victim@elsewhere.test", "anna.bergmann@web-post.test"] {
        let answers = app.send(&LENA, rcpt, &Draft::default().raw()).await;
        assert_refused(&answers.recipients[0], "550 5.7.1");
        assert!(answers.end.is_none());
    }
}

#[tokio::test]
async fn one_unknown_recipient_does_not_keep_the_other_from_its_mail() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let answers =
        app.send_to_all(&LENA, &["nobody@sync.example.test", &desk.sync], &Draft::default().raw()).await;
    assert_refused(&answers.recipients[0], "550 5.1.1");
    assert_eq!(answers.recipients[1].code, 250);
    desk.expect_filed(&answers).await;
}

#[tokio::test]
async fn r14_a_dns_failure_defers_and_the_retry_is_filed_when_dns_is_back() {
    let mut broken = zone_without("praxis-morgenrot.test.");
    for name in
        ["praxis-morgenrot.test", "google._domainkey.praxis-morgenrot.test", "_dmarc.praxis-morgenrot.test"]
    {
        broken.servfail(name).unwrap();
    }
    let app = TestApp::start_with_zone(broken).await;
    let desk = Desk::open(&app).await;
    let raw = Draft::default().raw();
    let answers = app.send(&LENA, &desk.sync, &raw).await;
    assert_refused(answers.decisive(), "451 4.4.3");
    let delivery = desk.expect(&answers, "451 4.4.3", "deferred", "lookup_failed").await;
    assert_rule_spoke(&delivery, "R14");
    assert_eq!(desk.timeline(&desk.anna).await.len(), 0);

    app.zone.replace(Zone::parse(practice::ZONE).unwrap());
    // RFC 2308 section 7.1: a failure may be cached for a while, but no longer than 5 minutes; ours is not.
    desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
}

/// The demo's zone without the records whose owner ends in `name`.
fn zone_without(name: &str) -> Zone {
    let mut kept = String::new();
    let mut is_dropped = false;
    for line in practice::ZONE.lines() {
        if !line.starts_with([' ', '\t']) {
            is_dropped = line.split_whitespace().next().is_some_and(|owner| owner.ends_with(name));
        }
        if !is_dropped {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Zone::parse(&kept).unwrap()
}
