//! What belongs to no account: mail to postmaster and abuse, for the operator alone.

use serde_json::json;

use crate::server::{Server, text};

const OPERATOR: &str = "/accounts/00000000-0000-0000-0000-000000000000";
const COMPLAINT: &str = "From: Nora <nora@elsewhere.test>\nTo: abuse@sync.example.test\nSubject: Your server\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <c@elsewhere.test>\n\nPlease look at your queue.\n";

#[tokio::test]
async fn r03_mail_to_postmaster_and_abuse_is_read_by_the_operator_and_noted() {
    let server = Server::start().await;
    server.deliver("postmaster@sync.example.test", &COMPLAINT.replace("abuse", "postmaster")).await;
    server.deliver("abuse@reply.example.test", &COMPLAINT.replace("<c@", "<d@")).await;
    let held = server.get(&format!("{OPERATOR}/held?reason=postmaster")).await.expect(200);
    assert_eq!(held["items"].as_array().unwrap().len(), 2, "{held}");
    let item = &held["items"][0];
    assert_eq!(
        (&item["subject"], &item["from"]["email"]),
        (&json!("Your server"), &json!("nora@elsewhere.test"))
    );
    let path = format!("{OPERATOR}/held/{}", text(&item["id"]));
    assert_eq!(server.get(&path).await.expect(200), *item);
    let raw = server.get(&format!("{path}/raw")).await;
    assert_eq!((raw.status, raw.header("content-type")), (200, "message/rfc822"));
    assert!(String::from_utf8_lossy(&raw.body).ends_with("Please look at your queue.\r\n"));
    let deliveries =
        server.get(&format!("{OPERATOR}/deliveries?to=abuse@reply.example.test")).await.expect(200);
    let delivery = &deliveries["items"][0];
    assert_eq!((&delivery["id"], &delivery["reason"]), (&item["id"], &json!("postmaster")));
    server.get(&format!("{OPERATOR}/deliveries/{}", text(&item["id"]))).await.expect(200);

    // R64: each of these reads is on the operator's own trail.
    let trail = server.get(&format!("{OPERATOR}/audit")).await.expect(200);
    let rows = trail["items"].as_array().unwrap();
    let read = |object: &str| rows.iter().any(|row| row["action"] == "read" && row["object"] == object);
    let one = format!("held/{}", text(&item["id"]));
    assert!(read("held") && read(&one) && read(&format!("{one}/raw")), "{trail}");
    // It is looked at; nothing else is done there.
    server.get(OPERATOR).await.problem(404);
    server.get(&format!("{OPERATOR}/contacts")).await.problem(404);
    server.post(&format!("{path}:discard"), json!({})).await.problem(404);
}

#[tokio::test]
async fn r04_what_belongs_to_no_account_is_nobody_elses_business() {
    let server = Server::start().await;
    let account = server.account().await;
    server.deliver("abuse@sync.example.test", COMPLAINT).await;
    let held = server.get(&format!("{OPERATOR}/held")).await.expect(200);
    let path = format!("{OPERATOR}/held/{}/raw", text(&held["items"][0]["id"]));
    let scopes = ["review", "messages:content", "audit"];
    let everywhere = json!({"scopes": scopes, "name": "reads in every account"});
    let everywhere = text(&server.post("/tokens", everywhere).await.expect(201)["token"]);
    for token in [everywhere, server.token(&account, &scopes).await, server.token(&account, &["admin"]).await]
    {
        for path in [
            &format!("{OPERATOR}/held"),
            &path,
            &format!("{OPERATOR}/deliveries"),
            &format!("{OPERATOR}/audit"),
        ] {
            server.as_token(&token, "GET", path, None).await.problem(404);
        }
    }
}

#[tokio::test]
async fn r64_a_held_mail_is_shown_whole_to_who_may_review_and_read_and_noted_before() {
    let server = Server::start().await;
    let account = server.account().await;
    server.patch(&account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let user = server.user(&account, "bo@practice.test").await;
    let mail = "From: bo@practice.test\nTo: ana@patient.test\nSubject: To nobody\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <b@practice.test>\n\nWords.\n";
    server.deliver(&text(&user["sync"]["sync_address"]), mail).await;
    let held = server.get(&format!("{account}/held")).await.expect(200);
    let id = text(&held["items"][0]["id"]);
    let path = format!("{account}/held/{id}/raw");
    for scopes in [&["review"][..], &["messages:content"], &["audit"]] {
        let token = server.token(&account, scopes).await;
        server.as_token(&token, "GET", &path, None).await.problem(403);
    }
    let trail = server.get(&format!("{account}/audit")).await.expect(200);
    assert!(!trail.to_string().contains("/raw"), "nothing was shown: {trail}");
    let both = server.token(&account, &["review", "messages:content"]).await;
    let raw = server.as_token(&both, "GET", &path, None).await;
    assert!(String::from_utf8_lossy(&raw.body).ends_with("\r\n\r\nWords.\r\n"));
    let trail = server.get(&format!("{account}/audit?limit=1")).await.expect(200);
    assert_eq!(trail["items"][0]["object"], format!("held/{id}/raw"));
    let other = server.account().await;
    server.get(&format!("{other}/held/{id}/raw")).await.problem(404);
}
