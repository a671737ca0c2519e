//! The review queue, by the command and over SMTP.

use std::process::Output;

use serde_json::Value;

use crate::api::{Desk, assert_rule_spoke};
use crate::app::{TestApp, program};
use crate::mail::{ANNA, Draft, FORGER, LENA};

async fn held(app: &TestApp, arguments: &[&str]) -> Output {
    let config = app.folder().join("syncmx.toml").to_str().unwrap().to_owned();
    let mut command = program(&["held"]);
    command.args(arguments).args(["--json", "--config", &config]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn json(app: &TestApp, arguments: &[&str]) -> Vec<Value> {
    let output = held(app, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn r36_held_mail_is_listed_filed_and_discarded_by_the_command_beside_the_server() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    // R27: To is internal, the patient only copied. Large enough for a blob: it must open under its new row.
    let text = format!("For your information.\r\n{}", random_words());
    let copied = Draft {
        id: "copied",
        to: "tom@praxis-morgenrot.test",
        fields: "Cc: anna.bergmann@web-post.test\r\n",
        text: &text,
        ..Draft::default()
    };
    let answers = app.send(&LENA, &desk.sync, &copied.raw()).await;
    let delivery = desk.expect(&answers, "250 2.0.0", "held", "contact_only_in_cc").await;
    // R24: nobody in To.
    let lonely = Draft { id: "lonely", to: "undisclosed-recipients:;", ..Draft::default() };
    let answers = app.send(&LENA, &desk.sync, &lonely.raw()).await;
    desk.expect(&answers, "250 2.0.0", "held", "unknown_contact").await;

    let listed = json(&app, &["list", &desk.account]).await;
    let reasons: Vec<_> = listed.iter().map(|item| item["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["unknown_contact", "contact_only_in_cc"]);
    let lonely = listed[0]["id"].as_str().unwrap();
    let copied = listed[1]["id"].as_str().unwrap();
    assert_eq!(copied, delivery["id"]);
    let waiting = json(&app, &["list", &desk.account, "--contact", &desk.anna]).await;
    assert_eq!(waiting.len(), 1);

    let filed = json(&app, &["file", &desk.account, copied, "--contact", &desk.anna]).await;
    assert_eq!(filed[0]["outcome"], "filed");
    let message = &desk.timeline(&desk.anna).await[0];
    assert_eq!((&message["id"], &message["role"]), (&filed[0]["message_id"], &Value::from("cc")));
    let (_, raw) = desk.bytes(&format!("/messages/{}/raw", message["id"].as_str().unwrap())).await;
    assert!(raw.len() > 64 * 1024 && raw.ends_with(random_words().as_bytes()));
    let delivery = desk.get(&format!("/deliveries/{copied}")).await;
    assert_eq!(delivery["outcome"], "filed");
    assert_rule_spoke(&delivery, "R36");
    assert!(delivery["steps"].to_string().contains("at the command line"), "{delivery:#}");

    json(&app, &["discard", &desk.account, lonely]).await;
    assert!(json(&app, &["list", &desk.account]).await.is_empty());
    let again = held(&app, &["discard", &desk.account, lonely]).await;
    assert_eq!(again.status.code(), Some(1));
    let usage = held(&app, &["file", &desk.account, lonely, "--create", "Nobody"]).await;
    assert_eq!(usage.status.code(), Some(2), "a contact to be made needs its email");
}

#[tokio::test]
async fn r03_the_operator_reads_mail_to_postmaster_by_the_command() {
    let app = TestApp::start().await;
    let draft = Draft { id: "abuse", to: "abuse@sync.example.test", text: "Look here.", ..Draft::default() };
    app.send(&ANNA, "postmaster@sync.example.test", &draft.raw()).await;
    let listed = json(&app, &["list", "operator"]).await;
    assert_eq!((listed.len(), &listed[0]["reason"]), (1, &"postmaster".into()));
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(json(&app, &["show", "operator", id]).await, listed);
    let config = app.folder().join("syncmx.toml").to_str().unwrap().to_owned();
    let mut command = program(&["held", "raw", "operator", id, "--config", &config]);
    let raw = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(raw.status.success());
    assert!(String::from_utf8_lossy(&raw.stdout).ends_with("\r\n\r\nLook here.\r\n"), "{raw:?}");
}

#[tokio::test]
async fn r15_a_strangers_answer_is_held_and_joins_the_conversation_when_a_person_files_it() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let (_, first) = desk.expect_filed(&app.send(&LENA, &desk.sync, &Draft::default().raw()).await).await;
    let answer = Draft {
        id: "2",
        from: "Carl <carl@irgendwo.test>",
        to: "lena.albrecht@praxis-morgenrot.test",
        fields: "In-Reply-To: <1@e2e.test>\r\n",
        ..Draft::default()
    };
    let answers = app.send(&FORGER, &desk.sync, &answer.raw()).await;
    let delivery = desk.expect(&answers, "250 2.0.0", "held", "third_party").await;
    let id = delivery["id"].as_str().unwrap();
    json(&app, &["file", &desk.account, id, "--contact", &desk.anna]).await;
    let message = &desk.timeline(&desk.anna).await[0];
    assert_eq!(message["message_id_header"], "2@e2e.test");
    assert_eq!((&message["direction"], &message["sender"]), (&"inbound".into(), &"unknown".into()));
    assert_eq!(message["conversation_id"], first["conversation_id"]);
    // R70: what comes in again is the same message.
    let answers = app.send(&FORGER, &desk.sync, &answer.raw()).await;
    let again = desk.delivery(&answers).await;
    assert_eq!(again["outcome"], if again["message_id"].is_null() { "held" } else { "duplicate" });
}

#[tokio::test]
async fn r30_an_unproven_mail_of_a_contact_is_filed_as_unverified_by_a_person() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    desk.mark(&desk.anna).await;
    let forged = Draft {
        id: "3",
        from: ANNA.mail_from,
        to: "lena.albrecht@praxis-morgenrot.test",
        ..Draft::default()
    };
    let answers = app.send(&FORGER, &desk.auto, &forged.raw()).await;
    let delivery = desk.expect(&answers, "250 2.0.0", "held", "unverified_sender").await;
    let id = delivery["id"].as_str().unwrap();
    json(&app, &["file", &desk.account, id, "--contact", &desk.anna]).await;
    let message = &desk.timeline(&desk.anna).await[0];
    assert_eq!((&message["direction"], &message["sender"]), (&"inbound".into(), &"unverified".into()));
}

#[tokio::test]
async fn r13_a_person_may_remember_who_signs_for_an_address_and_take_it_back() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let user = format!("/users/{}", desk.user);
    let body = serde_json::json!({"address": "lena@privat.test", "verified": true});
    desk.post(&format!("{user}/emails"), body).await;
    // Anna's mail service signs: nothing proves that Lena wrote.
    let mail = |id| Draft { id, from: "Lena <lena@privat.test>", ..Draft::default() }.raw();
    let first = app.send(&ANNA, &desk.sync, &mail("as-1")).await;
    let held_mail = desk.expect(&first, "250 2.0.0", "held", "unverified_sender").await;
    let id = held_mail["id"].as_str().unwrap();
    json(&app, &["file", &desk.account, id, "--contact", &desk.anna, "--remember-signer"]).await;
    let profile = desk.get(&user).await;
    let signer = &profile["remembered_signers"][0];
    assert_eq!(
        (&signer["address"], &signer["domain"]),
        (&"lena@privat.test".into(), &"web-post.test".into())
    );

    let (delivery, message) = desk.expect_filed(&app.send(&ANNA, &desk.sync, &mail("as-2")).await).await;
    assert_rule_spoke(&delivery, "R13");
    assert_eq!((&message["direction"], &message["sender"]), (&"outbound".into(), &"verified".into()));
    // Another signer, or none, is no better than before.
    let unsigned = app.send(&FORGER, &desk.sync, &mail("as-3")).await;
    let unsigned = desk.expect(&unsigned, "250 2.0.0", "held", "unverified_sender").await;
    let id = unsigned["id"].as_str().unwrap();
    let arguments = ["file", &desk.account, id, "--contact", &desk.anna, "--remember-signer"];
    let refused = held(&app, &arguments).await;
    assert_eq!(refused.status.code(), Some(1), "there is no signature to remember");

    let body = serde_json::json!({"address": "lena@privat.test", "domain": "web-post.test"});
    let forgotten = desk.post(&format!("{user}/signers:forget"), body).await;
    assert_eq!(forgotten["remembered_signers"], serde_json::json!([]));
    let again = app.send(&ANNA, &desk.sync, &mail("as-4")).await;
    desk.expect(&again, "250 2.0.0", "held", "unverified_sender").await;
}

/// Text that does not pack well, so that the sealed mail is too large for a row.
fn random_words() -> String {
    let mut state = 7_u64;
    let mut words = String::new();
    while words.len() < 300_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        words.push_str(&format!("{state:016x}{:016x}\r\n", state.rotate_left(31)));
    }
    words
}
