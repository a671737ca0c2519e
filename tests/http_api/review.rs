//! The review queue.

use serde_json::{Value, json};

use crate::server::{STRANGER, Server, keys, text};

async fn held(server: &Server, account: &str) -> Value {
    server.patch(account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let user = server.user(account, "bo@practice.test").await;
    let mail = "From: bo@practice.test\nTo: Ana <Ana@patient.test>\nSubject: To nobody\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <b@practice.test>\n\nx\n";
    server.deliver(&text(&user["sync"]["sync_address"]), mail).await;
    server.get(&format!("{account}/held")).await.expect(200)["items"][0].clone()
}

#[tokio::test]
async fn r36_held_mail_is_listed_and_found_by_the_contact_it_waits_for() {
    let server = Server::start().await;
    let account = server.account().await;
    let item = held(&server, &account).await;
    assert_eq!(
        keys(&item),
        ["id", "at", "reason", "why", "from", "to", "subject", "user_id", "contact_id", "expires_at"]
    );
    assert_eq!((&item["reason"], &item["subject"]), (&json!("unknown_contact"), &json!("To nobody")));
    assert_eq!(item["to"], json!([{"name": "Ana", "email": "Ana@patient.test"}]));
    assert_eq!(item["from"]["email"], "bo@practice.test");
    let path = format!("{account}/held/{}", text(&item["id"]));
    assert_eq!(server.get(&path).await.expect(200), item);

    let ana = server.contact(&account, "Ana", "ana@Patient.test").await;
    let bea = server.contact(&account, "Bea", "na@patient.test").await;
    let user = text(&item["user_id"]);
    for (query, count) in [
        (format!("contact={ana}"), 1),
        (format!("contact={bea}"), 0),
        (format!("user={user}"), 1),
        (format!("user={STRANGER}"), 0),
        ("reason=unknown_contact".to_owned(), 1),
        ("reason=third_party".to_owned(), 0),
    ] {
        let found = server.get(&format!("{account}/held?{query}")).await.expect(200);
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{query}");
    }
    let reviewer = server.token(&account, &["review"]).await;
    let shown = server.as_token(&reviewer, "GET", &path, None).await.expect(200);
    assert_eq!((keys(&shown), &shown["subject"]), (keys(&item), &Value::Null));
}

#[tokio::test]
async fn r05_discarding_held_mail_erases_it_and_its_addresses() {
    let server = Server::start().await;
    let account = server.account().await;
    let item = held(&server, &account).await;
    let path = format!("{account}/held/{}", text(&item["id"]));
    server.post(&format!("{path}:approve"), json!({})).await.problem(404);
    server.post(&path, json!({})).await.problem(404);
    server.post(&format!("{account}/held/x:discard"), json!({})).await.problem(404);
    server.post(&format!("{path}:discard"), json!({})).await.expect(204);
    server.get(&path).await.problem(404);
    server.post(&format!("{path}:discard"), json!({})).await.problem(404);
    let delivery = server.get(&format!("{account}/deliveries/{}", text(&item["id"]))).await.expect(200);
    assert_eq!((&delivery["outcome"], &delivery["reason"]), (&json!("discarded"), &json!("unknown_contact")));
    assert!(!delivery.to_string().contains('@'), "{delivery}");
    let last = delivery["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(last["rule"], "R36");
    let found = server.get(&format!("{account}/deliveries?to=ana@patient.test")).await.expect(200);
    assert_eq!(found["items"][0]["id"], item["id"]);
}
