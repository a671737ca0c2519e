//! Tokens, scopes, the walls between accounts, problem documents, limits, health.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{STRANGER, Server, text};

#[tokio::test]
async fn without_a_valid_token_the_answer_is_401_with_a_challenge() {
    let server = Server::start().await;
    for token in [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic YTpi"), Some("smx_x")] {
        let mut request = server.request(Method::GET, "/accounts");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let answer = Server::send(request).await;
        answer.problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{token:?}");
    }
    let long = Server::send(server.request(Method::GET, "/accounts").bearer_auth("x".repeat(5000))).await;
    long.problem(401);
    let scheme =
        server.request(Method::GET, "/accounts").header("authorization", format!("bearer {}", server.admin));
    Server::send(scheme).await.expect(200);
}

#[tokio::test]
async fn r04_another_account_looks_like_none_at_all() {
    let server = Server::start().await;
    let (mine, other) = (server.account().await, server.account().await);
    let token = server.token(&mine, &["admin"]).await;
    let contact = server.contact(&other, "Ana", "ana@patient.test").await;
    let user = text(&server.user(&other, "bo@practice.test").await["id"]);
    let nowhere = format!("/accounts/{STRANGER}");
    for path in ["", "/users", "/contacts", "/deliveries", "/held", "/events", "/sync-marks"] {
        let there = server.as_token(&token, "GET", &format!("{other}{path}"), None).await;
        let missing = server.as_token(&token, "GET", &format!("{nowhere}{path}"), None).await;
        assert_eq!(there.problem(404), missing.problem(404), "{path}");
        server.get(&format!("{nowhere}{path}")).await.problem(404);
    }
    // Its own account in the path, another's thing behind it.
    for path in
        [format!("/contacts/{contact}"), format!("/contacts/{contact}/timeline"), format!("/users/{user}")]
    {
        server.as_token(&token, "GET", &format!("{mine}{path}"), None).await.problem(404);
    }
    let body = json!({"contact_id": contact});
    server.as_token(&token, "POST", &format!("{mine}/reply-addresses"), Some(&body)).await.problem(404);
    server
        .as_token(&token, "PUT", &format!("{mine}/contacts/{contact}/sync/{user}"), None)
        .await
        .problem(404);
    server.as_token(&token, "DELETE", &format!("{mine}/contacts/{contact}"), None).await.problem(404);
    let made =
        json!({"account_id": other.trim_start_matches("/accounts/"), "scopes": ["admin"], "name": "x"});
    server.as_token(&token, "POST", "/tokens", Some(&made)).await.problem(404);
    server
        .as_token(&token, "POST", "/tokens", Some(&json!({"scopes": ["admin"], "name": "x"})))
        .await
        .problem(403);
    server.as_token(&token, "POST", "/accounts", Some(&json!({"name": "x"}))).await.problem(403);
    let accounts = server.as_token(&token, "GET", "/accounts", None).await.expect(200);
    assert_eq!(accounts["items"].as_array().unwrap().len(), 1);
    let tokens = server.as_token(&token, "GET", "/tokens", None).await.expect(200);
    assert_eq!(tokens["items"].as_array().unwrap().len(), 1);
    let all = server.get("/tokens").await.expect(200);
    let admin = text(&all["items"][0]["id"]);
    server.as_token(&token, "DELETE", &format!("/tokens/{admin}"), None).await.problem(404);
    // What belongs to no account is no account.
    for path in ["", "/users", "/contacts", "/events"] {
        server.get(&format!("/accounts/00000000-0000-0000-0000-000000000000{path}")).await.problem(404);
    }
}

#[tokio::test]
async fn a_token_may_do_what_its_scopes_say_and_nothing_else() {
    let server = Server::start().await;
    let account = server.account().await;
    let contact = server.contact(&account, "Ana", "ana@patient.test").await;
    let user = text(&server.user(&account, "bo@practice.test").await["id"]);
    let rows: &[(&str, String, &[&str])] = &[
        (
            "GET",
            account.clone(),
            &["addresses", "audit", "contacts", "events", "messages:meta", "purge", "review"],
        ),
        ("PATCH", account.clone(), &[]),
        ("GET", format!("{account}/users"), &["addresses", "contacts"]),
        ("POST", format!("{account}/users/{user}/sync:connect"), &["addresses"]),
        ("GET", format!("{account}/contacts"), &["contacts"]),
        ("GET", format!("{account}/contacts/{contact}/sync"), &["contacts"]),
        ("GET", format!("{account}/contacts/{contact}/timeline"), &["messages:meta", "messages:content"]),
        ("GET", format!("{account}/deliveries"), &["messages:meta", "messages:content", "review"]),
        ("GET", format!("{account}/held"), &["review"]),
        ("GET", format!("{account}/events"), &["events"]),
        ("GET", "/tokens".to_owned(), &[]),
    ];
    for scope in
        ["addresses", "audit", "contacts", "events", "messages:meta", "messages:content", "purge", "review"]
    {
        let token = server.token(&account, &[scope]).await;
        for (method, path, allowed) in rows {
            let body = (*method != "GET").then(|| json!({}));
            let answer = server.as_token(&token, method, path, body.as_ref()).await;
            if allowed.contains(&scope) || (*path == account && *method == "GET") {
                answer.expect(200);
            } else {
                assert!(answer.problem(403).contains("scope"), "{scope} {method} {path}");
            }
        }
    }
    let contacts = server.token(&account, &["contacts"]).await;
    let seen = server.as_token(&contacts, "GET", &format!("{account}/users"), None).await.expect(200);
    assert_eq!(seen["items"][0]["sync"], json!({"state": "on", "sync_address": null, "auto_address": null}));
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let server = Server::start().await;
    let account = server.account().await;
    let raw = async |body: Vec<u8>| {
        let request = server.request(Method::POST, &format!("{account}/contacts")).bearer_auth(&server.admin);
        Server::send(request.body(body)).await
    };
    server.get("/nowhere").await.problem(404);
    Server::send(server.request(Method::GET, "/api/v1/nowhere")).await.problem(404);
    Server::send(server.request(Method::GET, "/")).await.problem(404);
    for (method, path) in [("PUT", "/accounts"), ("DELETE", account.as_str()), ("POST", "/healthz")] {
        let answer = server.as_token(&server.admin, method, path, None).await;
        answer.problem(405);
        assert!(!answer.header("allow").is_empty(), "{method} {path}");
    }
    raw(b"{".to_vec()).await.problem(400);
    raw(b"\xff\xfe".to_vec()).await.problem(400);
    raw(b"{} {}".to_vec()).await.problem(422);
    raw(br#"{"name":"A","email":"a@a.test"} x"#.to_vec()).await.problem(400);
    raw(b"[]".to_vec()).await.problem(422);
    for id in ["x", "123", "%00", "..", "0192f0c1-2345-7abc-8def-0123456789a"] {
        let answer = server.get(&format!("{account}/contacts/{id}")).await;
        assert!(matches!(answer.status, 404 | 405), "{id}: {}", answer.status);
    }
    server.get("/accounts/x").await.problem(404);
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_read_and_one_octet_more_is_413() {
    let server = Server::start().await;
    let account = server.account().await;
    let path = format!("{account}/contacts");
    let body = |octets: usize| {
        let start = r#"{"name":"A","email":"a@a.test"}"#;
        format!("{start}{}", " ".repeat(octets - start.len()))
    };
    for key in [None, Some("k")] {
        for (octets, status) in [(1024 * 1024, 201), (1024 * 1024 + 1, 413)] {
            let mut request =
                server.request(Method::POST, &path).bearer_auth(&server.admin).body(body(octets));
            if let Some(key) = key {
                request = request.header("idempotency-key", format!("{key}{octets}"));
            }
            let answer = Server::send(request).await;
            assert_eq!(answer.status, status, "{octets} {key:?}");
            if status == 413 {
                answer.problem(413);
            }
        }
    }
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_token() {
    let server = Server::start().await;
    let open = async |path: &str| Server::send(server.request(Method::GET, path)).await;
    assert_eq!(open("/healthz").await.status, 200);
    assert_eq!(open("/readyz").await.status, 200);
    let metrics = open("/metrics").await;
    assert_eq!(
        (metrics.status, metrics.header("content-type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    server.draining.cancel();
    open("/readyz").await.problem(503);
    assert_eq!(open("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_store_that_is_away_is_503_without_inner_details() {
    let server = Server::start().await;
    let account = server.account().await;
    server.store.close().await;
    let answer = Server::send(server.request(Method::GET, "/readyz")).await;
    answer.problem(503);
    let detail = server.get(&account).await.problem(503);
    assert_eq!(detail, "the store cannot be used now");
    assert_eq!(Server::send(server.request(Method::GET, "/healthz")).await.status, 200);
}

#[tokio::test]
async fn the_server_finishes_open_requests_and_stops() {
    let server = Server::start().await;
    let mut open = tokio::net::TcpStream::connect(server.address).await.unwrap();
    open.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    server.get("/accounts").await.expect(200);
    server.shutdown.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(15), server.serving).await;
    stopped.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn the_mta_sts_policy_is_served_to_its_hosts_alone() {
    let server = Server::start().await;
    let ask =
        |host: &'static str| server.request(Method::GET, "/.well-known/mta-sts.txt").header("host", host);
    for host in ["mta-sts.sync.example.test", "MTA-STS.reply.example.test:443"] {
        let answer = Server::send(ask(host)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; charset=utf-8"));
        let text = String::from_utf8(answer.body).unwrap();
        let policy = "version: STSv1\r\nmode: testing\r\nmx: mx.example.test\r\nmax_age: 86400\r\n";
        assert_eq!(text, policy);
    }
    for host in ["sync.example.test", "mta-sts.elsewhere.test", "127.0.0.1"] {
        Server::send(ask(host)).await.problem(404);
    }
}
