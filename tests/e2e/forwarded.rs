//! R28: originals that are forwarded as an attachment, with signatures of their own.

use serde_json::Value;

use crate::api::{Desk, assert_rule_spoke};
use crate::app::TestApp;
use crate::mail::{ANNA, Draft, LENA, Sender};

#[tokio::test]
async fn r28_an_attached_original_whose_signature_holds_is_filed_as_verified() {
    let (message, delivery) = filed(ANNA.sign(&original(ANNA_FROM))).await;
    assert_eq!(message["sender"], "verified");
    assert!(said(&delivery).contains("web-post.test's signature on it still holds"), "{delivery:#}");
    assert_eq!((&message["direction"], &message["kind"]), (&"inbound".into(), &"forwarded".into()));
    assert_eq!(message["sent_at"], "2026-09-14T07:30:00.000Z");
    assert_eq!(message["attachments"][0]["status"], "stored");
}

#[tokio::test]
async fn r28_a_signature_that_a_word_has_broken_proves_nothing() {
    let signed = String::from_utf8(ANNA.sign(&original(ANNA_FROM))).unwrap();
    let (message, delivery) = filed(signed.replace("on Friday", "on Monday").into_bytes()).await;
    assert_eq!(message["sender"], "unverified");
    assert!(said(&delivery).contains("no signature of its own proves it"), "{delivery:#}");
}

#[tokio::test]
async fn r28_an_original_without_a_signature_is_the_word_of_the_user() {
    let (message, _) = filed(original(ANNA_FROM)).await;
    assert_eq!(message["sender"], "unverified");
}

#[tokio::test]
async fn r28_the_signature_of_another_domain_proves_no_author() {
    let other = Sender { dkim: LENA.dkim, ..ANNA };
    let (message, delivery) = filed(other.sign(&original(ANNA_FROM))).await;
    assert_eq!(message["sender"], "unverified");
    assert!(said(&delivery).contains("no signature of its own proves it"), "{delivery:#}");
}

#[tokio::test]
async fn r28_of_an_original_with_several_authors_none_is_believed() {
    let two_fields = format!("{ANNA_FROM}\r\nFrom: Somebody <somebody@elsewhere.test>");
    let two_addresses = format!("{ANNA_FROM}, Somebody <somebody@elsewhere.test>");
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    for (id, from) in [("fields", two_fields), ("addresses", two_addresses)] {
        let raw = forward(id, &ANNA.sign(&original(&from)));
        let delivery = desk
            .expect(&app.send(&LENA, &desk.sync, &raw).await, "250 2.0.0", "held", "forwarded_unknown")
            .await;
        assert_rule_spoke(&delivery, "R28");
    }
    assert_eq!(desk.timeline(&desk.anna).await.len(), 0);
}

#[tokio::test]
async fn r28_an_attached_original_of_a_stranger_waits_for_a_look() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let raw = forward("1", &ANNA.sign(&original("Otto <otto@web-post.test>")));
    let answers = app.send(&LENA, &desk.sync, &raw).await;
    desk.expect(&answers, "250 2.0.0", "held", "forwarded_unknown").await;
}

/// Lena forwards this original; the message on Anna's record, and its delivery.
async fn filed(original: Vec<u8>) -> (Value, Value) {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let answers = app.send(&LENA, &desk.sync, &forward("1", &original)).await;
    let (delivery, message) = desk.expect_filed(&answers).await;
    assert_rule_spoke(&delivery, "R28");
    assert_eq!(message["contact_id"], desk.anna.as_str());
    (message, delivery)
}

/// All that the delivery's steps say of R28.
fn said(delivery: &Value) -> String {
    let steps = delivery["trace"].as_array().or_else(|| delivery["steps"].as_array()).unwrap();
    let spoken = steps.iter().filter(|step| step["rule"] == "R28");
    spoken.map(ToString::to_string).collect()
}

/// What Anna wrote, long ago.
fn original(from: &str) -> Vec<u8> {
    format!(
        "From: {from}\r\nTo: Dr. Lena Albrecht <lena.albrecht@praxis-morgenrot.test>\r\n\
         Subject: My appointment\r\nDate: Mon, 14 Sep 2026 09:30:00 +0200\r\nMessage-ID: <long-ago@web-post.test>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         Dear Lena,\r\n\r\nmay I come on Friday?\r\n\r\nAnna\r\n"
    )
    .into_bytes()
}

/// A mail of Lena's to her sync address alone, with the original attached octet for octet.
fn forward(id: &str, original: &[u8]) -> Vec<u8> {
    let text = format!(
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nFor the record.\r\n--b\r\n\
         Content-Type: message/rfc822\r\nContent-Disposition: attachment; filename=\"My appointment.eml\"\r\n\r\n{}\r\n--b--\r\n",
        String::from_utf8(original.to_vec()).unwrap()
    );
    let to = "sync@sync.example.test";
    let raw = Draft { id, to, subject: "Fwd: My appointment", text: &text, ..Draft::default() }.raw();
    let plain = "Content-Type: text/plain; charset=utf-8";
    String::from_utf8(raw).unwrap().replacen(plain, "Content-Type: multipart/mixed; boundary=b", 1).into()
}

const ANNA_FROM: &str = "Anna Bergmann <anna.bergmann@web-post.test>";
