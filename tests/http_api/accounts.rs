//! Accounts, settings, users, sync addresses, tokens.

use serde_json::{Value, json};
use syncmx::address::EmailAddress;
use syncmx::smtp::ForwardPath;
use syncmx::store::Lookup;

use crate::server::{STRANGER, Server, keys, text};

const SETTINGS: [&str; 13] = [
    "internal_domains",
    "internal_addresses",
    "never_log",
    "unknown_to",
    "daily_limit",
    "forward_replies",
    "attachments",
    "trusted_arc_sealers",
    "journal_sources",
    "held_days",
    "content_days",
    "trace_days",
    "mark_idle_months",
];

#[tokio::test]
async fn an_account_has_the_defaults_until_a_patch_replaces_the_keys_given() {
    let server = Server::start().await;
    let made =
        server.post("/accounts", json!({"name": "Praxis", "settings": {"held_days": 7}})).await.expect(201);
    assert_eq!(keys(&made), ["id", "name", "settings", "created_at"]);
    assert_eq!(keys(&made["settings"]), SETTINGS);
    assert_eq!(made["settings"]["held_days"], 7);
    assert_eq!(made["settings"]["unknown_to"], "create");
    assert_eq!(made["settings"]["trusted_arc_sealers"], json!(["google.com", "microsoft.com"]));
    let path = format!("/accounts/{}", text(&made["id"]));
    assert_eq!(server.get(&path).await.expect(200), made);

    let patch =
        json!({"settings": {"unknown_to": "hold", "attachments": {"max_each": 5}, "content_days": 400}});
    let patched = server.patch(&path, patch).await.expect(200);
    assert_eq!(patched["settings"]["held_days"], 7);
    assert_eq!(patched["settings"]["unknown_to"], "hold");
    assert_eq!(patched["settings"]["attachments"]["max_each"], 5);
    let back = json!({"name": "New", "settings": {"content_days": null}});
    let patched = server.patch(&path, back).await.expect(200);
    assert_eq!((&patched["settings"]["content_days"], &patched["name"]), (&Value::Null, &json!("New")));
    assert_eq!(server.get(&path).await.expect(200), patched);
    assert_eq!(server.get("/accounts").await.expect(200)["items"], json!([patched]));
}

#[tokio::test]
async fn a_setting_that_cannot_be_taken_is_named() {
    let server = Server::start().await;
    let path = server.account().await;
    for (patch, named) in [
        (json!({"settings": {"hold_days": 3}}), "settings.hold_days"),
        (json!({"settings": {"daily_limit": "x"}}), "settings.daily_limit"),
        (json!({"settings": {"never_log": ["a b"]}}), "settings.never_log"),
        (json!({"settings": {"forward_replies": "me"}}), "settings.forward_replies"),
        (json!({"settings": [1]}), "settings"),
        (json!({"nam": "x"}), "nam"),
        (json!({"name": ""}), "name"),
    ] {
        let detail = server.patch(&path, patch).await.problem(422);
        assert!(detail.contains(named), "{detail}");
    }
}

#[tokio::test]
async fn a_user_of_an_administrator_is_verified_and_has_a_sync_address() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "Bo@practice.test").await;
    assert_eq!(
        keys(&user),
        [
            "id",
            "name",
            "role",
            "emails",
            "sync",
            "created_at",
            "feeds",
            "remembered_signers",
            "forwarding_confirmation"
        ]
    );
    assert_eq!(keys(&user["emails"][0]), ["address", "verified_at"]);
    assert_eq!(user["emails"][0]["address"], "Bo@practice.test");
    assert!(user["emails"][0]["verified_at"].is_string());
    assert_eq!(keys(&user["sync"]), ["state", "sync_address", "auto_address"]);
    let address = text(&user["sync"]["sync_address"]);
    let (prefix, rest) = address.split_once('-').unwrap();
    let (secret, domain) = rest.split_once('@').unwrap();
    assert_eq!((prefix, secret.len(), domain), ("drbohansen", 12, "sync.example.test"));
    assert_eq!(user["sync"]["auto_address"], address.replace('@', "+auto@"));
    let path = format!("{account}/users/{}", text(&user["id"]));
    assert_eq!(server.get(&path).await.expect(200), user);
    assert_eq!(
        server.get(&format!("{account}/users")).await.expect(200),
        json!({"items": [user], "next": null})
    );
}

#[tokio::test]
async fn r10_an_address_is_an_identity_only_on_an_administrators_word() {
    let server = Server::start().await;
    let account = server.account().await;
    let token = server.token(&account, &["addresses"]).await;
    let body = json!({"name": "Ana", "emails": ["ana@practice.test"], "role": "staff"});
    let users = format!("{account}/users");
    let user = server.as_token(&token, "POST", &users, Some(&body)).await.expect(201);
    assert_eq!(user["emails"][0]["verified_at"], Value::Null);
    let emails = format!("{users}/{}/emails", text(&user["id"]));
    let wish = json!({"address": "second@practice.test", "verified": true});
    server.as_token(&token, "POST", &emails, Some(&wish)).await.problem(403);
    let plain = json!({"address": "second@practice.test"});
    let user = server.as_token(&token, "POST", &emails, Some(&plain)).await.expect(201);
    assert_eq!(user["emails"][1], json!({"address": "second@practice.test", "verified_at": null}));
    let user = server.post(&emails, wish).await.expect(201);
    assert!(user["emails"][1]["verified_at"].is_string());
    let other = server.post(&users, json!({"name": "X", "emails": ["ANA@practice.test"], "role": "r"})).await;
    assert!(other.problem(409).contains("emails[0]"));
    let served = server.post(&emails, json!({"address": "me@sync.example.test"})).await;
    assert!(served.problem(422).contains("address"));
    assert!(server.post(&emails, json!({"address": "nobody"})).await.problem(422).contains("address"));
}

#[tokio::test]
async fn r62_a_rotated_or_disconnected_address_is_off_at_once() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "bo@practice.test").await;
    let path = format!("{account}/users/{}", text(&user["id"]));
    let first = address_of(&user);
    assert!(matches!(server.mailbox(&first).await, Lookup::Found(_)));

    let rotated = server.post(&format!("{path}/sync:rotate"), json!({})).await.expect(200);
    let second = address_of(&rotated);
    assert!(matches!(server.mailbox(&first).await, Lookup::Off(_)));
    assert!(matches!(server.mailbox(&second).await, Lookup::Found(_)));

    let unknown = server.post(&format!("{path}/sync:disconnect"), json!({"purge": "yours"})).await;
    assert!(unknown.problem(422).contains("purge"));
    let off = server.post(&format!("{path}/sync:disconnect"), json!({"purge": "none"})).await.expect(200);
    assert_eq!(off["sync"]["state"], "off");
    assert!(matches!(server.mailbox(&second).await, Lookup::Off(_)));

    let on = server.post(&format!("{path}/sync:connect"), json!({})).await.expect(200);
    assert_eq!((address_of(&on), &on["sync"]["state"]), (second.clone(), &json!("on")));
    assert!(matches!(server.mailbox(&second).await, Lookup::Found(_)));
    server.post(&format!("{account}/users/{STRANGER}/sync:rotate"), json!({})).await.problem(404);
}

fn address_of(user: &Value) -> ForwardPath {
    ForwardPath::Address(EmailAddress::parse(user["sync"]["sync_address"].as_str().unwrap()).unwrap())
}

#[tokio::test]
async fn a_token_is_shown_once_and_ends_when_it_is_deleted() {
    let server = Server::start().await;
    let account = server.account().await;
    let id = account.trim_start_matches("/accounts/");
    let made = json!({"account_id": id, "scopes": ["contacts", "events"], "name": "CRM"});
    let made = server.post("/tokens", made).await.expect(201);
    assert_eq!(keys(&made), ["id", "token"]);
    let secret = text(&made["token"]);
    let listed = server.get("/tokens").await.expect(200);
    let token = &listed["items"][1];
    assert_eq!(keys(token), ["id", "account_id", "name", "scopes", "created_at"]);
    assert_eq!((&token["id"], &token["scopes"]), (&made["id"], &json!(["contacts", "events"])));
    assert!(!listed.to_string().contains(&secret));
    server.as_token(&secret, "GET", &format!("{account}/contacts"), None).await.expect(200);
    server.delete(&format!("/tokens/{}", text(&made["id"]))).await.expect(204);
    server.as_token(&secret, "GET", &format!("{account}/contacts"), None).await.problem(401);
    server.delete(&format!("/tokens/{}", text(&made["id"]))).await.problem(404);
}

#[tokio::test]
async fn a_token_without_an_account_may_do_in_every_account_what_its_scopes_say() {
    let server = Server::start().await;
    let account = server.account().await;
    let made = server.post("/tokens", json!({"scopes": ["contacts"], "name": "x"})).await.expect(201);
    let token = made["token"].as_str().unwrap().to_owned();
    server.as_token(&token, "GET", &format!("{account}/contacts"), None).await.expect(200);
    server.as_token(&token, "GET", &format!("{account}/deliveries"), None).await.problem(403);
    server.as_token(&token, "GET", &format!("/accounts/{STRANGER}/contacts"), None).await.problem(404);
    server.as_token(&token, "POST", "/accounts", Some(&json!({"name": "y"}))).await.problem(403);
    server
        .as_token(&token, "POST", "/tokens", Some(&json!({"scopes": ["admin"], "name": "y"})))
        .await
        .problem(403);
}

#[tokio::test]
async fn a_token_needs_known_scopes_and_a_name() {
    let server = Server::start().await;
    for (body, named) in [
        (json!({"scopes": [], "name": "x"}), "scopes"),
        (json!({"scopes": ["everything"], "name": "x"}), "scopes[0]"),
        (json!({"scopes": ["admin"], "name": ""}), "name"),
        (json!({"scopes": "admin", "name": "x"}), "scopes"),
    ] {
        let detail = server.post("/tokens", body).await.problem(422);
        assert!(detail.contains(named), "{detail}");
    }
    server
        .post("/tokens", json!({"account_id": STRANGER, "scopes": ["admin"], "name": "x"}))
        .await
        .problem(404);
    server.post("/tokens", json!({"scopes": ["admin"], "name": "second"})).await.expect(201);
}
