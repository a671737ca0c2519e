//! What lands on whose record.

use serde_json::Value;
use syncmx::cli::demo::fixture::{self, Filling};
use syncmx::cli::demo::run;

use crate::api::{Desk, assert_rule_spoke};
use crate::app::{TestApp, postgres};
use crate::mail::{ANNA, ANNA_FORWARDED, Draft, LENA};

#[tokio::test]
async fn a_signed_mail_over_tls_lands_on_the_contacts_timeline_with_trace_and_mark() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let answers = app.send(&LENA, &desk.sync, &Draft::default().raw()).await;
    let (delivery, message) = desk.expect_filed(&answers).await;

    assert!(delivery["tls"].as_str().unwrap().starts_with("TLSv1.3"), "{delivery:#}");
    assert_eq!(delivery["peer"], "127.0.0.20");
    assert_eq!(delivery["helo"], LENA.helo);
    assert_eq!(delivery["mail_from"], LENA.mail_from);
    assert_eq!(delivery["rcpt"], desk.sync.as_str());
    assert_eq!(delivery["auth"]["spf"], "pass");
    assert_eq!(delivery["auth"]["dkim"][0]["domain"], "praxis-morgenrot.test");
    assert_eq!(delivery["auth"]["dkim"][0]["result"], "pass");
    assert_eq!(delivery["auth"]["dmarc"]["result"], "pass");
    assert_eq!(delivery["auth"]["dmarc"]["policy"], "reject");
    // 127.0.0.0/8 has no reverse DNS of its own (RFC 6761 section 6.1): the resolver answers for it.
    assert_eq!(delivery["auth"]["iprev"], "fail");
    assert_eq!(delivery["smtp"], answers.decisive().text.as_str());
    for rule in ["R11", "R20", "R29"] {
        assert_rule_spoke(&delivery, rule);
    }

    let timeline = desk.timeline(&desk.anna).await;
    assert_eq!(timeline.len(), 1);
    assert_eq!(timeline[0]["id"], message["id"]);
    assert_eq!(message["contact_id"], desk.anna.as_str());
    assert_eq!(message["user_id"], desk.user.as_str());
    assert_eq!(
        (&message["direction"], &message["role"], &message["kind"]),
        (&json("outbound"), &json("to"), &json("mail"))
    );
    assert_eq!(message["subject"], "Your appointment");
    assert_eq!(message["sender"], "verified");
    assert_eq!(message["message_id_header"], "1@e2e.test");
    assert_eq!(message["from"]["email"], "lena.albrecht@praxis-morgenrot.test");
    assert_eq!(message["to"][0]["contact_id"], desk.anna.as_str());
    assert!(message["text"].as_str().unwrap().contains("see you on Thursday."));

    let marks = desk.get(&format!("/contacts/{}/sync", desk.anna)).await;
    assert_eq!(marks["items"][0]["user_id"], desk.user.as_str());
    assert_eq!(marks["items"][0]["state"], "on");
    assert_eq!(marks["items"][0]["because"], message["id"]);
}

#[tokio::test]
async fn an_attachment_comes_back_byte_for_byte_with_its_name_and_type() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let fixture =
        fixture::index().unwrap().into_iter().find(|mail| mail.file == "06-pdf-attached.eml").unwrap();
    let filling = Filling { addresses: [].into(), now: jiff::Timestamp::now() };
    let raw = run::compose(&fixture, &filling).unwrap();
    let mut mailer = app.connect(&LENA).await;
    let answers = mailer.send(&fixture.mail_from, std::slice::from_ref(&desk.sync), &raw).await.unwrap();
    let (_, message) = desk.expect_filed(&answers).await;

    let attachments = message["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 1, "{message:#}");
    assert_eq!(attachments[0]["filename"], "Befundbericht für Bergmann.pdf");
    assert_eq!(attachments[0]["content_type"], "application/pdf");
    assert_eq!(attachments[0]["status"], "stored");
    let expected = base64_part(&String::from_utf8(raw).unwrap());
    let path = format!("/messages/{}/attachments/0", message["id"].as_str().unwrap());
    let (content_type, bytes) = desk.bytes(&path).await;
    assert!(bytes.starts_with(b"%PDF-1.4") && bytes.ends_with(b"%%EOF\n"));
    assert_eq!(bytes, expected);
    assert_eq!(attachments[0]["size"], expected.len());
    assert!(content_type.starts_with("application/pdf"), "{content_type}");
}

#[tokio::test]
async fn the_raw_mail_is_what_was_sent_below_exactly_three_fields_of_ours() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let sent = LENA.sign(&Draft::default().raw());
    let mut mailer = app.connect(&LENA).await;
    let answers = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &sent).await.unwrap();
    let (_, message) = desk.expect_filed(&answers).await;
    let path = format!("/messages/{}/raw", message["id"].as_str().unwrap());
    let (content_type, raw) = desk.bytes(&path).await;
    assert_eq!(content_type, "message/rfc822");
    assert!(raw.ends_with(&sent), "{}", String::from_utf8_lossy(&raw));
    let top = String::from_utf8(raw[..raw.len() - sent.len()].to_vec()).unwrap();
    let names: Vec<&str> = top
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["Return-Path", "Received", "Authentication-Results"], "{top}");
    assert!(top.contains("mx.example.test") && top.contains("dkim=pass"), "{top}");
    assert!(
        top.contains(&format!("for <{}>", desk.sync)),
        "one recipient is named (RFC 5321 section 4.4): {top}"
    );
}

#[tokio::test]
async fn r70_m21_the_same_mail_again_is_a_duplicate_and_stands_once() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let raw = Draft::default().raw();
    let (first, _) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
    let again = app.send(&LENA, &desk.sync, &raw).await;
    let second = desk.expect(&again, "250 2.0.0", "duplicate", "duplicate").await;
    assert_eq!(second["message_id"], first["message_id"]);
    assert_ne!(second["id"], first["id"]);
    assert_eq!(desk.timeline(&desk.anna).await.len(), 1);
}

#[tokio::test]
async fn r30_a_patients_reply_all_is_filed_inbound_in_the_same_conversation() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let copied = format!("Cc: {}\r\n", desk.sync);
    let ours = Draft { fields: &copied, ..Draft::default() };
    let (_, sent) = desk.expect_filed(&app.send(&LENA, &desk.sync, &ours.raw()).await).await;
    let fields = format!("{copied}In-Reply-To: <1@e2e.test>\r\nReferences: <1@e2e.test>\r\n");
    let theirs = Draft {
        id: "2",
        from: ANNA_FROM,
        to: LENA_TO,
        subject: "Re: Your appointment",
        text: "See you!\r\n\r\nOn Thu, Nov 19, 2026 at 2:02 PM Dr. Lena Albrecht\r\n\
               <lena.albrecht@praxis-morgenrot.test> wrote:\r\n\r\n> Dear Anna,\r\n>\r\n> see you on Thursday.\r\n",
        fields: &fields,
    };
    let (delivery, reply) = desk.expect_filed(&app.send(&ANNA, &desk.sync, &theirs.raw()).await).await;
    assert_rule_spoke(&delivery, "R30");
    assert_eq!(reply["direction"], "inbound");
    assert_eq!(reply["sender"], "verified");
    assert_eq!(reply["conversation_id"], sent["conversation_id"]);
    assert_eq!(reply["in_reply_to"], "1@e2e.test");
    assert_eq!(reply["new_text"].as_str().unwrap().trim(), "See you!");
    let subjects: Vec<Value> =
        desk.timeline(&desk.anna).await.iter().map(|entry| entry["subject"].clone()).collect();
    assert_eq!(subjects, ["Re: Your appointment", "Your appointment"]);
}

#[tokio::test]
async fn r31_r32_the_auto_address_files_only_after_the_mark() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let from_anna = |id| Draft { id, from: ANNA_FROM, to: LENA_TO, ..Draft::default() }.raw();
    let before = app.send(&ANNA_FORWARDED, &desk.auto, &from_anna("before")).await;
    let delivery = desk.expect(&before, "250 2.0.0", "discarded", "not_marked").await;
    assert_rule_spoke(&delivery, "R32");
    let sent_before = app.send(&LENA, &desk.auto, &Draft { id: "own", ..Draft::default() }.raw()).await;
    desk.expect(&sent_before, "250 2.0.0", "discarded", "not_marked").await;
    assert_eq!(desk.timeline(&desk.anna).await.len(), 0);

    desk.mark(&desk.anna).await;
    let after = app.send(&ANNA_FORWARDED, &desk.auto, &from_anna("after")).await;
    let (delivery, message) = desk.expect_filed(&after).await;
    assert_rule_spoke(&delivery, "R30");
    assert_eq!(message["direction"], "inbound");
    let sent_after = app.send(&LENA, &desk.auto, &Draft { id: "own2", ..Draft::default() }.raw()).await;
    let (delivery, message) = desk.expect_filed(&sent_after).await;
    assert_rule_spoke(&delivery, "R31");
    assert_eq!(message["direction"], "outbound");
    assert_eq!(desk.timeline(&desk.anna).await.len(), 2);
}

#[tokio::test]
async fn r5_r26_an_internal_mail_is_discarded_and_leaves_nothing_of_its_content() {
    let app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let raw = Draft {
        id: "internal-quagga",
        to: "Kollegin <verena.zebrowski@praxis-morgenrot.test>",
        subject: "Gehaltsrunde Okapi",
        text: "Streng vertraulich: Nashornprojekt.\r\n",
        ..Draft::default()
    }
    .raw();
    let answers = app.send(&LENA, &desk.sync, &raw).await;
    let delivery = desk.expect(&answers, "250 2.0.0", "discarded", "internal_only").await;
    assert_rule_spoke(&delivery, "R26");
    assert!(delivery["message_id"].is_null());
    let shown = delivery.to_string();
    let secrets = ["Okapi", "Nashornprojekt", "verena.zebrowski", "internal-quagga"];
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(!app.data_contains(secret), "{secret} stands in the data folder");
    }
    // The search itself finds what is there.
    assert!(postgres::rows_are_sealed() || app.data_contains("anna.bergmann@web-post.test"));
}

#[tokio::test]
async fn r4_m21_two_accounts_with_the_same_patient_see_only_their_own_mail() {
    let app = TestApp::start().await;
    let (ours, theirs) = (Desk::open(&app).await, Desk::open(&app).await);
    let raw = Draft::default().raw();
    let (delivery, message) = ours.expect_filed(&app.send(&LENA, &ours.sync, &raw).await).await;
    assert_eq!(theirs.timeline(&theirs.anna).await.len(), 0);
    for path in [
        format!("/messages/{}", message["id"].as_str().unwrap()),
        format!("/deliveries/{}", delivery["id"].as_str().unwrap()),
        format!("/contacts/{}/timeline", ours.anna),
    ] {
        let path = format!("/accounts/{}{path}", theirs.account);
        let (status, _) = app.api.call(reqwest::Method::GET, &path, None).await;
        assert_eq!(status, 404, "{path}");
    }
    // The same mail is no duplicate in the other account, and joins no thread there.
    let (_, second) = theirs.expect_filed(&app.send(&LENA, &theirs.sync, &raw).await).await;
    assert_ne!(second["conversation_id"], message["conversation_id"]);
}

#[tokio::test]
async fn r72_two_recipients_of_one_account_file_one_message() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    desk.mark(&desk.anna).await;
    let answers = app.send_to_all(&LENA, &[&desk.sync, &desk.auto], &Draft::default().raw()).await;
    assert_eq!(answers.recipients.len(), 2);
    assert_eq!(answers.decisive().codes(), "250 2.0.0");
    assert_eq!(desk.timeline(&desk.anna).await.len(), 1);
    let outcomes: Vec<Value> = desk.get("/deliveries").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| delivery["outcome"].clone())
        .collect();
    assert!(outcomes.contains(&json("filed")) && outcomes.contains(&json("duplicate")), "{outcomes:?}");
}

fn json(text: &str) -> Value {
    Value::from(text)
}

/// The octets of the base64 part, decoded without the code under test.
fn base64_part(raw: &str) -> Vec<u8> {
    let part = raw.split("X-Attachment-Id: f_m3k9b0a10\r\n\r\n").nth(1).unwrap();
    decode_base64(part.split("--").next().unwrap())
}

/// Base64 in lines.
pub(crate) fn decode_base64(lines: &str) -> Vec<u8> {
    let text: Vec<u8> = lines.lines().flat_map(str::bytes).collect();
    let value = |byte: u8| ALPHABET.iter().position(|letter| *letter == byte).unwrap_or(0);
    let padding = text.iter().filter(|byte| **byte == b'=').count();
    let mut bytes = Vec::new();
    for four in text.chunks(4) {
        let word = four.iter().fold(0, |word, byte| (word << 6) | value(*byte));
        bytes.extend([16, 8, 0].map(|shift| u8::try_from((word >> shift) & 0xff).unwrap()));
    }
    bytes.truncate(bytes.len() - padding);
    bytes
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const ANNA_FROM: &str = "Anna Bergmann <anna.bergmann@web-post.test>";
const LENA_TO: &str = "Dr. Lena Albrecht <lena.albrecht@praxis-morgenrot.test>";
