//! Idempotency keys.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Answer, Server, text};

async fn write(server: &Server, token: &str, path: &str, key: &str, body: &Value) -> Answer {
    let request = server.request(Method::POST, path).bearer_auth(token).header("idempotency-key", key);
    Server::send(request.json(body)).await
}

#[tokio::test]
async fn the_same_key_and_request_is_answered_again_and_done_once() {
    let server = Server::start().await;
    let account = server.account().await;
    let path = format!("{account}/contacts");
    let body = json!({"name": "Ana", "email": "ana@patient.test"});
    let first = write(&server, &server.admin, &path, "k1", &body).await;
    let again = write(&server, &server.admin, &path, "k1", &body).await;
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!(first.header("content-type"), again.header("content-type"));
    let other = json!({"name": "Bea", "email": "bea@patient.test"});
    write(&server, &server.admin, &path, "k1", &other).await.problem(409);
    write(&server, &server.admin, &format!("{account}/users"), "k1", &body).await.problem(409);
    assert_ne!(write(&server, &server.admin, &path, "k2", &body).await.expect(201), first.json());
    let all = server.get(&path).await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    write(&server, &server.admin, &path, &"k".repeat(255), &other).await.expect(201);
    write(&server, &server.admin, &path, &"k".repeat(256), &other).await.problem(400);
}

#[tokio::test]
async fn the_same_key_at_the_same_time_makes_one_thing() {
    let server = Server::start().await;
    let path = format!("{}/contacts", server.account().await);
    let body = json!({"name": "Ana", "email": "ana@patient.test"});
    let (a, b, c) = tokio::join!(
        write(&server, &server.admin, &path, "k", &body),
        write(&server, &server.admin, &path, "k", &body),
        write(&server, &server.admin, &path, "k", &body)
    );
    for answer in [a, b, c] {
        assert!(matches!(answer.status, 201 | 409), "{answer:?}");
    }
    assert_eq!(server.get(&path).await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_remembered_and_a_204_is() {
    let server = Server::start().await;
    let account = server.account().await;
    let path = format!("{account}/contacts");
    write(&server, &server.admin, &path, "k", &json!({"name": "Ana"})).await.problem(422);
    let made = write(&server, &server.admin, &path, "k", &json!({"name": "Ana", "email": "a@a.test"})).await;
    let contact = format!("{path}/{}", text(&made.expect(201)["id"]));
    for _ in 0..2 {
        let request = server.request(Method::DELETE, &contact).bearer_auth(&server.admin);
        let answer = Server::send(request.header("idempotency-key", "d")).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
    }
    server.delete(&contact).await.problem(404);
}

#[tokio::test]
async fn keys_of_one_token_are_not_those_of_another() {
    let server = Server::start().await;
    let (mine, other) = (server.account().await, server.account().await);
    let (one, two) = (server.token(&mine, &["contacts"]).await, server.token(&other, &["contacts"]).await);
    let body = json!({"name": "Ana", "email": "ana@patient.test"});
    write(&server, &one, &format!("{mine}/contacts"), "k", &body).await.expect(201);
    write(&server, &two, &format!("{other}/contacts"), "k", &body).await.expect(201);
    let reader = server.token(&mine, &["review"]).await;
    write(&server, &reader, &format!("{mine}/contacts"), "k", &body).await.problem(409);
}

#[tokio::test]
async fn a_token_is_shown_again_to_its_key_but_not_kept_in_clear() {
    let server = Server::start().await;
    let body = json!({"scopes": ["admin"], "name": "x"});
    let first = write(&server, &server.admin, "/tokens", "k", &body).await.expect(201);
    let again = write(&server, &server.admin, "/tokens", "k", &body).await.expect(201);
    assert_eq!(first, again);
    assert_eq!(server.get("/tokens").await.expect(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_import_with_a_key_is_done_once() {
    let server = Server::start().await;
    let path = format!("{}/contacts:import", server.account().await);
    let send = async |csv: &'static str| {
        let request = server.request(Method::POST, &path).bearer_auth(&server.admin);
        Server::send(request.header("content-type", "text/csv").header("idempotency-key", "i").body(csv))
            .await
    };
    let first = send("name,email\nA,a@a.test\n").await.expect(200);
    assert_eq!(first["created"], 1);
    assert_eq!(send("name,email\nA,a@a.test\n").await.expect(200), first);
    send("name,email\nB,b@a.test\n").await.problem(409);
}
