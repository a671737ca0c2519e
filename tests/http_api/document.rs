//! The OpenAPI document: valid, complete, and of the same mind as the router.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use crate::server::{STRANGER, Server};

/// Every route of CONTRACT that is served today.
const ROUTES: &[&str] = &[
    "DELETE /api/v1/accounts/{account}/contacts/{contact}",
    "DELETE /api/v1/accounts/{account}/contacts/{contact}/sync/{user}",
    "DELETE /api/v1/accounts/{account}/webhooks/{webhook}",
    "DELETE /api/v1/tokens/{token}",
    "GET /api/v1/accounts",
    "GET /api/v1/accounts/{account}",
    "GET /api/v1/accounts/{account}/audit",
    "GET /api/v1/accounts/{account}/contacts",
    "GET /api/v1/accounts/{account}/contacts/{contact}",
    "GET /api/v1/accounts/{account}/contacts/{contact}/sync",
    "GET /api/v1/accounts/{account}/contacts/{contact}/timeline",
    "GET /api/v1/accounts/{account}/conversations/{conversation}",
    "GET /api/v1/accounts/{account}/deliveries",
    "GET /api/v1/accounts/{account}/deliveries/{delivery}",
    "GET /api/v1/accounts/{account}/events",
    "GET /api/v1/accounts/{account}/held",
    "GET /api/v1/accounts/{account}/held/{delivery}",
    "GET /api/v1/accounts/{account}/held/{delivery}/raw",
    "GET /api/v1/accounts/{account}/messages/{message}",
    "GET /api/v1/accounts/{account}/messages/{message}/attachments/{n}",
    "GET /api/v1/accounts/{account}/messages/{message}/html",
    "GET /api/v1/accounts/{account}/messages/{message}/raw",
    "GET /api/v1/accounts/{account}/relay-jobs",
    "GET /api/v1/accounts/{account}/search",
    "GET /api/v1/accounts/{account}/sync-marks",
    "GET /api/v1/accounts/{account}/users",
    "GET /api/v1/accounts/{account}/users/{user}",
    "GET /api/v1/accounts/{account}/webhooks",
    "GET /api/v1/accounts/{account}/webhooks/{webhook}",
    "GET /api/v1/accounts/{account}/webhooks/{webhook}/attempts",
    "GET /api/v1/accounts/{account}/webhooks/{webhook}/dead-letters",
    "GET /api/v1/tokens",
    "PATCH /api/v1/accounts/{account}",
    "PATCH /api/v1/accounts/{account}/contacts/{contact}",
    "PATCH /api/v1/accounts/{account}/webhooks/{webhook}",
    "POST /api/v1/accounts",
    "POST /api/v1/accounts/{account}/contacts",
    "POST /api/v1/accounts/{account}/contacts:import",
    "POST /api/v1/accounts/{account}/conversations/{conversation}:revoke-reply-addresses",
    "POST /api/v1/accounts/{account}/held/{delivery}:discard",
    "POST /api/v1/accounts/{account}/held/{delivery}:file",
    "POST /api/v1/accounts/{account}/messages",
    "POST /api/v1/accounts/{account}/messages/{message}:undo",
    "POST /api/v1/accounts/{account}/purge",
    "POST /api/v1/accounts/{account}/relay-jobs/{job}/retry",
    "POST /api/v1/accounts/{account}/reply-addresses",
    "POST /api/v1/accounts/{account}/users",
    "POST /api/v1/accounts/{account}/users/{user}/emails",
    "POST /api/v1/accounts/{account}/users/{user}/sync:connect",
    "POST /api/v1/accounts/{account}/users/{user}/sync:disconnect",
    "POST /api/v1/accounts/{account}/users/{user}/signers:forget",
    "POST /api/v1/accounts/{account}/users/{user}/sync:rotate",
    "POST /api/v1/accounts/{account}/webhooks",
    "POST /api/v1/accounts/{account}/webhooks/{webhook}:replay",
    "POST /api/v1/accounts/{account}/webhooks/{webhook}:rotate-secret",
    "POST /api/v1/accounts/{account}/webhooks/{webhook}:test",
    "POST /api/v1/tokens",
    "PUT /api/v1/accounts/{account}/contacts/{contact}/sync/{user}",
];

async fn document(server: &Server) -> Value {
    Server::send(server.request(Method::GET, "/api/v1/openapi.json")).await.expect(200)
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "patch", "delete"] {
            if let Some(operation) = item.get(method) {
                found.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    found
}

#[tokio::test]
async fn the_document_lists_every_route_and_every_route_of_it_is_served() {
    let server = Server::start().await;
    let document = document(&server).await;
    let described: BTreeSet<String> =
        operations(&document).into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(described, ROUTES.iter().map(|route| (*route).to_owned()).collect());
    for (method, path, _) in operations(&document) {
        let mut real = path.clone();
        while let (Some(open), Some(close)) = (real.find('{'), real.find('}')) {
            real.replace_range(open..=close, STRANGER);
        }
        let method: Method = method.parse().unwrap();
        let open = Server::send(server.request(method.clone(), &real)).await;
        assert_eq!(open.status, 401, "{method} {path}");
        // With a token the router finds a handler: it answers, and not that there is no such path or method.
        let answer = Server::send(server.request(method.clone(), &real).bearer_auth(&server.admin)).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status != 405 && !said.contains("no such path"), "{method} {path}: {said}");
    }
}

#[tokio::test]
async fn the_document_is_openapi_3_1_with_schemas_security_and_problems() {
    let server = Server::start().await;
    let document = document(&server).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    assert_eq!(document["info"]["title"], "syncmx");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert!(document["security"][0].get("token").is_some());
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let name = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}");
        for status in ["400", "401", "403", "404", "429"] {
            let schema = &operation["responses"][status]["content"]["application/problem+json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{name} {status}");
        }
        let success =
            operation["responses"].as_object().unwrap().keys().filter(|s| s.starts_with('2')).count();
        assert_eq!(success, 1, "{name}");
        for response in operation["responses"].as_object().unwrap().values() {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{name}");
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for part in path.split(['/', ':']).filter_map(|part| part.strip_prefix('{')) {
            let wanted = part.trim_end_matches('}');
            let declared = parameters.iter().find(|p| p["name"] == wanted && p["in"] == "path");
            assert!(declared.is_some_and(|p| p["required"] == true), "{name}: {wanted}");
        }
    }
    references(&document, &document);
}

/// Every reference leads somewhere.
fn references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{target}");
            }
            fields.values().for_each(|field| references(document, field));
        }
        Value::Array(items) => items.iter().for_each(|item| references(document, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn what_the_document_says_of_a_body_holds_for_the_answers() {
    let server = Server::start().await;
    let document = document(&server).await;
    let account = server.account().await;
    server.contact(&account, "Ana", "ana@patient.test").await;
    server.user(&account, "bo@practice.test").await;
    for (path, schema) in [("", "Account"), ("/contacts", "Contact"), ("/users", "User")] {
        let answer = server.get(&format!("{account}{path}")).await.expect(200);
        let shown = if path.is_empty() { &answer } else { &answer["items"][0] };
        let properties = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        let described: BTreeSet<_> = properties.keys().collect();
        assert_eq!(shown.as_object().unwrap().keys().collect::<BTreeSet<_>>(), described, "{schema}");
    }
}
