//! A user's profile: feeds and forwarding confirmations.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::server::{Server, keys, text};

/// A mail of the shared samples, or none with a line that says so.
fn sample(name: &str, auto: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora").join(name);
    match std::fs::read_to_string(&path) {
        Ok(raw) => Some(raw.replace("\r\n", "\n").replace("@AUTO@", auto)),
        Err(_) => {
            println!("skipped: {name} absent");
            None
        }
    }
}

async fn profile(server: &Server, account: &str, user: &Value) -> Value {
    server.get(&format!("{account}/users/{}", text(&user["id"]))).await.expect(200)
}

#[tokio::test]
async fn r35_the_profile_says_through_which_feeds_mail_was_seen() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "bo@practice.test").await;
    assert_eq!(keys(&user["feeds"]), ["sync_address", "auto_forward", "journal", "routed_replies"]);
    assert!(user["feeds"].as_object().unwrap().values().all(Value::is_null), "{user}");
    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    let mail = "From: bo@practice.test\nTo: ana@patient.test\nSubject: x\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <1@practice.test>\n\nx\n";
    server.deliver(&text(&user["sync"]["sync_address"]), mail).await;
    let feeds = profile(&server, &account, &user).await["feeds"].clone();
    assert!(feeds["sync_address"].is_string() && feeds["auto_forward"].is_null(), "{feeds}");
    let answer = mail.replace(
        "From: bo@practice.test\nTo: ana@patient.test",
        "From: ana@patient.test\nTo: bo@practice.test",
    );
    server.deliver(&text(&user["sync"]["auto_address"]), &answer.replace("<1@", "<2@")).await;
    let new = json!({"contact_id": ana, "user_id": text(&user["id"])});
    let reply = server.post(&format!("{account}/reply-addresses"), new).await.expect(201);
    server.deliver(&text(&reply["address"]), &answer.replace("<1@", "<3@")).await;
    let feeds = profile(&server, &account, &user).await["feeds"].clone();
    assert!(feeds["auto_forward"].is_string() && feeds["routed_replies"].is_string(), "{feeds}");
    assert!(feeds["journal"].is_null(), "{feeds}");
}

#[tokio::test]
async fn r34_code_and_link_of_a_forwarding_confirmation_are_on_the_profile_and_an_event() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "bo@practice.test").await;
    assert_eq!(user["forwarding_confirmation"], Value::Null);
    let auto = text(&user["sync"]["auto_address"]);
    for (file, code) in [("old-with-code", json!("123456789")), ("new-without-code", Value::Null)] {
        let Some(mail) = sample(&format!("forward-confirmation/input/{file}.eml"), &auto) else { return };
        let filed = server.deliver(&auto, &mail).await;
        assert_eq!(filed.decided[0].1.reason().as_str(), "forwarding_confirmation", "{file}");
        let asked = profile(&server, &account, &user).await["forwarding_confirmation"].clone();
        assert_eq!(keys(&asked), ["code", "link", "at"]);
        assert_eq!(asked["code"], code, "{file}");
        let link = "https://mail-settings.google.com/mail/vf-%5BANGjdJ9AAAA0000-bbbb_cccc1111DDDD2222eeee%5D-ABCdef_0123456789";
        assert_eq!(asked["link"], link, "{file}");
    }
    let reader = server.token(&account, &["contacts"]).await;
    let path = format!("{account}/users/{}", text(&user["id"]));
    let shown = server.as_token(&reader, "GET", &path, None).await.expect(200);
    assert_eq!(shown["forwarding_confirmation"], Value::Null);
    let events = server.get(&format!("{account}/events")).await.expect(200);
    let types: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| text(&event["type"])).collect();
    assert_eq!(types, ["user.forwarding_confirmation"; 2]);
    let Some(spoofed) = sample("forward-confirmation/input/spoofed-sender.eml", &auto) else { return };
    let filed = server.deliver(&auto, &spoofed).await;
    assert_eq!(filed.decided[0].1.reason().as_str(), "not_marked");
}

#[tokio::test]
async fn r33_a_journaled_mail_is_filed_as_itself_with_who_was_in_bcc() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "jo@acme.test").await;
    let auto = text(&user["sync"]["auto_address"]);
    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    let hidden = server.contact(&account, "Ben", "hidden@patient.test").await;
    let mark = format!("{account}/contacts/{ana}/sync/{}", text(&user["id"]));
    server.as_token(&server.admin, "PUT", &mark, None).await.expect(200);
    let Some(mail) = sample("exchange-journal/input/bcc.eml", &auto) else { return };
    let refused = server.deliver(&auto, &mail).await;
    assert_eq!(refused.decided[0].1.reason().as_str(), "sender_not_allowed");
    let sources = json!({"settings": {"journal_sources": [{"domain": "acme.test", "networks": []}]}});
    server.patch(&account, sources).await.expect(200);
    let filed = server.deliver(&auto, &mail).await;
    assert_eq!(filed.decided[0].1.reason().as_str(), "filed");
    let timeline = server.get(&format!("{account}/contacts/{ana}/timeline")).await.expect(200);
    let message = &timeline["items"][0];
    assert_eq!((&message["direction"], &message["role"]), (&json!("outbound"), &json!("to")));
    assert_eq!(message["message_id_header"], "orig-1@acme.test");
    assert!(text(&message["text"]).contains("see the terms attached"));
    let copied = server.get(&format!("{account}/contacts/{hidden}/timeline")).await.expect(200);
    assert_eq!((&copied["items"][0]["id"], &copied["items"][0]["role"]), (&message["id"], &json!("cc")));
    assert!(profile(&server, &account, &user).await["feeds"]["journal"].is_string());
    let Some(outside) = sample("exchange-journal/input/from-outside-unauthenticated.eml", &auto) else {
        return;
    };
    let refused = server.deliver(&auto, &outside).await;
    assert_eq!(refused.decided[0].1.reason().as_str(), "sender_not_allowed");
}

#[tokio::test]
async fn r55_what_a_meeting_is_about_is_told_only_to_who_reads_content() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "bo@practice.test").await;
    server.contact(&account, "Ana", "ana@patient.test").await;
    let mail = "From: bo@practice.test\nTo: ana@patient.test\nSubject: Invitation\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <m@practice.test>\nMIME-Version: 1.0\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\n\nBEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:1\nSUMMARY:Results of the biopsy\nDTSTART:20261122T100000Z\nDTEND:20261122T103000Z\nDESCRIPTION:https://meet.google.com/abc-defg-hij\nEND:VEVENT\nEND:VCALENDAR\n";
    server.deliver(&text(&user["sync"]["sync_address"]), mail).await;
    let meeting = async |scopes: &[&str]| {
        let token = server.token(&account, scopes).await;
        let events =
            server.as_token(&token, "GET", &format!("{account}/events?limit=200"), None).await.expect(200);
        let filed = events["items"].as_array().unwrap().iter().find(|event| event["type"] == "message.filed");
        filed.unwrap()["data"]["meeting"].clone()
    };
    let whole = meeting(&["events", "messages:content"]).await;
    assert_eq!(whole["title"], "Results of the biopsy", "{whole}");
    assert_eq!(whole["join_url"], "https://meet.google.com/abc-defg-hij");
    let meta = meeting(&["events"]).await;
    assert_eq!((&meta["title"], &meta["join_url"]), (&Value::Null, &Value::Null), "{meta}");
    assert_eq!(meta["start"], whole["start"]);
}
