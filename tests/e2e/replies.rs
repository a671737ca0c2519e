//! The life of reply addresses: keys rotated and revoked beside the server, a conversation's addresses revoked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Desk;
use crate::app::{TestApp, program};
use crate::mail::{ANNA, Draft};

async fn run(app: &TestApp, arguments: &[&str]) -> (i32, Vec<Value>) {
    let config = app.folder().join("syncmx.toml").to_str().unwrap().to_owned();
    let mut command = program(arguments);
    command.args(["--config", &config]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    (
        output.status.code().unwrap(),
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
    )
}

async fn mint(desk: &Desk, conversation: Option<&Value>) -> (String, Value) {
    let body = json!({ "contact_id": desk.anna, "user_id": desk.user, "conversation_id": conversation });
    let made = desk.post("/reply-addresses", body).await;
    (made["address"].as_str().unwrap().to_owned(), made["conversation_id"].clone())
}

/// What Anna's answer to this address is answered.
async fn answered(app: &TestApp, id: &str, address: &str) -> String {
    let draft =
        Draft { id, from: "Anna Bergmann <anna.bergmann@web-post.test>", to: address, ..Draft::default() };
    app.send(&ANNA, address, &draft.raw()).await.decisive().codes()
}

/// Until the answer is this one: the server takes up a new key file by itself.
async fn becomes(app: &TestApp, id: &str, address: &str, codes: &str) {
    let mut tries = tokio::time::interval(Duration::from_millis(100));
    for n in 0..300 {
        tries.tick().await;
        if answered(app, &format!("{id}-{n}"), address).await == codes {
            return;
        }
    }
    panic!("{address} is never answered {codes}");
}

#[tokio::test]
async fn r45_a_retired_key_verifies_until_it_is_revoked() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let (old, conversation) = mint(&desk, None).await;
    assert_eq!(answered(&app, "1", &old).await, "250 2.0.0");
    assert_eq!(run(&app, &["keys", "revoke", "1"]).await.0, 1, "it is the only one");
    let (code, rotated) = run(&app, &["keys", "rotate", "--json"]).await;
    assert_eq!((code, &rotated[0]), (0, &json!({ "id": 2, "state": "issuing" })));
    let (_, listed) = run(&app, &["keys", "list", "--json"]).await;
    assert_eq!(listed, [json!({ "id": 1, "state": "retired" }), json!({ "id": 2, "state": "issuing" })]);

    // The command mints with the new key at once; the server verifies it as soon as it has looked.
    let (_, minted) = run(
        &app,
        &[
            "reply-address",
            "mint",
            &desk.account,
            &desk.anna,
            "--conversation",
            conversation.as_str().unwrap(),
            "--json",
        ],
    )
    .await;
    let new = minted[0]["address"].as_str().unwrap().to_owned();
    // The key id is the first octet: eight of the first ten bits.
    assert!(old.starts_with("r-04") && new.starts_with("r-08"), "{old} {new}");
    becomes(&app, "new", &new, "250 2.0.0").await;
    assert_eq!(answered(&app, "retired", &old).await, "250 2.0.0");
    assert!(mint(&desk, None).await.0.starts_with("r-08"));

    assert_eq!(run(&app, &["keys", "revoke", "1"]).await.0, 0);
    app.hang_up();
    becomes(&app, "revoked", &old, "550 5.1.1").await;
    assert_eq!(answered(&app, "kept", &new).await, "250 2.0.0");
    assert_eq!(run(&app, &["keys", "revoke", "1"]).await.0, 1, "there is none");
}

#[tokio::test]
async fn r45_a_conversations_reply_addresses_are_revoked_for_good() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let ((first, one), (second, two)) = (mint(&desk, None).await, mint(&desk, None).await);
    let (first, second) = (first.as_str(), second.as_str());
    let (one, two) = (one.as_str().unwrap(), two.as_str().unwrap());
    assert_eq!(answered(&app, "a", first).await, "250 2.0.0");
    desk.post(&format!("/conversations/{one}:revoke-reply-addresses"), json!({})).await;
    assert_eq!(answered(&app, "b", first).await, "550 5.2.1");
    assert_eq!(answered(&app, "c", second).await, "250 2.0.0");
    assert_eq!(run(&app, &["reply-address", "revoke", &desk.account, two]).await.0, 0);
    becomes(&app, "d", second, "550 5.2.1").await;
    let body = json!({ "contact_id": desk.anna, "conversation_id": one });
    let path = format!("/accounts/{}/reply-addresses", desk.account);
    assert_eq!(app.api.call(reqwest::Method::POST, &path, Some(body)).await.0, 409);
    let path = format!("/accounts/{}/conversations/{}:revoke-reply-addresses", desk.account, desk.anna);
    assert_eq!(app.api.call(reqwest::Method::POST, &path, None).await.0, 404);
}

#[tokio::test]
async fn r45_m17_a_changed_cut_suffixed_or_strange_token_is_unknown_and_case_does_not_matter() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let (address, _) = mint(&desk, None).await;
    let (local, domain) = address.split_once('@').unwrap();
    let cut: String = local.chars().take(local.len() - 1).collect();
    let last = if local.ends_with('4') { '8' } else { '4' };
    let bad = [format!("{cut}{last}@{domain}"), format!("{cut}@{domain}"), format!("{local}+x@{domain}")];
    for (n, bad) in bad.iter().enumerate() {
        assert_eq!(answered(&app, &format!("bad{n}"), bad).await, "550 5.1.1", "{bad}");
    }
    assert_eq!(answered(&app, "upper", &format!("{}@{domain}", local.to_uppercase())).await, "250 2.0.0");
    // The same token at another server's key is as unknown as a forged one.
    let other = TestApp::start().await;
    assert_eq!(answered(&other, "other", &address).await, "550 5.1.1");
}
