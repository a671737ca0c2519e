//! Where rows are sealed, one that does not open costs its own place in a list, and nothing behind it.

use serde_json::{Value, json};

use crate::server::{Server, text};

fn mail(id: &str, to: &str) -> String {
    format!(
        "From: Bo <bo@practice.test>\nTo: {to}\nSubject: About {id}\nDate: Sun, 22 Nov 2020 02:44:05 +0000\n\
         Message-ID: <{id}@practice.test>\n\nThe words of {id}\n"
    )
}

struct Scene {
    server: Server,
    account: String,
}

impl Scene {
    /// Two users and contacts; of each contact a mail, and two that are held.
    async fn set() -> Self {
        let server = Server::start_sealed().await;
        let account = server.account().await;
        server.patch(&account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
        let bo = server.user(&account, "bo@practice.test").await;
        server.user(&account, "eva@practice.test").await;
        for (name, email) in [("Ana", "ana@patient.test"), ("Bea", "bea@patient.test")] {
            server.contact(&account, name, email).await;
        }
        let sync = text(&bo["sync"]["sync_address"]);
        for (id, to) in [
            ("filed-1", "ana@patient.test"),
            ("filed-2", "bea@patient.test"),
            ("held-1", "nora@patient.test"),
            ("held-2", "nora@patient.test"),
        ] {
            server.deliver(&sync, &mail(id, to)).await;
        }
        Self { server, account }
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let page = self.server.get(&format!("{}{path}", self.account)).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }

    /// Of each item of a list, what stands there.
    async fn each(&self, path: &str, field: &str) -> Vec<Value> {
        self.list(path).await.into_iter().map(|mut item| item[field].take()).collect()
    }

    /// The first row of a table in the order of its ids, `ASC` or `DESC`, no longer opens in this column.
    async fn damage(&self, table: &str, column: &str, id: &str, order: &str) {
        let text = format!(
            "UPDATE {table} SET {column} = '~1~AAAA' WHERE {id} IN
             (SELECT {id} FROM {table} ORDER BY {id} {order} LIMIT 1)"
        );
        self.server.change_by_hand(&text).await;
    }

    /// Asked for alone, it is an error that says so.
    async fn expect_damaged(&self, path: &str) {
        let problem = self.server.get(&format!("{}{path}", self.account)).await.expect(500);
        assert!(text(&problem["detail"]).contains("damaged"), "{path}: {problem}");
    }
}

#[tokio::test]
async fn r3_a_trace_that_does_not_open_says_what_became_of_the_mail_and_hides_no_other() {
    let scene = Scene::set().await;
    let all = scene.list("/deliveries").await;
    scene.damage("deliveries", "steps", "delivery_id", "DESC").await;
    let shown = scene.list("/deliveries?limit=3").await;
    assert_eq!(shown[1..], all[1..3]);
    for field in ["id", "at", "outcome", "reason", "message_id", "size"] {
        assert_eq!(shown[0][field], all[0][field], "{field}");
    }
    assert_eq!((&shown[0]["rcpt"], &shown[0]["from"]), (&Value::Null, &Value::Null));
    assert!(shown[0]["steps"][0]["said"].as_str().unwrap().contains("damaged"), "{}", shown[0]);
    scene.expect_damaged(&format!("/deliveries/{}", text(&shown[0]["id"]))).await;
}

#[tokio::test]
async fn r36_a_held_mail_whose_row_does_not_open_waits_in_the_queue_and_hides_no_other() {
    let scene = Scene::set().await;
    let all = scene.list("/held").await;
    scene.damage("held", "headers", "delivery_id", "DESC").await;
    let shown = scene.list("/held").await;
    assert_eq!((shown.len(), &shown[1]), (2, &all[1]));
    assert_eq!((&shown[0]["id"], &shown[0]["reason"]), (&all[0]["id"], &json!("unknown_contact")));
    assert!(text(&shown[0]["why"]).contains("damaged"), "{}", shown[0]);
    let nora = scene.server.contact(&scene.account, "Nora", "nora@patient.test").await;
    assert_eq!(scene.each(&format!("/held?contact={nora}"), "subject").await, ["About held-1"]);
    let id = text(&shown[0]["id"]);
    scene.server.post(&format!("{}/held/{id}:discard", scene.account), json!({})).await.expect(204);
    assert_eq!(scene.list("/held").await, all[1..]);
}

#[tokio::test]
async fn contacts_users_marks_accounts_and_tokens_that_do_not_open_hide_no_others() {
    let scene = Scene::set().await;
    scene.server.token(&scene.account, &["contacts"]).await;
    let marks = scene.list("/sync-marks").await;
    assert_eq!(marks.len(), 2);
    let other = scene.server.account().await;
    scene.damage("contacts", "email", "contact_id", "ASC").await;
    scene.damage("users", "name", "user_id", "ASC").await;
    scene.damage("accounts", "name", "account_id", "DESC").await;
    scene.server.change_by_hand("UPDATE tokens SET name = '~1~AAAA'").await;
    assert_eq!(scene.each("/contacts", "name").await, ["Bea"]);
    let next = scene.server.get(&format!("{}/contacts?limit=1", scene.account)).await.expect(200);
    assert_eq!(next["items"], json!([]), "and the rest is behind it");
    assert_eq!(
        scene.each(&format!("/contacts?limit=1&cursor={}", text(&next["next"])), "name").await,
        ["Bea"]
    );
    let emails = scene.each("/users", "emails").await;
    assert_eq!((emails.len(), &emails[0][0]["address"]), (1, &json!("eva@practice.test")));
    assert_eq!(scene.list("/sync-marks").await, marks[1..]);
    let accounts = scene.server.get("/accounts").await.expect(200);
    let ids = accounts["items"].as_array().unwrap().iter().map(|account| text(&account["id"]));
    assert_eq!(
        ids.map(|id| format!("/accounts/{id}")).collect::<Vec<_>>(),
        std::slice::from_ref(&scene.account)
    );
    assert_eq!(scene.server.get(&other).await.status, 500);
    // A token can be taken away whatever its name was.
    let tokens = scene.server.get("/tokens").await.expect(200);
    let names = tokens["items"].as_array().unwrap().iter().map(|token| &token["name"]);
    assert!(names.clone().count() >= 2 && names.clone().all(|name| *name == json!("")), "{tokens}");
}

#[tokio::test]
async fn a_message_that_does_not_open_hides_no_other_from_a_search() {
    let scene = Scene::set().await;
    let find = "/search?q=from:bo@practice.test";
    assert_eq!(scene.each(find, "subject").await, ["About filed-2", "About filed-1"]);
    scene.damage("messages", "subject", "message_id", "DESC").await;
    assert_eq!(scene.each(find, "subject").await, ["About filed-1"]);
    scene.server.change_by_hand("UPDATE participants SET email = '~1~AAAA' WHERE role = 'to'").await;
    assert_eq!(scene.each(find, "subject").await, ["About filed-1"], "its author opens");
}
