//! Held mail that is decided on, and is to be held on.

use serde_json::{Value, json};
use syncmx::time::Timestamp;

use crate::server::{Server, text};

/// From a new address of the user; what the rules would hold once it is proven.
const CASES: [(&str, &str); 3] = [
    (
        "contact_only_in_cc",
        "From: bo@private.test\nTo: Kim <kim@practice.test>\nCc: Ana <ana@patient.test>\nSubject: About her\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <cc@private.test>\n\nx\n",
    ),
    (
        "forwarded_unknown",
        "From: bo@private.test\nTo: SYNC\nSubject: Fwd: Hello\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <f@private.test>\n\n---------- Forwarded message ---------\nFrom: Zoe <zoe@patient.test>\nDate: Sat, 21 Nov 2020 at 10:00\nSubject: Hello\nTo: <bo@private.test>\n\nHello Bo\n",
    ),
    (
        "unknown_contact",
        "From: bo@private.test\nTo: Zoe <zoe@patient.test>\nSubject: To nobody\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <u@private.test>\n\nx\n",
    ),
];

struct Waiting {
    server: Server,
    account: String,
    user: String,
    ana: String,
}

impl Waiting {
    async fn start() -> Self {
        let server = Server::start().await;
        let account = server.account().await;
        let settings = json!({"settings": {"unknown_to": "hold", "internal_domains": ["practice.test"]}});
        server.patch(&account, settings).await.expect(200);
        let bo = server.user(&account, "bo@practice.test").await;
        let ana = server.contact(&account, "Ana", "ana@patient.test").await;
        let user = format!("{account}/users/{}", text(&bo["id"]));
        let waiting = Self { server, account, user, ana };
        waiting.emails(json!({"address": "bo@private.test"})).await;
        let sync = text(&bo["sync"]["sync_address"]);
        for (_, mail) in CASES {
            waiting.server.deliver(&sync, &mail.replace("SYNC", &sync)).await;
        }
        let held = waiting.held().await;
        assert_eq!(held.len(), CASES.len());
        assert!(held.iter().all(|item| item["reason"] == "new_identity"), "{held:?}");
        waiting
    }

    async fn emails(&self, body: Value) {
        self.server.post(&format!("{}/emails", self.user), body).await.expect(201);
    }

    async fn held(&self) -> Vec<Value> {
        let held = self.server.get(&format!("{}/held", self.account)).await.expect(200);
        held["items"].as_array().unwrap().clone()
    }

    /// Each is held for its own reason now, says so in its trace, and can be filed with its content.
    async fn all_are_held_on(&self, by: &str) {
        let held = self.held().await;
        let mut reasons: Vec<String> = held.iter().map(|item| text(&item["reason"])).collect();
        reasons.sort();
        assert_eq!(reasons, CASES.map(|(reason, _)| reason), "{by}");
        for item in held {
            let id = text(&item["id"]);
            let delivery = self.server.get(&format!("{}/deliveries/{id}", self.account)).await.expect(200);
            assert_eq!((&delivery["outcome"], &delivery["reason"]), (&json!("held"), &item["reason"]));
            assert!(delivery["steps"].to_string().contains(by), "{delivery}");
            let path = format!("{}/held/{id}:file", self.account);
            let filed = self.server.post(&path, json!({"contact_id": self.ana})).await.expect(200);
            assert_eq!(filed["outcome"], "filed", "{item}");
            let raw = format!("{}/messages/{}/raw", self.account, text(&filed["message_id"]));
            let raw = self.server.get(&raw).await;
            assert!(String::from_utf8_lossy(&raw.body).contains(&text(&item["subject"])), "{item}");
        }
    }
}

#[tokio::test]
async fn r36_what_a_person_says_is_theirs_is_held_on_where_the_rules_say_so() {
    let waiting = Waiting::start().await;
    let first = text(&waiting.held().await[0]["id"]);
    let path = format!("{}/held/{first}:file", waiting.account);
    let answer = waiting.server.post(&path, json!({})).await.expect(200);
    assert_eq!((&answer["outcome"], &answer["message_id"]), (&json!("held"), &Value::Null), "{answer}");
    waiting.all_are_held_on("it was held (new_identity); token ").await;
}

#[tokio::test]
async fn r36_what_an_accepted_address_sets_free_is_held_on_where_the_rules_say_so() {
    let waiting = Waiting::start().await;
    waiting.emails(json!({"address": "bo@private.test", "verified": true})).await;
    waiting.all_are_held_on("it was held (new_identity); token ").await;
}

#[tokio::test]
async fn r36_what_the_hourly_look_sets_free_is_held_on_where_the_rules_say_so() {
    let waiting = Waiting::start().await;
    // R62: while the user is disconnected, nothing of theirs is filed; it waits on.
    let sync = |action: &str| format!("{}/sync:{action}", waiting.user);
    waiting.server.post(&sync("disconnect"), json!({"purge": "none"})).await.expect(200);
    waiting.emails(json!({"address": "bo@private.test", "verified": true})).await;
    assert!(waiting.held().await.iter().all(|item| item["reason"] == "new_identity"));
    waiting.server.post(&sync("connect"), json!({})).await.expect(200);
    waiting.server.store.expire(Timestamp::now()).await.unwrap();
    waiting.all_are_held_on("the hourly look").await;
}
