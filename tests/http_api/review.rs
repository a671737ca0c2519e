//! The review queue.

use futures_util::StreamExt;
use serde_json::{Value, json};

use syncmx::filing::Decision;
use syncmx::store::directory::Erasing;
use syncmx::time::Timestamp;

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
    let events = server.get(&format!("{account}/events?limit=200")).await.expect(200);
    assert!(!events.to_string().contains("To nobody"), "its event is gone with it: {events}");
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

#[tokio::test]
async fn r36_held_mail_is_filed_under_the_contact_that_a_person_names() {
    let server = Server::start().await;
    let account = server.account().await;
    let item = held(&server, &account).await;
    let path = format!("{account}/held/{}", text(&item["id"]));
    server.post(&format!("{path}:file"), json!({})).await.problem(422);
    server.post(&format!("{path}:file"), json!({"contact_id": STRANGER})).await.problem(404);
    server
        .post(&format!("{account}/held/{STRANGER}:file"), json!({"contact_id": STRANGER}))
        .await
        .problem(404);
    let both =
        json!({"contact_id": STRANGER, "create_contact": {"name": "Ana", "email": "ana@patient.test"}});
    server.post(&format!("{path}:file"), both).await.problem(422);
    let bad = json!({"create_contact": {"name": "Ana", "email": "nonsense"}});
    server.post(&format!("{path}:file"), bad).await.problem(422);
    server.get(&path).await.expect(200);

    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    let filed = server.post(&format!("{path}:file"), json!({"contact_id": ana})).await.expect(200);
    assert_eq!(keys(&filed), ["id", "outcome", "reason", "message_id", "contact_id"]);
    assert_eq!((&filed["id"], &filed["outcome"]), (&item["id"], &json!("filed")));
    assert_eq!(filed["contact_id"], json!(ana));
    server.get(&path).await.problem(404);
    server.post(&format!("{path}:file"), json!({"contact_id": ana})).await.problem(404);

    let message = format!("{account}/messages/{}", text(&filed["message_id"]));
    let shown = server.get(&message).await.expect(200);
    assert_eq!((&shown["subject"], &shown["direction"]), (&json!("To nobody"), &json!("outbound")));
    assert_eq!((&shown["contact_id"], &shown["sender"]), (&json!(ana), &json!("verified")));
    let raw = server.get(&format!("{message}/raw")).await;
    assert!(String::from_utf8_lossy(&raw.body).ends_with("\r\n\r\nx\r\n"), "the sealed content opens");
    let delivery = server.get(&format!("{account}/deliveries/{}", text(&item["id"]))).await.expect(200);
    assert_eq!((&delivery["outcome"], &delivery["reason"]), (&json!("filed"), &json!("filed")));
    assert_eq!(delivery["message_id"], filed["message_id"]);
    assert!(delivery["steps"].to_string().contains("it was held (unknown_contact); token "), "{delivery}");
    let marks = server.get(&format!("{account}/contacts/{ana}/sync")).await.expect(200);
    assert_eq!(marks["items"][0]["because"], filed["message_id"]);
    let events = server.get(&format!("{account}/events?limit=200")).await.expect(200);
    let types: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| text(&event["type"])).collect();
    assert_eq!(types, ["message.held", "contact.created", "contact.sync_on", "message.filed"]);
}

#[tokio::test]
async fn r36_filing_can_make_the_contact_and_a_second_copy_is_a_duplicate() {
    let server = Server::start().await;
    let account = server.account().await;
    let item = held(&server, &account).await;
    let again = server.get(&format!("{account}/users")).await.expect(200)["items"][0].clone();
    let mail = "From: bo@practice.test\nTo: Ana <Ana@patient.test>\nSubject: To nobody\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <b@practice.test>\n\nx\n";
    server.deliver(&text(&again["sync"]["sync_address"]), mail).await;
    let waiting = server.get(&format!("{account}/held")).await.expect(200);
    assert_eq!(waiting["items"], json!([item]), "a retry is not held again (R2)");

    let body = json!({"create_contact": {"name": "Ana", "email": "ana@patient.test"}});
    let path = format!("{account}/held/{}:file", text(&item["id"]));
    let filed = server.post(&path, body).await.expect(200);
    let ana = text(&filed["contact_id"]);
    assert_eq!(server.get(&format!("{account}/contacts/{ana}")).await.expect(200)["created_by"], "api");
    server.deliver(&text(&again["sync"]["sync_address"]), mail).await;
    let newest = server.get(&format!("{account}/deliveries?limit=1")).await.expect(200)["items"][0].clone();
    assert_eq!((&newest["outcome"], &newest["message_id"]), (&json!("duplicate"), &filed["message_id"]));
    assert_eq!(server.get(&format!("{account}/held")).await.expect(200)["items"], json!([]));
    let timeline = server.get(&format!("{account}/contacts/{ana}/timeline")).await.expect(200);
    assert_eq!(timeline["items"].as_array().unwrap().len(), 1);
}

const NEW: &str = "From: bo@private.test\nTo: Ana <ana@patient.test>\nSubject: Number N\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <N@private.test>\n\nx\n";

/// A user with an unverified second address, from which two mails wait.
async fn new_identity(server: &Server, account: &str) -> (Value, Value) {
    let user = server.user(account, "bo@practice.test").await;
    server.contact(account, "Ana", "ana@patient.test").await;
    let emails = format!("{account}/users/{}/emails", text(&user["id"]));
    server.post(&emails, json!({"address": "bo@private.test", "verified": false})).await.expect(201);
    for n in ["1", "2"] {
        server.deliver(&text(&user["sync"]["sync_address"]), &NEW.replace('N', n)).await;
    }
    let waiting = server.get(&format!("{account}/held?reason=new_identity")).await.expect(200);
    assert_eq!(waiting["items"].as_array().unwrap().len(), 2);
    (user, waiting["items"][0].clone())
}

async fn all_filed_and_verified(server: &Server, account: &str, user: &Value) {
    assert_eq!(server.get(&format!("{account}/held")).await.expect(200)["items"], json!([]));
    let user = server.get(&format!("{account}/users/{}", text(&user["id"]))).await.expect(200);
    let emails = user["emails"].as_array().unwrap();
    assert!(emails.iter().all(|email| email["verified_at"].is_string()), "{user}");
    let filed = server.get(&format!("{account}/deliveries?outcome=filed")).await.expect(200);
    assert_eq!(filed["items"].as_array().unwrap().len(), 2, "{filed}");
}

#[tokio::test]
async fn r12_yes_this_is_me_verifies_the_address_and_files_all_that_waits_for_it() {
    let server = Server::start().await;
    let account = server.account().await;
    let (user, item) = new_identity(&server, &account).await;
    let filed =
        server.post(&format!("{account}/held/{}:file", text(&item["id"])), json!({})).await.expect(200);
    assert_eq!(filed["outcome"], "filed");
    all_filed_and_verified(&server, &account, &user).await;
}

#[tokio::test]
async fn r36_verifying_an_address_files_what_was_held_for_it() {
    let server = Server::start().await;
    let account = server.account().await;
    let (user, _) = new_identity(&server, &account).await;
    let emails = format!("{account}/users/{}/emails", text(&user["id"]));
    server.post(&emails, json!({"address": "BO@private.test", "verified": true})).await.expect(201);
    all_filed_and_verified(&server, &account, &user).await;
}

#[tokio::test]
async fn r36_held_mail_is_erased_when_its_days_are_over_and_not_before() {
    let server = Server::start().await;
    let account = server.account().await;
    server.patch(&account, json!({"settings": {"held_days": 3}})).await.expect(200);
    let item = held(&server, &account).await;
    let expires = Timestamp::parse_rfc3339(&text(&item["expires_at"])).unwrap();
    let before = Timestamp::from_millis(expires.as_millis() - 1);
    assert_eq!(server.store.expire(before).await.unwrap().held, 0);
    assert_eq!(server.store.expire(expires).await.unwrap().held, 1);
    server.get(&format!("{account}/held/{}", text(&item["id"]))).await.problem(404);
    let delivery = server.get(&format!("{account}/deliveries/{}", text(&item["id"]))).await.expect(200);
    assert_eq!(delivery["outcome"], "discarded");
    assert!(delivery["steps"].to_string().contains("nobody decided on it in time"), "{delivery}");
    assert!(!delivery.to_string().contains('@'), "{delivery}");
}

#[tokio::test]
async fn r05_the_traces_of_the_retries_of_a_held_mail_lose_their_addresses_with_it() {
    for is_discarded in [true, false] {
        let server = Server::start().await;
        let account = server.account().await;
        server.patch(&account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
        let sync = text(&server.user(&account, "bo@practice.test").await["sync"]["sync_address"]);
        let mail = |id: &str| {
            format!(
                "From: bo@practice.test\nTo: Ana <ana@patient.test>\nSubject: x\nDate: Sun, 22 Nov 2020 05:00:00 +0000\n{id}\nx\n"
            )
        };
        // With a Message-ID, without one, and one that goes on waiting.
        let mails =
            [mail("Message-ID: <b@practice.test>\n"), mail(""), mail("Message-ID: <c@practice.test>\n")];
        let (mut traces, now) = (Vec::new(), Timestamp::now());
        for (raw, at) in mails.iter().zip([now, now, now.plus_days(1)]) {
            let held = server.deliver_at(&sync, raw, at).await;
            let retry = server.deliver_at(&sync, raw, at).await;
            assert!(matches!(retry.decided[0].1, Decision::Duplicate(_)), "{retry:?}");
            traces.push([held.decided[0].0, retry.decided[0].0]);
        }
        let trace = async |id| server.get(&format!("{account}/deliveries/{id}")).await.expect(200);
        assert_eq!(trace(traces[1][1]).await["rcpt"], json!(sync));
        if is_discarded {
            for [held, _] in &traces[..2] {
                server.post(&format!("{account}/held/{held}:discard"), json!({})).await.expect(204);
            }
        } else {
            assert_eq!(server.store.expire(now.plus_days(30)).await.unwrap().held, 2);
        }
        for (pair, outcomes) in traces.iter().zip([["discarded", "duplicate"]; 2]) {
            for (id, outcome) in pair.iter().zip(outcomes) {
                let gone = trace(*id).await;
                assert_eq!(gone["outcome"], outcome);
                assert!(!gone.to_string().contains('@'), "{gone}");
                let found =
                    server.get(&format!("{account}/deliveries?from=bo@practice.test")).await.expect(200);
                assert!(
                    found["items"].as_array().unwrap().contains(&gone),
                    "by the hash of an address: {found}"
                );
            }
        }
        for id in traces[2] {
            assert_eq!(trace(id).await["rcpt"], json!(sync), "it is held");
        }
    }
}

/// A sender who repeats a held mail without end costs no long transaction when it goes.
#[tokio::test]
async fn r05_held_mail_that_was_sent_again_more_often_than_a_transaction_takes_is_erased_all_the_same() {
    for retries in [RETRIES_AT_ONCE, RETRIES_AT_ONCE + 1] {
        for way in ["discarded", "expired", "by the rules", "released"] {
            let server = Server::start().await;
            let account = server.account().await;
            let (user, _) = new_identity(&server, &account).await;
            let (sync, raw) = (text(&user["sync"]["sync_address"]), NEW.replace('N', "9"));
            let now = Timestamp::now();
            let held = server.deliver_at(&sync, &raw, now).await.decided[0].0;
            let retries = futures_util::stream::iter(0..retries)
                .map(|_| server.deliver_at(&sync, &raw, now))
                .buffer_unordered(64)
                .map(|retry| retry.decided[0].0)
                .collect::<Vec<_>>();
            let retries = retries.await;
            let mut first = server.store.change().await.unwrap();
            let id = account.rsplit_once('/').unwrap().1.parse().unwrap();
            let erasing = first.discard_held(id, held).await.unwrap();
            assert_eq!(erasing == Erasing::Done, retries.len() == RETRIES_AT_ONCE);
            drop(first);
            match way {
                "discarded" => {
                    server.post(&format!("{account}/held/{held}:discard"), json!({})).await.expect(204);
                }
                "expired" => assert_eq!(server.store.expire(now.plus_days(30)).await.unwrap().held, 3),
                _ => {
                    server
                        .patch(&account, json!({"settings": {"never_log": ["ana@patient.test"]}}))
                        .await
                        .expect(200);
                    if way == "released" {
                        let emails = format!("{account}/users/{}/emails", text(&user["id"]));
                        let proven = json!({"address": "bo@private.test", "verified": true});
                        server.post(&emails, proven).await.expect(201);
                    } else {
                        let path = format!("{account}/held/{held}:file");
                        assert_eq!(server.post(&path, json!({})).await.expect(200)["outcome"], "discarded");
                    }
                }
            }
            server.get(&format!("{account}/held/{held}")).await.problem(404);
            for id in retries {
                let trace = server.get(&format!("{account}/deliveries/{id}")).await.expect(200);
                assert!(!trace.to_string().contains('@'), "{trace}");
            }
        }
    }
}

#[tokio::test]
async fn r03_a_trace_ends_after_its_days_unless_its_mail_is_held() {
    let server = Server::start().await;
    let account = server.account().await;
    let settings = json!({"settings": {"trace_days": 10, "held_days": 60}});
    server.patch(&account, settings).await.expect(200);
    let item = held(&server, &account).await;
    let user = server.get(&format!("{account}/users")).await.expect(200)["items"][0].clone();
    let private = "From: bo@practice.test\nTo: ana@patient.test\nSubject: [private] x\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <p@practice.test>\n\nx\n";
    server.deliver(&text(&user["sync"]["sync_address"]), private).await;
    let now = Timestamp::now();
    assert_eq!(server.store.expire(now.plus_days(9)).await.unwrap().traces, 0);
    assert_eq!(server.store.expire(now.plus_days(11)).await.unwrap().traces, 1);
    let left = server.get(&format!("{account}/deliveries")).await.expect(200);
    assert_eq!((left["items"].as_array().unwrap().len(), &left["items"][0]["id"]), (1, &item["id"]));
    let found = server.get(&format!("{account}/deliveries?from=bo@practice.test")).await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn r35_r61_marks_without_mail_and_old_content_end_by_themselves() {
    let server = Server::start().await;
    let account = server.account().await;
    let settings = json!({"settings": {"content_days": 100, "mark_idle_months": 2}});
    server.patch(&account, settings).await.expect(200);
    let user = server.user(&account, "bo@practice.test").await;
    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    server.deliver(&text(&user["sync"]["sync_address"]), &NEW.replace("private", "practice")).await;
    let now = Timestamp::now();
    let early = server.store.expire(now.plus_days(59)).await.unwrap();
    assert_eq!((early.marks, early.messages), (0, 0));
    let idle = server.store.expire(now.plus_days(61)).await.unwrap();
    assert_eq!((idle.marks, idle.messages), (1, 0));
    let marks = server.get(&format!("{account}/contacts/{ana}/sync")).await.expect(200);
    assert_eq!(marks["items"], json!([]));
    let old = server.store.expire(now.plus_days(101)).await.unwrap();
    assert_eq!((old.marks, old.messages), (0, 1));
    let timeline = server.get(&format!("{account}/contacts/{ana}/timeline")).await.expect(200);
    assert_eq!(timeline["items"], json!([]));
    let events = server.get(&format!("{account}/events?limit=200")).await.expect(200);
    assert!(!events.to_string().contains("Number N"), "{events}");
    assert_eq!(events["items"].as_array().unwrap().last().unwrap()["data"]["messages"], 1);
}

#[tokio::test]
async fn r28_a_forward_waits_for_its_original_sender_and_is_filed_as_theirs() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = server.user(&account, "bo@practice.test").await;
    let mail = "From: bo@practice.test\nTo: SYNC\nSubject: Fwd: Hello\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <f@practice.test>\n\n---------- Forwarded message ---------\nFrom: Ana <ana@patient.test>\nDate: Sat, 21 Nov 2020 at 10:00\nSubject: Hello\nTo: <bo@practice.test>\n\nHello Bo\n";
    let sync = text(&user["sync"]["sync_address"]);
    server.deliver(&sync, &mail.replace("SYNC", &sync)).await;
    let ana = server.contact(&account, "Ana", "ana@patient.test").await;
    let waiting = server.get(&format!("{account}/held?contact={ana}")).await.expect(200);
    let item = &waiting["items"][0];
    assert_eq!(item["reason"], "forwarded_unknown", "{waiting}");
    let path = format!("{account}/held/{}:file", text(&item["id"]));
    server.post(&path, json!({"contact_id": ana})).await.expect(200);
    let timeline = server.get(&format!("{account}/contacts/{ana}/timeline")).await.expect(200);
    let message = &timeline["items"][0];
    assert_eq!((&message["direction"], &message["kind"]), (&json!("inbound"), &json!("forwarded")));
    assert_eq!((&message["role"], &message["sender"]), (&json!("from"), &json!("unverified")));
    assert!(text(&message["sent_at"]).starts_with("2020-11-21"), "{message}");
}

/// As the store has it.
const RETRIES_AT_ONCE: usize = 500;
