//! Webhooks as they are made, changed and shown. How they are served, the end-to-end tests tell.

use serde_json::{Value, json};

use crate::server::{STRANGER, Server, keys, text};

const URL: &str = "https://crm.example/hooks";

async fn made(server: &Server, account: &str) -> Value {
    server.post(&format!("{account}/webhooks"), json!({ "url": URL, "events": ["*"] })).await.expect(201)
}

#[tokio::test]
async fn a_webhook_is_made_shown_changed_and_deleted() {
    let server = Server::start().await;
    let account = server.account().await;
    let new = made(&server, &account).await;
    assert_eq!(keys(&new), ["id", "secret"]);
    assert!(text(&new["secret"]).starts_with("whsec_"), "{new}");
    let path = format!("{account}/webhooks/{}", text(&new["id"]));
    let shown = server.get(&path).await.expect(200);
    let fields =
        ["id", "url", "events", "include_content", "state", "off_because", "waiting", "dead", "created_at"];
    assert_eq!(keys(&shown), fields);
    assert_eq!(
        (&shown["url"], &shown["events"], &shown["include_content"], &shown["state"]),
        (&json!(URL), &json!(["*"]), &json!(false), &json!("on"))
    );
    let listed = server.get(&format!("{account}/webhooks")).await.expect(200);
    assert_eq!(listed, json!({ "items": [shown], "next": null }));

    let patch = json!({ "events": ["reply.received", "message.held", "reply.received"], "state": "off" });
    let changed = server.patch(&path, patch).await.expect(200);
    assert_eq!(changed["events"], json!(["message.held", "reply.received"]));
    assert_eq!((&changed["state"], &changed["off_because"]), (&json!("off"), &json!("turned off")));
    assert_eq!(changed["url"], URL);
    server.post(&format!("{path}:test"), json!({})).await.problem(409);
    server.post(&format!("{path}:replay"), json!({})).await.problem(409);
    let on = server.patch(&path, json!({ "state": "on", "include_content": true })).await.expect(200);
    assert_eq!(
        (&on["state"], &on["off_because"], &on["include_content"]),
        (&json!("on"), &Value::Null, &json!(true))
    );

    let rotated = server.post(&format!("{path}:rotate-secret"), json!({})).await.expect(200);
    assert_eq!(keys(&rotated), ["secret"]);
    assert_ne!(rotated["secret"], new["secret"]);
    let tested = server.post(&format!("{path}:test"), json!({})).await.expect(202);
    let events = server.get(&format!("{account}/events")).await.expect(200);
    assert_eq!(
        (&events["items"][0]["id"], &events["items"][0]["type"]),
        (&tested["event_id"], &json!("webhook.test"))
    );
    let empty = json!({ "items": [], "next": null });
    assert_eq!(server.get(&format!("{path}/attempts")).await.expect(200), empty);
    assert_eq!(server.get(&format!("{path}/dead-letters")).await.expect(200), empty);
    assert_eq!(server.post(&format!("{path}:replay"), json!({})).await.expect(202), json!({ "events": 0 }));
    server.post(&format!("{path}:replay"), json!({ "event_id": STRANGER })).await.problem(404);
    server.post(&format!("{path}:dance"), json!({})).await.problem(404);

    server.delete(&path).await.expect(204);
    for gone in [path.clone(), format!("{path}/attempts"), format!("{path}/dead-letters")] {
        server.get(&gone).await.problem(404);
    }
    server.delete(&path).await.problem(404);
}

#[tokio::test]
async fn what_is_no_webhook_is_refused_naming_the_field() {
    let server = Server::start().await;
    let account = server.account().await;
    let path = format!("{account}/webhooks");
    for (body, field) in [
        (json!({ "url": "ftp://crm.example/", "events": ["*"] }), "url"),
        (json!({ "url": "https://me:secret@crm.example/", "events": ["*"] }), "url"),
        (json!({ "url": format!("{URL}/{}", "x".repeat(2048)), "events": ["*"] }), "url"),
        (json!({ "url": URL, "events": [] }), "events"),
        (json!({ "url": URL, "events": ["message.filed", "message.eaten"] }), "events[1]"),
        (json!({ "url": URL, "events": ["webhook.test"] }), "events[0]"),
    ] {
        let detail = server.post(&path, body).await.problem(422);
        assert!(detail.starts_with(&format!("{field}:")), "{detail}");
    }
    for _ in 0..20 {
        made(&server, &account).await;
    }
    let one_more = json!({ "url": URL, "events": ["*"] });
    let detail = server.post(&path, one_more.clone()).await.problem(409);
    assert!(detail.contains("at most 20"), "{detail}");
    // R4: that was this account's affair.
    server.post(&format!("{}/webhooks", server.account().await), one_more).await.expect(201);
}

#[tokio::test]
async fn a_webhook_tells_no_more_than_its_maker_may_read() {
    let server = Server::start().await;
    let account = server.account().await;
    let path = format!("{account}/webhooks");
    let new = json!({ "url": URL, "events": ["*"], "include_content": true });
    let plain = server.token(&account, &["events"]).await;
    let detail = server.as_token(&plain, "POST", &path, Some(&new)).await.problem(403);
    assert!(detail.contains("messages:content"), "{detail}");
    let reader = server.token(&account, &["events", "messages:content"]).await;
    let id = text(&server.as_token(&reader, "POST", &path, Some(&new)).await.expect(201)["id"]);
    let one = format!("{path}/{id}");
    // Nor may it be moved to where its mover listens.
    let away = json!({ "url": "https://elsewhere.example/" });
    server.as_token(&plain, "PATCH", &one, Some(&away)).await.problem(403);
    server.as_token(&plain, "PATCH", &one, Some(&json!({ "events": ["message.filed"] }))).await.expect(200);
    let stranger = server.token(&account, &["contacts", "messages:content"]).await;
    server.as_token(&stranger, "GET", &path, None).await.problem(403);
    let other = server.account().await;
    let outsider = server.token(&other, &["events"]).await;
    server.as_token(&outsider, "GET", &one, None).await.problem(404);
    server.as_token(&outsider, "GET", &format!("{other}/webhooks/{id}"), None).await.problem(404);
}

#[tokio::test]
async fn a_repeated_creation_gives_the_same_secret_and_one_webhook() {
    let server = Server::start().await;
    let account = server.account().await;
    let body = json!({ "url": URL, "events": ["*"] });
    let create = || {
        let request = server.request(reqwest::Method::POST, &format!("{account}/webhooks"));
        Server::send(request.bearer_auth(&server.admin).header("idempotency-key", "k1").json(&body))
    };
    let (first, second) = (create().await.expect(201), create().await.expect(201));
    assert_eq!(first, second);
    let listed = server.get(&format!("{account}/webhooks")).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn r51_a_bounce_and_a_complaint_are_told_with_recipient_and_status() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "bo@practice.test").await;
    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    let sent = json!({
        "message_id_header": "crm-1@practice.test", "contact_id": ana, "user_id": text(&user["id"]),
        "subject": "Hello", "sent_at": "2026-11-20T10:00:00Z", "text": "Hello Ana",
    });
    let sent = server.post(&format!("{account}/messages"), sent).await.expect(201);
    let new = json!({ "contact_id": ana, "conversation_id": sent["conversation_id"] });
    let reply = server.post(&format!("{account}/reply-addresses"), new).await.expect(201);
    let bounce = "From: MAILER-DAEMON@mx.patient.test\nTo: x@practice.test\nSubject: Undelivered Mail Returned to Sender\n\
        Date: Fri, 20 Nov 2026 10:01:00 +0000\nMessage-ID: <dsn-1@mx.patient.test>\nMIME-Version: 1.0\n\
        Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
        --b\nContent-Type: text/plain\n\nIt could not be delivered.\n\
        --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.patient.test\n\n\
        Final-Recipient: rfc822; ana@patient.test\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no such user\n\n\
        --b\nContent-Type: message/rfc822\n\nFrom: bo@practice.test\nTo: ana@patient.test\nSubject: Hello\n\
        Message-ID: <crm-1@practice.test>\n\nHello Ana\n--b--\n";
    server.deliver(&text(&reply["address"]), bounce).await;
    let complaint = "From: abuse@mx.patient.test\nTo: x@practice.test\nSubject: Complaint\n\
        Date: Fri, 20 Nov 2026 10:02:00 +0000\nMessage-ID: <arf-1@mx.patient.test>\nMIME-Version: 1.0\n\
        Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
        --b\nContent-Type: text/plain\n\nThis is a complaint.\n\
        --b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: X/1\nVersion: 1\n\
        Original-Rcpt-To: ana@patient.test\n\n\
        --b\nContent-Type: message/rfc822\n\nFrom: bo@practice.test\nTo: ana@patient.test\nSubject: Hello\n\
        Message-ID: <crm-1@practice.test>\n\nHello Ana\n--b--\n";
    server.deliver(&text(&reply["address"]), complaint).await;
    let events = server.get(&format!("{account}/events")).await.expect(200);
    let events = events["items"].as_array().unwrap();
    let told = |kind: &str| {
        let found: Vec<&Value> = events.iter().filter(|event| event["type"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind}: {events:#?}");
        found[0]["data"].clone()
    };
    let bounced = told("message.bounced");
    assert_eq!(
        keys(&bounced),
        [
            "message_id",
            "conversation_id",
            "contact_id",
            "user_id",
            "original_message_id_header",
            "recipients"
        ]
    );
    assert_eq!(bounced["conversation_id"], sent["conversation_id"]);
    assert_eq!(bounced["original_message_id_header"], "crm-1@practice.test");
    assert_eq!(
        bounced["recipients"],
        json!([{ "email": "ana@patient.test", "action": "failed", "status": "5.1.1" }])
    );
    let complained = told("message.complained");
    assert_eq!(complained["contact_id"], ana.as_str());
    assert_eq!(complained["recipients"][0]["email"], "ana@patient.test");
    assert!(!events.iter().any(|event| event["type"] == "reply.received"));
}
