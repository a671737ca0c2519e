//! The audit trail (R64).

use serde_json::{Value, json};

use crate::server::{Server, keys, text};

const MAIL: &str = "From: bo@practice.test
To: ana@patient.test
Subject: Results
Date: Sun, 22 Nov 2020 02:44:05 +0000
Message-ID: <1@practice.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html

<p>Well</p>
--b
Content-Type: text/plain; name=a.txt
Content-Disposition: attachment; filename=a.txt

attached
--b--
";

async fn trail(server: &Server, account: &str, query: &str) -> Vec<Value> {
    let page = server.get(&format!("{account}/audit?limit=200{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

fn acts(rows: &[Value]) -> Vec<(String, String)> {
    rows.iter().map(|row| (text(&row["action"]), text(&row["object"]))).collect()
}

#[tokio::test]
async fn r64_every_read_of_content_is_a_row_and_one_without_content_is_none() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "bo@practice.test").await;
    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    server.deliver(&text(&user["sync"]["sync_address"]), MAIL).await;
    let token = server.token(&account, &["messages:meta"]).await;
    let timeline = format!("{account}/contacts/{ana}/timeline");
    let shown = server.as_token(&token, "GET", &timeline, None).await.expect(200);
    let (message, conversation) =
        (text(&shown["items"][0]["id"]), text(&shown["items"][0]["conversation_id"]));
    server.as_token(&token, "GET", &format!("{account}/messages/{message}"), None).await.expect(200);
    let before = trail(&server, &account, "").await.len();

    let reader = server.token(&account, &["messages:content", "attachments"]).await;
    for path in [
        format!("contacts/{ana}/timeline"),
        format!("conversations/{conversation}"),
        format!("messages/{message}"),
        format!("messages/{message}/raw"),
        format!("messages/{message}/html"),
        format!("messages/{message}/attachments/0"),
    ] {
        let answer = server.as_token(&reader, "GET", &format!("{account}/{path}"), None).await;
        assert_eq!(answer.status, 200, "{path}");
        let rows = trail(&server, &account, "").await;
        let last = &rows[0];
        assert_eq!(keys(last), ["seq", "at", "actor", "action", "object", "detail", "hash"]);
        assert_eq!((&last["action"], &last["object"]), (&json!("read"), &json!(path)));
        assert!(text(&last["actor"]).starts_with("token:"), "{last}");
        if path.starts_with("contacts") || path.starts_with("conversations") {
            assert_eq!(last["detail"], json!({"messages": [message]}));
        }
    }
    // The token, and six reads.
    assert_eq!(trail(&server, &account, "").await.len(), before + 7);
    server
        .as_token(&reader, "GET", &format!("{account}/messages/{message}/attachments/9"), None)
        .await
        .problem(404);
    assert_eq!(trail(&server, &account, "").await.len(), before + 7, "nothing was shown");
}

#[tokio::test]
async fn r64_every_change_is_a_row_in_the_account_that_it_concerns() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = text(&server.user(&account, "bo@practice.test").await["id"]);
    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    server.patch(&account, json!({"name": "New"})).await.expect(200);
    let token = server.post(
        "/tokens",
        json!({"account_id": account.trim_start_matches("/accounts/"), "scopes": ["review"], "name": "t"}),
    );
    let token = text(&token.await.expect(201)["id"]);
    let mark = format!("{account}/contacts/{ana}/sync/{user}");
    server.as_token(&server.admin, "PUT", &mark, None).await.expect(200);
    server.post(&format!("{account}/users/{user}/sync:rotate"), json!({})).await.expect(200);
    server.delete(&format!("{account}/contacts/{ana}")).await.expect(204);
    server.delete(&format!("/tokens/{token}")).await.expect(204);
    // What is refused has changed nothing.
    server.delete(&format!("{account}/contacts/{ana}")).await.problem(404);
    let rows = trail(&server, &account, "").await;
    let mut said = acts(&rows);
    said.reverse();
    let act = |action: &str, object: String| (action.to_owned(), object);
    assert_eq!(
        said,
        [
            act("create", "account".into()),
            act("create", format!("users/{user}")),
            act("create", format!("contacts/{ana}")),
            act("change", "account".into()),
            act("create", format!("tokens/{token}")),
            act("set", format!("contacts/{ana}/sync/{user}")),
            act("rotate", format!("users/{user}/sync")),
            act("purge", format!("contacts/{ana}")),
            act("purge.done", format!("contacts/{ana}")),
            act("delete", format!("contacts/{ana}")),
            act("delete", format!("tokens/{token}")),
        ]
    );
    let seqs: Vec<i64> = rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=11).rev().collect::<Vec<_>>());
    assert!(!json!(rows).to_string().contains('@'), "no address in the trail");
    let check =
        server.store.verify_audit(account.trim_start_matches("/accounts/").parse().unwrap()).await.unwrap();
    assert_eq!((check.rows, check.head, check.faults.len()), (11, 11, 0));
    assert_eq!(json!(check.head_hash), rows[0]["hash"]);
}

#[tokio::test]
async fn r64_the_trail_is_read_by_pages_time_and_actor_with_its_scope() {
    let server = Server::start().await;
    let account = server.account().await;
    for n in 0..5 {
        server.contact(&account, "A", &format!("a{n}@patient.test")).await;
    }
    let path = format!("{account}/audit");
    let contacts = server.token(&account, &["contacts", "review"]).await;
    server.as_token(&contacts, "GET", &path, None).await.problem(403);
    let auditor = server.token(&account, &["audit"]).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            server.as_token(&auditor, "GET", &format!("{path}?limit=3{cursor}"), None).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|row| row["seq"].as_i64().unwrap()));
        if page["next"].is_null() {
            break;
        }
        cursor = format!("&cursor={}", text(&page["next"]));
    }
    assert_eq!(seen, (1..=8).rev().collect::<Vec<_>>());
    let rows = trail(&server, &account, "").await;
    let fourth = rows.iter().find(|row| row["seq"] == 4).unwrap();
    let since = trail(&server, &account, &format!("&since={}", text(&fourth["at"]))).await;
    assert!(since.len() >= 5 && since.iter().all(|row| row["at"].as_str() >= fourth["at"].as_str()));
    let until = trail(&server, &account, &format!("&until={}", text(&fourth["at"]))).await;
    assert_eq!(since.len() + until.len(), 8);
    assert_eq!(trail(&server, &account, "&actor=operator").await.len(), 0);
    let who = text(&rows[0]["actor"]);
    assert_eq!(trail(&server, &account, &format!("&actor={who}")).await.len(), 8);
    server.get(&format!("{path}?since=yesterday")).await.problem(400);
}
