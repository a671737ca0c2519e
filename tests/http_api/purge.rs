//! Erasing: purges, undo, disconnecting (R60–R63, R70a).

use serde_json::{Value, json};
use syncmx::filing::Decision;
use syncmx::id::AccountId;
use syncmx::store::Filed;
use syncmx::store::directory::{PurgeOf, PurgeStep, Remembered, Request, StoredAnswer};
use syncmx::time::Timestamp;

use crate::server::{STRANGER, Server, keys, text};

/// An account with two users and a contact.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) account: String,
    pub(crate) bo: Value,
    pub(crate) eva: Value,
    pub(crate) ana: String,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::on(Server::start().await).await
    }

    pub(crate) async fn on(server: Server) -> Self {
        let account = server.account().await;
        let bo = server.user(&account, "bo@practice.test").await;
        let eva = server.user(&account, "eva@practice.test").await;
        let ana = server.contact(&account, "Ana", "ana@patient.test").await;
        Self { server, account, bo, eva, ana }
    }

    /// Files a mail; its message's id.
    pub(crate) async fn file(&self, user: &Value, raw: &str) -> String {
        let filed = self.deliver(user, raw).await;
        let Some((_, Decision::Filed(_))) = filed.decided.first() else { panic!("{filed:?}") };
        let delivery = filed.decided[0].0;
        let shown = self.get(&format!("/deliveries/{delivery}")).await;
        text(&shown["message_id"])
    }

    pub(crate) async fn deliver(&self, user: &Value, raw: &str) -> Filed {
        self.server.deliver(&text(&user["sync"]["sync_address"]), raw).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.server.get(&format!("{}{path}", self.account)).await.expect(200)
    }

    async fn gone(&self, path: &str) {
        self.server.get(&format!("{}{path}", self.account)).await.problem(404);
    }

    pub(crate) async fn purge(&self, body: Value) -> Value {
        self.server.post(&format!("{}/purge", self.account), body).await.expect(200)
    }

    /// The number of items of a list.
    pub(crate) async fn count(&self, path: &str) -> usize {
        self.get(path).await["items"].as_array().unwrap().len()
    }

    async fn last_event(&self) -> Value {
        self.get("/events?limit=200").await["items"].as_array().unwrap().last().unwrap().clone()
    }

    async fn erased_retry(&self, user: &Value, raw: &str) {
        let again = self.deliver(user, raw).await;
        assert!(matches!(again.decided[0].1, Decision::Duplicate(_)), "{again:?}");
        assert_eq!(again.reply.line().get(..3), Some("250"));
        let delivery = self.get(&format!("/deliveries/{}", again.decided[0].0)).await;
        assert_eq!((&delivery["outcome"], &delivery["reason"]), (&json!("duplicate"), &json!("duplicate")));
        assert!(delivery["steps"].to_string().contains("was erased"), "{delivery}");
        assert_eq!(delivery["steps"].as_array().unwrap().last().unwrap()["rule"], "R60");
        assert!(!delivery.to_string().contains('@'), "nothing of it is kept: {delivery}");
        assert_eq!(delivery["message_id"], Value::Null);
    }
}

/// A mail to Ana.
pub(crate) fn mail(from: &str, id: &str, more: &str) -> String {
    format!(
        "From: {from}\nTo: Ana <ana@patient.test>\nSubject: About {id}\nDate: Sun, 22 Nov 2020 02:44:05 +0000\n\
         Message-ID: <{id}@practice.test>\n{more}\nThe words of {id}\n"
    )
}

#[tokio::test]
async fn r60_a_message_is_purged_with_all_that_belongs_to_it_and_a_retry_does_not_bring_it_back() {
    let scene = Scene::set().await;
    let raw = mail("bo@practice.test", "first", "");
    let first = scene.file(&scene.bo, &raw).await;
    let answer = mail("bo@practice.test", "second", "In-Reply-To: <first@practice.test>\n");
    let second = scene.file(&scene.bo, &answer).await;
    scene.deliver(&scene.eva, &raw).await;
    let before = scene.get("/events?limit=200").await;
    assert!(before.to_string().contains("About first"));

    let planned = scene.purge(json!({"message_id": first, "dry_run": true})).await;
    assert_eq!(keys(&planned), ["messages", "attachments", "blobs", "bytes", "held", "deliveries", "done"]);
    assert_eq!(planned["done"], false);
    assert_eq!(scene.get("/events?limit=200").await, before, "a dry run changes nothing");
    scene.get(&format!("/messages/{first}")).await;

    let purged = scene.purge(json!({"message_id": first})).await;
    let counts = json!({"messages": 1, "attachments": 0, "blobs": 0, "bytes": raw.len() + 7, "held": 0, "deliveries": 2, "done": true});
    assert_eq!(purged, counts);
    let mut planned = planned;
    planned["done"] = json!(true);
    assert_eq!(planned, purged);
    scene.gone(&format!("/messages/{first}")).await;
    assert_eq!(scene.count(&format!("/contacts/{}/timeline", scene.ana)).await, 1);
    assert_eq!(scene.count("/deliveries?message_id=first@practice.test").await, 0);
    let events = scene.get("/events?limit=200").await;
    assert!(!events.to_string().contains("About first"), "{events}");
    let done = scene.last_event().await;
    assert_eq!((&done["type"], &done["data"]["message_id"]), (&json!("purge.done"), &json!(first)));
    assert_eq!((&done["data"]["messages"], &done["data"]["because"]), (&json!(1), &json!("purge")));

    let kept = scene.get(&format!("/messages/{second}")).await;
    let conversation = scene.get(&format!("/conversations/{}", text(&kept["conversation_id"]))).await;
    assert_eq!(conversation["subject"], "About second");
    scene.erased_retry(&scene.bo, &raw).await;
    scene.erased_retry(&scene.eva, &raw).await;
    assert_eq!(scene.count(&format!("/contacts/{}/timeline", scene.ana)).await, 1);
    // R71: the same Message-ID with other words is another message.
    scene.file(&scene.bo, &raw.replace("The words", "Other words")).await;
    scene.server.post(&format!("{}/purge", scene.account), json!({"message_id": first})).await.problem(404);
}

#[tokio::test]
async fn r41_an_answer_to_a_purged_mail_still_joins_the_conversation_that_others_hold() {
    let scene = Scene::set().await;
    let first = scene.file(&scene.bo, &mail("bo@practice.test", "first", "")).await;
    let answer = |id| mail("bo@practice.test", id, "In-Reply-To: <first@practice.test>\n");
    let second = scene.file(&scene.bo, &answer("second")).await;
    scene.purge(json!({"message_id": first})).await;
    let third = scene.file(&scene.bo, &answer("third")).await;
    let of = async |id: &str| text(&scene.get(&format!("/messages/{id}")).await["conversation_id"]);
    assert_eq!(of(&second).await, of(&third).await);
}

#[tokio::test]
async fn r60_a_purge_names_exactly_one_thing_that_there_is_and_takes_the_scope() {
    let scene = Scene::set().await;
    let path = format!("{}/purge", scene.account);
    for body in [
        json!({}),
        json!({"all": false}),
        json!({"all": true, "user_id": STRANGER}),
        json!({"message_id": STRANGER, "contact_id": STRANGER}),
        json!({"everything": true}),
    ] {
        scene.server.post(&path, body).await.problem(422);
    }
    for name in ["message_id", "contact_id", "user_id"] {
        for dry_run in [false, true] {
            scene.server.post(&path, json!({name: STRANGER, "dry_run": dry_run})).await.problem(404);
        }
    }
    let body = json!({"contact_id": scene.ana});
    let token = scene.server.token(&scene.account, &["contacts", "review", "messages:content"]).await;
    scene.server.as_token(&token, "POST", &path, Some(&body)).await.problem(403);
    let token = scene.server.token(&scene.account, &["purge"]).await;
    scene.server.as_token(&token, "POST", &path, Some(&body)).await.expect(200);
    let other = scene.server.account().await;
    scene
        .server
        .as_token(&token, "POST", &format!("{other}/purge"), Some(&json!({"all": true})))
        .await
        .problem(404);
}

#[tokio::test]
async fn r60_a_contact_is_purged_with_its_record_held_mail_and_traces() {
    let scene = Scene::set().await;
    scene.server.patch(&scene.account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let bea = scene.server.contact(&scene.account, "Bea", "bea@patient.test").await;
    let own = mail("bo@practice.test", "own", "");
    scene.file(&scene.bo, &own).await;
    let copied = mail("bo@practice.test", "copied", "Cc: Ana <ana@patient.test>\n").replacen(
        "To: Ana <ana@patient.test>",
        "To: bea@patient.test",
        1,
    );
    let copied = scene.file(&scene.bo, &copied).await;
    let body = json!({"contact_id": scene.ana, "dry_run": true});
    let planned = scene.purge(body).await;
    let mut purged = scene.purge(json!({"contact_id": scene.ana})).await;
    assert_eq!((&purged["messages"], &purged["done"]), (&json!(1), &json!(true)));
    purged["done"] = json!(false);
    assert_eq!(planned, purged);
    scene.gone(&format!("/contacts/{}", scene.ana)).await;
    let left = scene.get(&format!("/messages/{copied}")).await;
    assert_eq!((&left["contact_id"], &left["cc"][0]["email"]), (&json!(bea), &json!("")));
    let said = scene.get("/deliveries").await.to_string() + &scene.get("/events?limit=200").await.to_string();
    assert!(!said.contains("ana@patient.test"), "{said}");
    assert_eq!(scene.count("/deliveries?to=ana@patient.test").await, 0);
    scene.erased_retry(&scene.bo, &own).await;
    assert_eq!(scene.count("/held").await, 0);
}

#[tokio::test]
async fn r60_a_user_is_purged_but_not_what_a_colleague_brought_in_too() {
    let scene = Scene::set().await;
    let own = scene.file(&scene.bo, &mail("bo@practice.test", "own", "")).await;
    let raw = mail("bo@practice.test", "shared", "");
    let shared = scene.file(&scene.bo, &raw).await;
    scene.deliver(&scene.eva, &raw).await;
    let evas = scene.file(&scene.eva, &mail("eva@practice.test", "eva", "Cc: Bo <bo@practice.test>\n")).await;
    let (bo, sync) = (text(&scene.bo["id"]), text(&scene.bo["sync"]["sync_address"]));
    let planned = scene.purge(json!({"user_id": bo, "dry_run": true})).await;
    let mut purged = scene.purge(json!({"user_id": bo})).await;
    // The message's own, and the way in of the shared one that was his.
    assert_eq!((&purged["messages"], &purged["deliveries"]), (&json!(1), &json!(2)));
    purged["done"] = json!(false);
    assert_eq!(planned, purged);
    let said = scene.get("/deliveries").await.to_string() + &scene.get("/events?limit=200").await.to_string();
    assert!(!said.to_lowercase().contains("bo@practice.test"), "{said}");
    scene.gone(&format!("/messages/{own}")).await;
    let shared = scene.get(&format!("/messages/{shared}")).await;
    assert_eq!(shared["user_id"], scene.eva["id"]);
    let evas = scene.get(&format!("/messages/{evas}")).await;
    assert_eq!((&evas["cc"][0]["email"], &evas["cc"][0]["name"]), (&json!(""), &Value::Null));
    let user = scene.get(&format!("/users/{bo}")).await;
    assert_eq!(
        (&user["name"], &user["emails"], &user["sync"]["state"]),
        (&json!("(erased)"), &json!([]), &json!("off"))
    );
    assert_eq!(scene.count("/sync-marks").await, 1);
    let path = syncmx::smtp::ForwardPath::Address(syncmx::address::EmailAddress::parse(&sync).unwrap());
    assert!(matches!(scene.server.mailbox(&path).await, syncmx::store::Lookup::Off(_)));
    // What the CRM sent in his name before comes late: it is on the record, and names nobody.
    let late = json!({"message_id_header": "<late@practice.test>", "contact_id": scene.ana, "user_id": bo,
        "subject": "From the CRM", "sent_at": "2026-11-22T02:44:05Z", "text": "x"});
    let late = scene.server.post(&format!("{}/messages", scene.account), late).await.expect(201);
    assert_eq!((&late["from"]["email"], &late["from"]["name"]), (&json!(""), &json!("(erased)")), "{late}");
    let body = json!({"name": "Bo again", "emails": ["bo@practice.test"], "role": "staff"});
    scene.server.post(&format!("{}/users", scene.account), body).await.expect(201);
}

#[tokio::test]
async fn r62_disconnecting_can_erase_what_the_users_own_address_brought_in() {
    let scene = Scene::set().await;
    let bo = text(&scene.bo["id"]);
    let own = scene.file(&scene.bo, &mail("bo@practice.test", "own", "")).await;
    let evas = scene.file(&scene.eva, &mail("eva@practice.test", "eva", "")).await;
    let minted = json!({"contact_id": scene.ana, "user_id": bo});
    let minted = scene.server.post(&format!("{}/reply-addresses", scene.account), minted).await.expect(201);
    let reply = "From: ana@patient.test\nTo: x@reply.example.test\nSubject: Re: Hello\nDate: Sun, 22 Nov 2020 03:00:00 +0000\nMessage-ID: <reply@patient.test>\n\nThanks\n";
    scene.server.deliver(&text(&minted["address"]), reply).await;
    let registered = json!({"message_id_header": "<crm@practice.test>", "contact_id": scene.ana, "user_id": bo,
        "subject": "From the CRM", "sent_at": "2026-11-22T02:44:05Z", "text": "x"});
    scene.server.post(&format!("{}/messages", scene.account), registered).await.expect(201);

    let path = format!("{}/users/{bo}/sync:disconnect", scene.account);
    let user = scene.server.post(&path, json!({"purge": "mine"})).await.expect(200);
    assert_eq!(
        (&user["sync"]["state"], &user["emails"][0]["address"]),
        (&json!("off"), &json!("bo@practice.test"))
    );
    scene.gone(&format!("/messages/{own}")).await;
    scene.get(&format!("/messages/{evas}")).await;
    let left = scene.get(&format!("/contacts/{}/timeline", scene.ana)).await;
    let mut subjects: Vec<_> =
        left["items"].as_array().unwrap().iter().map(|entry| text(&entry["subject"])).collect();
    subjects.sort();
    assert_eq!(subjects, ["About eva", "From the CRM", "Re: Hello"]);
    let done = scene.last_event().await;
    assert_eq!((&done["type"], &done["data"]["because"]), (&json!("purge.done"), &json!("disconnect")));
    // R62: open threads included.
    let again = reply.replace("<reply@", "<again@").replace("Thanks", "More");
    let refused = scene.server.deliver(&text(&minted["address"]), &again).await;
    assert!(refused.reply.line().starts_with("550 5.2.1"), "{}", refused.reply.line());
}

#[tokio::test]
async fn r60_a_whole_account_is_emptied_and_another_is_not_touched() {
    let scene = Scene::set().await;
    let other = scene.server.account().await;
    let user = scene.server.user(&other, "bo@practice.test").await;
    let contact = scene.server.contact(&other, "Ana", "ana@patient.test").await;
    let raw = mail("bo@practice.test", "own", "");
    scene.server.deliver(&text(&user["sync"]["sync_address"]), &raw).await;
    scene.file(&scene.bo, &raw).await;
    scene.deliver(&scene.bo, &mail("bo@practice.test", "p", "").replace("About p", "[private] x")).await;
    scene.server.patch(&scene.account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    scene.deliver(&scene.bo, &mail("bo@practice.test", "h", "").replace("ana@", "nobody@")).await;
    assert_eq!(scene.count("/held").await, 1);

    let planned = scene.purge(json!({"all": true, "dry_run": true})).await;
    let counts = |done| json!({"messages": 1, "attachments": 0, "blobs": 0, "bytes": raw.len() + 7, "held": 1, "deliveries": 3, "done": done});
    assert_eq!(planned, counts(false));
    assert_eq!(scene.purge(json!({"all": true})).await, counts(true));
    for list in ["/contacts", "/users", "/held", "/deliveries", "/sync-marks"] {
        assert_eq!(scene.count(list).await, 0, "{list}");
    }
    let events = scene.get("/events").await;
    assert_eq!(
        (events["items"].as_array().unwrap().len(), &events["items"][0]["type"]),
        (1, &json!("purge.done"))
    );
    assert_eq!(scene.get("").await["settings"]["unknown_to"], "hold");
    let trail = scene.get("/audit?limit=200").await;
    assert!(trail["items"].as_array().unwrap().len() > 3, "{trail}");

    let timeline = scene.server.get(&format!("{other}/contacts/{contact}/timeline")).await.expect(200);
    let message = text(&timeline["items"][0]["id"]);
    let raw_path = format!("{other}/messages/{message}/raw");
    assert_eq!(scene.server.get(&raw_path).await.status, 200);
    // It can be used again: what is filed now is sealed with the new key, and what was erased stays away.
    let bo = scene.server.user(&scene.account, "bo@practice.test").await;
    scene.server.contact(&scene.account, "Ana", "ana@patient.test").await;
    scene.erased_retry(&bo, &raw).await;
    let fresh = scene.file(&bo, &mail("bo@practice.test", "fresh", "")).await;
    let raw_path = format!("{}/messages/{fresh}/raw", scene.account);
    assert_eq!(scene.server.get(&raw_path).await.status, 200);
}

#[tokio::test]
async fn r60_a_hash_of_what_was_erased_ends_after_60_days() {
    let scene = Scene::set().await;
    let raw = mail("bo@practice.test", "own", "");
    let own = scene.file(&scene.bo, &raw).await;
    scene.purge(json!({"message_id": own})).await;
    scene.server.store.expire(Timestamp::now().plus_days(59)).await.unwrap();
    scene.erased_retry(&scene.bo, &raw).await;
    scene.server.store.expire(Timestamp::now().plus_days(61)).await.unwrap();
    scene.file(&scene.bo, &raw).await;
}

#[tokio::test]
async fn r61_what_ends_by_itself_is_reported() {
    let scene = Scene::set().await;
    let settings = json!({"settings": {"unknown_to": "hold", "content_days": 40}});
    scene.server.patch(&scene.account, settings).await.expect(200);
    scene.file(&scene.bo, &mail("bo@practice.test", "own", "")).await;
    scene.deliver(&scene.bo, &mail("bo@practice.test", "h", "").replace("ana@", "nobody@")).await;
    scene.server.store.expire(Timestamp::now().plus_days(31)).await.unwrap();
    let done = scene.last_event().await;
    assert_eq!((&done["type"], &done["data"]["because"]), (&json!("purge.done"), &json!("held_days")));
    assert_eq!((&done["data"]["held"], &done["data"]["messages"]), (&json!(1), &json!(0)));
    scene.server.store.expire(Timestamp::now().plus_days(41)).await.unwrap();
    let done = scene.last_event().await;
    assert_eq!((&done["type"], &done["data"]["because"]), (&json!("purge.done"), &json!("content_days")));
    assert_eq!(done["data"]["messages"], 1);
    let trail = scene.get("/audit?actor=system").await;
    let objects: Vec<_> = trail["items"].as_array().unwrap().iter().map(|row| text(&row["object"])).collect();
    assert_eq!(objects, ["content_days", "held_days"]);
}

#[tokio::test]
async fn r70a_an_undo_takes_back_the_mail_and_what_it_alone_brought_about() {
    let scene = Scene::set().await;
    let raw = mail("bo@practice.test", "new", "").replace("Ana <ana@", "Cleo <cleo@");
    let message = scene.file(&scene.bo, &raw).await;
    let shown = scene.get(&format!("/messages/{message}")).await;
    let (contact, conversation) = (text(&shown["contact_id"]), text(&shown["conversation_id"]));
    assert_eq!(scene.count(&format!("/contacts/{contact}/sync")).await, 1);

    let path = format!("{}/messages/{message}:undo", scene.account);
    let reader = scene.server.token(&scene.account, &["messages:content", "contacts"]).await;
    scene.server.as_token(&reader, "POST", &path, None).await.problem(403);
    let undone = scene.server.post(&path, json!({})).await.expect(200);
    let marks = json!([{"contact_id": contact, "user_id": scene.bo["id"]}]);
    assert_eq!(
        undone,
        json!({"id": message, "contact_id": contact, "conversation_id": conversation, "marks": marks})
    );
    for gone in [
        format!("/messages/{message}"),
        format!("/contacts/{contact}"),
        format!("/conversations/{conversation}"),
    ] {
        scene.gone(&gone).await;
    }
    let event = scene.last_event().await;
    assert_eq!((&event["type"], &event["data"]["message_id"]), (&json!("message.undone"), &json!(message)));
    let events = scene.get("/events?limit=200").await.to_string();
    assert!(!events.contains("cleo@") && !events.contains("About new"), "{events}");
    scene.erased_retry(&scene.bo, &raw).await;
    scene.server.post(&path, json!({})).await.problem(404);
}

#[tokio::test]
async fn r70a_an_undo_leaves_what_others_hang_on() {
    let scene = Scene::set().await;
    let raw = |id: &str| mail("bo@practice.test", id, "").replace("Ana <ana@", "Cleo <cleo@");
    let first = scene.file(&scene.bo, &raw("first")).await;
    let answer = raw("second").replace("\n\nThe", "\nIn-Reply-To: <first@practice.test>\n\nThe");
    let second = scene.file(&scene.bo, &answer).await;
    let shown = scene.get(&format!("/messages/{second}")).await;
    let contact = text(&shown["contact_id"]);
    let undo = |id: &str| format!("{}/messages/{id}:undo", scene.account);
    let undone = scene.server.post(&undo(&first), json!({})).await.expect(200);
    assert_eq!((&undone["contact_id"], &undone["conversation_id"]), (&Value::Null, &Value::Null));
    assert_eq!(undone["marks"][0]["contact_id"], json!(contact));
    assert_eq!(scene.count(&format!("/contacts/{contact}/timeline")).await, 1);
    assert_eq!(
        scene.get(&format!("/conversations/{}", text(&shown["conversation_id"]))).await["subject"],
        "About second"
    );
}

#[tokio::test]
async fn r70a_a_mail_can_be_taken_back_for_30_days_and_no_longer() {
    let scene = Scene::set().await;
    for (days, status) in [(29, 200), (30, 409)] {
        let at = Timestamp::now().plus_days(-days);
        let raw = mail("bo@practice.test", &format!("d{days}"), "");
        let filed = scene.server.deliver_at(&text(&scene.bo["sync"]["sync_address"]), &raw, at).await;
        let delivery = scene.get(&format!("/deliveries/{}", filed.decided[0].0)).await;
        let path = format!("{}/messages/{}:undo", scene.account, text(&delivery["message_id"]));
        let answer = scene.server.post(&path, json!({})).await;
        assert_eq!(answer.status, status, "{days}");
    }
}

#[tokio::test]
async fn r60_a_held_mail_that_is_erased_does_not_come_back() {
    let scene = Scene::set().await;
    scene.server.patch(&scene.account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let raw = mail("bo@practice.test", "h", "").replace("ana@", "nobody@");
    scene.deliver(&scene.bo, &raw).await;
    assert_eq!(scene.count("/held").await, 1);
    let path = format!("{}/users/{}/sync:disconnect", scene.account, text(&scene.bo["id"]));
    scene.server.post(&path, json!({"purge": "mine"})).await.expect(200);
    assert_eq!(scene.count("/held").await, 0);
    scene.server.post(&path.replace("disconnect", "connect"), json!({})).await.expect(200);
    scene.erased_retry(&scene.bo, &raw).await;
    assert_eq!(scene.count("/held").await, 0);
}

#[tokio::test]
async fn r60_what_was_held_before_it_was_filed_leaves_no_event_behind() {
    for way in ["message", "undo", "contact", "user", "mine", "content"] {
        let scene = Scene::set().await;
        let settings = json!({"settings": {"unknown_to": "hold", "content_days": 40}});
        scene.server.patch(&scene.account, settings).await.expect(200);
        let hook = json!({"url": "https://hook.crm.test/in", "events": ["message.held"]});
        let hook = scene.server.post(&format!("{}/webhooks", scene.account), hook).await.expect(201);
        scene
            .deliver(&scene.bo, &mail("bo@practice.test", "h", "").replace("Ana <ana@", "Nora <nora@"))
            .await;
        let held = text(&scene.get("/held").await["items"][0]["id"]);
        let path = format!("{}/held/{held}:file", scene.account);
        let filed = scene.server.post(&path, json!({"contact_id": scene.ana})).await.expect(200);
        let events = scene.get("/events?limit=200").await;
        let of_held =
            events["items"].as_array().unwrap().iter().find(|event| event["type"] == "message.held");
        let of_held = text(&of_held.unwrap()["id"]);
        let message = text(&filed["message_id"]);
        let on_bo = format!("{}/users/{}", scene.account, text(&scene.bo["id"]));
        match way {
            "message" => drop(scene.purge(json!({"message_id": message})).await),
            "contact" => drop(scene.purge(json!({"contact_id": scene.ana})).await),
            "user" => drop(scene.purge(json!({"user_id": scene.bo["id"]})).await),
            "undo" => {
                let path = format!("{}/messages/{message}:undo", scene.account);
                scene.server.post(&path, json!({})).await.expect(200);
            }
            "mine" => {
                let path = format!("{on_bo}/sync:disconnect");
                scene.server.post(&path, json!({"purge": "mine"})).await.expect(200);
            }
            _ => {
                scene.server.store.expire(Timestamp::now().plus_days(41)).await.unwrap();
            }
        }
        let events = scene.get("/events?limit=200").await.to_string();
        assert!(!events.contains("About h") && !events.contains("nora@"), "{way}: {events}");
        let path = format!("{}/webhooks/{}:replay", scene.account, text(&hook["id"]));
        scene.server.post(&path, json!({"event_id": of_held})).await.problem(404);
    }
}

#[tokio::test]
async fn r60_a_purged_user_stands_in_no_trace_of_a_colleagues_mail_either() {
    let scene = Scene::set().await;
    let raw = mail("eva@practice.test", "shared", "Cc: Bo <bo@practice.test>\n");
    let shared = scene.file(&scene.eva, &raw).await;
    scene.deliver(&scene.bo, &raw).await;
    assert_eq!(scene.count("/deliveries?message_id=shared@practice.test").await, 2);
    let body = json!({"user_id": scene.bo["id"], "dry_run": true});
    let planned = scene.purge(body).await;
    let mut purged = scene.purge(json!({"user_id": scene.bo["id"]})).await;
    assert_eq!((&purged["messages"], &purged["deliveries"]), (&json!(0), &json!(1)));
    purged["done"] = json!(false);
    assert_eq!(planned, purged);
    let said = scene.get("/deliveries").await.to_string() + &scene.get("/events?limit=200").await.to_string();
    let sync = text(&scene.bo["sync"]["sync_address"]);
    assert!(!said.contains("bo@practice.test") && !said.contains(&sync), "{said}");
    assert_eq!(scene.get(&format!("/messages/{shared}")).await["user_id"], scene.eva["id"]);
}

#[tokio::test]
async fn r63_an_address_is_found_in_any_case_of_any_letter() {
    let scene = Scene::set().await;
    scene.server.patch(&scene.account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let copied = mail("bo@practice.test", "copied", "Cc: \u{c4}nne <\u{c4}NNE@patient.test>\n");
    let copied = scene.file(&scene.bo, &copied).await;
    let lonely = mail("bo@practice.test", "lonely", "").replace("Ana <ana@", "\u{c4}nne <\u{c4}nne@");
    scene.deliver(&scene.bo, &lonely).await;
    let anne = scene.server.contact(&scene.account, "\u{c4}nne", "\u{e4}nne@patient.test").await;
    assert_eq!(scene.count(&format!("/held?contact={anne}")).await, 1, "R36: what waits for her");
    assert!(scene.get("/events?limit=200").await.to_string().contains("\u{c4}NNE@patient.test"));
    let purged = scene.purge(json!({"contact_id": anne})).await;
    assert_eq!((&purged["messages"], &purged["held"]), (&json!(0), &json!(1)));
    let events = scene.get("/events?limit=200").await.to_string();
    assert!(!events.to_lowercase().contains("nne@patient.test"), "{events}");
    let left = scene.get(&format!("/messages/{copied}")).await;
    assert_eq!((&left["cc"][0]["email"], &left["cc"][0]["name"]), (&json!(""), &Value::Null), "{left}");
}

#[tokio::test]
async fn r03_a_user_who_is_purged_again_takes_nothing_more_from_colleagues_traces() {
    let scene = Scene::set().await;
    let raw = mail("eva@practice.test", "shared", "Cc: Bo <bo@practice.test>\n");
    scene.file(&scene.eva, &raw).await;
    let steps = async || {
        let items = scene.get("/deliveries").await["items"].as_array().unwrap().clone();
        let id = text(&items[0]["id"]);
        scene.get(&format!("/deliveries/{id}")).await["steps"].clone()
    };
    scene.purge(json!({"user_id": scene.bo["id"]})).await;
    let left = steps().await;
    assert!(left.to_string().contains("eva@practice.test"), "{left}");
    scene.purge(json!({"user_id": scene.bo["id"]})).await;
    assert_eq!(steps().await, left);
}

/// More people on a message than one transaction reads, and on those around it.
#[tokio::test]
async fn r63_who_is_erased_goes_from_messages_with_hundreds_of_people() {
    let scene = Scene::set().await;
    let mut messages = Vec::new();
    for people in [0, 495, 700, 0] {
        let others: String = (0..people).map(|n| format!(",\n p{n}@patient.test")).collect();
        let copied = format!("Cc: Carol <carol@patient.test>{others}\n");
        let raw = mail("bo@practice.test", &format!("with-{}", messages.len()), &copied);
        messages.push(scene.file(&scene.bo, &raw).await);
    }
    let carol = scene.server.contact(&scene.account, "Carol", "carol@patient.test").await;
    for message in &messages {
        let shown = scene.get(&format!("/messages/{message}")).await.to_string();
        assert!(shown.contains("carol@"), "{shown}");
    }
    scene.purge(json!({"contact_id": carol})).await;
    for message in &messages {
        let left = scene.get(&format!("/messages/{message}")).await;
        assert!(!left.to_string().to_lowercase().contains("carol"), "{left}");
    }
}

#[tokio::test]
async fn r60_a_whole_account_takes_along_the_operators_answers_about_it_and_no_others() {
    let scene = Scene::set().await;
    let other = scene.server.account().await;
    let write = async |account: &str, name: &str| {
        let request = scene.server.request(reqwest::Method::POST, &format!("{account}/contacts"));
        let request = request.bearer_auth(&scene.server.admin).header("idempotency-key", account);
        Server::send(request.json(&json!({"name": name, "email": "zoe@patient.test"}))).await
    };
    write(&scene.account, "Zoe").await.expect(201);
    let before = write(&other, "Zoe").await.expect(201);
    scene.purge(json!({"all": true})).await;
    assert_eq!(write(&other, "Zoe").await.expect(201), before, "answered again, not done again");
    // Under the key of an answer that is kept, another request is a conflict.
    write(&scene.account, "Another").await.expect(201);
}

#[tokio::test]
async fn r60_a_dry_run_that_has_no_time_to_count_it_all_says_that_there_is_more() {
    let scene = Scene::set().await;
    for n in 0..3 {
        scene.file(&scene.bo, &mail("bo@practice.test", &format!("n{n}"), "")).await;
    }
    let account = scene.account.trim_start_matches("/accounts/").parse().unwrap();
    let plan = async |until| {
        let of = PurgeOf::All;
        scene.server.store.plan_purge(account, of, until).await.unwrap()
    };
    let now = tokio::time::Instant::now();
    let (some, is_more) = plan(now).await;
    assert!(is_more && some.messages > 0, "{some:?}");
    let (all, is_more) = plan(now + std::time::Duration::from_secs(600)).await;
    assert_eq!((all.messages, is_more), (3, false));
    let planned = scene.purge(json!({"all": true, "dry_run": true})).await;
    assert_eq!(planned.get("more"), None, "{planned}");
}

#[tokio::test]
async fn r60_what_is_answered_while_an_account_is_emptied_goes_but_for_the_answer_of_the_purge() {
    let scene = Scene::set().await;
    let store = &scene.server.store;
    let account = scene.account.trim_start_matches("/accounts/").parse().unwrap();
    let token = scene.server.token(&scene.account, &["contacts"]).await;
    let write = async |token: &str, name: &str| {
        let request = scene.server.request(reqwest::Method::POST, &format!("{}/contacts", scene.account));
        let request = request.bearer_auth(token).header("idempotency-key", "k");
        Server::send(request.json(&json!({"name": name, "email": "zoe@patient.test"}))).await
    };
    let asked =
        |owner, key: &str| Request { account: owner, key: key.to_owned(), about: account, hash: [7; 32] };
    let answer = StoredAnswer { status: 200, body: json!({"messages": 0, "done": false}).to_string() };
    // Of a contact, on its way as well: it has gathered addresses.
    let mut change = store.change().await.unwrap();
    let ana = PurgeOf::Contact(scene.ana.parse().unwrap());
    let of_contact = change.begin_purge(account, ana, "x").await.unwrap();
    change.commit().await.unwrap();
    for _ in 0..3 {
        let step = store.work_off(of_contact, tokio::time::Instant::now()).await.unwrap();
        assert!(matches!(step, PurgeStep::More(_)), "{step:?}");
    }
    let mut change = store.change().await.unwrap();
    let whole = change.begin_purge(account, PurgeOf::All, "x").await.unwrap();
    change.commit().await.unwrap();
    // More is left than a request has time for.
    let step = store.work_off(whole, tokio::time::Instant::now()).await.unwrap();
    assert!(matches!(step, PurgeStep::More(_)), "{step:?}");
    for token in [&token, &scene.server.admin] {
        write(token, "Zoe").await.expect(201);
    }
    let mut change = store.change().await.unwrap();
    for owner in [account, AccountId::OPERATOR] {
        change.remember(&asked(owner, "p"), &answer).await.unwrap();
    }
    change.commit().await.unwrap();
    store.finish_purges(Timestamp::now()).await.unwrap();
    for owner in [account, AccountId::OPERATOR] {
        assert_eq!(store.recall(&asked(owner, "p")).await.unwrap(), Remembered::Answered(answer.clone()));
    }
    // Under the key of an answer that is kept, another request would be a conflict.
    for token in [&token, &scene.server.admin] {
        write(token, "Another").await.expect(201);
    }
    // What looks through the answers reads them all.
    let contact = scene.server.contact(&scene.account, "Bea", "bea@patient.test").await;
    assert_eq!(scene.purge(json!({"contact_id": contact})).await["done"], json!(true));
}

#[tokio::test]
async fn what_does_not_open_stops_neither_an_erasure_nor_the_end_of_anything() {
    let scene = Scene::on(Server::start_sealed().await).await;
    scene.server.patch(&scene.account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let token = scene.server.token(&scene.account, &["contacts"]).await;
    let request = scene.server.request(reqwest::Method::POST, &format!("{}/contacts", scene.account));
    let request = request.bearer_auth(&token).header("idempotency-key", "k");
    Server::send(request.json(&json!({"name": "Zoe", "email": "zoe@patient.test"}))).await.expect(201);
    let first =
        scene.file(&scene.bo, &mail("bo@practice.test", "first", "Cc: Eva <eva@practice.test>\n")).await;
    scene.file(&scene.eva, &mail("eva@practice.test", "second", "Cc: Bo <bo@practice.test>\n")).await;
    for id in ["h1", "h2"] {
        scene.deliver(&scene.bo, &mail("bo@practice.test", id, "").replace("ana@", "nobody@")).await;
    }
    for text in [
        "UPDATE messages SET attachments = '~1~AAAA', subject = '~1~AAAA', digest = content_key",
        "UPDATE participants SET email = '~1~AAAA'",
        "UPDATE events SET data = '~1~AAAA' WHERE type <> 'message.held'",
        "UPDATE deliveries SET steps = '~1~AAAA', helo = '~1~AAAA', mail_from = '~1~AAAA', rcpt = '~1~AAAA'",
        "UPDATE held SET headers = '~1~AAAA', message_id_header = '~2~AAAA'",
        "UPDATE contacts SET other_emails = '~1~AAAA'",
        "UPDATE idempotency_keys SET response = '~1~AAAA'",
        "UPDATE accounts SET settings = '~1~AAAA' WHERE account_id NOT IN (SELECT account_id FROM held)",
    ] {
        scene.server.change_by_hand(text).await;
    }
    // Those behind are shown.
    let events = scene.get("/events?limit=200").await;
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, [&json!("message.held"), &json!("message.held")]);
    assert_eq!(scene.purge(json!({"message_id": first})).await["messages"], 1);
    // The settings of another account are said to be unread; this one's mail ends.
    scene.server.store.expire(Timestamp::now().plus_days(100)).await.unwrap_err();
    assert_eq!(scene.count("/held").await, 0);
    assert_eq!(scene.purge(json!({"contact_id": scene.ana})).await["messages"], 1);
    assert_eq!(scene.purge(json!({"user_id": scene.eva["id"]})).await["done"], true);
    assert_eq!(scene.purge(json!({"all": true})).await["done"], true);
}

#[tokio::test]
async fn dry_runs_beside_each_other_leave_readers_for_others() {
    let scene = Scene::on(Server::start_sealed().await).await;
    scene.file(&scene.bo, &mail("bo@practice.test", "m", "")).await;
    let account = scene.account.trim_start_matches("/accounts/").parse().unwrap();
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(600);
    let plan = || scene.server.store.plan_purge(account, PurgeOf::All, until);
    let plans = futures_util::future::join_all((0..16).map(|_| plan())).await;
    for planned in plans {
        assert_eq!(planned.unwrap().0.messages, 1);
    }
}

/// R70: who sends a mail again and again leaves a trace each time.
#[tokio::test]
async fn r60_a_message_with_more_traces_than_a_transaction_takes_is_purged() {
    let scene = Scene::set().await;
    let (kept, often) = repeated(&scene).await;
    let purged = scene.purge(json!({"message_id": often})).await;
    assert_eq!((&purged["messages"], &purged["deliveries"]), (&json!(1), &json!(4_101)));
    scene.gone(&format!("/messages/{often}")).await;
    scene.get(&format!("/messages/{kept}")).await;
}

#[tokio::test]
async fn r64_r70a_an_undo_of_more_traces_than_a_transaction_takes_is_audited_whole() {
    let scene = Scene::set().await;
    let (kept, often) = repeated(&scene).await;
    scene.server.post(&format!("{}/messages/{often}:undo", scene.account), json!({})).await.expect(200);
    scene.gone(&format!("/messages/{often}")).await;
    scene.get(&format!("/messages/{kept}")).await;
    let trail = scene.get("/audit?limit=200").await;
    let rows: Vec<_> =
        trail["items"].as_array().unwrap().iter().filter(|row| row["action"] == "undo").collect();
    let count = |name: &str| rows.iter().filter_map(|row| row["detail"][name].as_u64()).sum::<u64>();
    assert_eq!((rows.len(), count("messages"), count("deliveries")), (3, 1, 4_101), "{trail}");
    assert!(rows.iter().all(|row| row["object"] == format!("messages/{often}")), "{trail}");
}

/// A user's few among many of others: more than one look goes through, and each look is a transaction of its own.
#[tokio::test]
async fn r60_a_users_mail_and_traces_are_found_behind_thousands_of_others() {
    for of in ["user_id", "mine"] {
        let scene = Scene::set().await;
        repeated(&scene).await;
        let evas = scene.file(&scene.eva, &mail("eva@practice.test", "eva", "")).await;
        let id = evas.replace('-', "");
        let (columns, copied) = (
            "account_id, message_id, conversation_id, contact_id, user_id, direction, kind, sender, subject, sent_at,
             received_at, message_id_header, text, new_text, has_html, flags, attachments, digest, size_bytes",
            "m.conversation_id, m.contact_id, m.user_id, m.direction, m.kind, m.sender, m.subject, m.sent_at,
             m.received_at, 'copy-' || n, m.text, m.new_text, m.has_html, m.flags, '[]', m.digest, m.size_bytes",
        );
        let texts = [
            format!(
                "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 4100)
                 INSERT INTO messages ({columns}) SELECT m.account_id, unhex(printf('0100000000007000800%013x', n)), {copied}
                 FROM messages m, many WHERE m.message_id = unhex('{id}')"
            ),
            format!(
                "INSERT INTO messages ({columns})
                 SELECT m.account_id, CAST('01000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS UUID), {copied}
                 FROM messages m, generate_series(1, 4100) n WHERE m.message_id = CAST('{id}' AS UUID)"
            ),
        ];
        scene.fill(&texts[0], &texts[1]).await;
        let theirs = scene.file(&scene.bo, &mail("bo@practice.test", "behind", "")).await;
        let bo = text(&scene.bo["id"]);
        if of == "mine" {
            let body = json!({"purge": "mine"});
            scene
                .server
                .post(&format!("{}/users/{bo}/sync:disconnect", scene.account), body)
                .await
                .expect(200);
        } else {
            let planned = scene.purge(json!({"user_id": bo, "dry_run": true})).await;
            let mut purged = scene.purge(json!({"user_id": bo})).await;
            // Bo's were `kept`, the one that came often, and this.
            assert_eq!(purged["messages"], 3);
            purged["done"] = json!(false);
            assert_eq!(planned, purged);
        }
        scene.gone(&format!("/messages/{theirs}")).await;
        scene.get(&format!("/messages/{evas}")).await;
    }
}

/// Two mails; the second has come 4,101 times.
async fn repeated(scene: &Scene) -> (String, String) {
    let kept = scene.file(&scene.bo, &mail("bo@practice.test", "kept", "")).await;
    let often = scene.file(&scene.bo, &mail("bo@practice.test", "often", "")).await;
    let id = often.replace('-', "");
    let traces =
        "INSERT INTO deliveries (account_id, delivery_id, message_id, at, peer, helo, size_bytes, outcome,
                  reason, smtp, steps)";
    let texts = [
        format!(
            "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 4100) {traces}
             SELECT (SELECT account_id FROM users LIMIT 1), unhex(printf('01ff0000000070008000%012x', n)),
             unhex('{id}'), 1, '', '', 0, 'duplicate', 'duplicate', '', '[]' FROM many"
        ),
        format!(
            "{traces} SELECT (SELECT account_id FROM users LIMIT 1),
             CAST('01ff0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS UUID), CAST('{id}' AS UUID), 1, '', '', 0,
             'duplicate', 'duplicate', '', '[]' FROM generate_series(1, 4100) n"
        ),
    ];
    scene.fill(&texts[0], &texts[1]).await;
    (kept, often)
}

#[tokio::test]
async fn r60_the_traces_of_a_contact_go_also_where_the_content_had_its_time_before() {
    let scene = Scene::set().await;
    scene.server.patch(&scene.account, json!({"settings": {"content_days": 1}})).await.expect(200);
    scene.file(&scene.bo, &mail("bo@practice.test", "old", "")).await;
    let ended = scene.server.store.expire(Timestamp::now().plus_days(3)).await.unwrap();
    assert_eq!((ended.messages, ended.traces), (1, 0));
    assert_eq!(scene.count(&format!("/deliveries?contact={}", scene.ana)).await, 1);
    let purged = scene.purge(json!({"contact_id": scene.ana})).await;
    assert_eq!(purged["deliveries"], 1);
    assert_eq!(scene.count("/deliveries").await, 0);
}

/// A family's address is the mother's; the daughter has it among her others.
#[tokio::test]
async fn r63_what_an_address_of_two_people_brought_is_not_taken_from_the_other() {
    let scene = Scene::set().await;
    scene.server.patch(&scene.account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let held = mail("bo@practice.test", "held", "").replace("Ana <ana@", "Mia <family@");
    scene.deliver(&scene.bo, &held).await;
    let mia = scene.server.contact(&scene.account, "Mia", "family@patient.test").await;
    scene.file(&scene.bo, &mail("bo@practice.test", "hers", "Cc: Mia <family@patient.test>\n")).await;
    let refused = mail("family@patient.test", "refused", "");
    scene.deliver(&scene.bo, &refused).await;
    let cleo = scene.server.contact(&scene.account, "Cleo", "cleo@patient.test").await;
    let others = json!({"other_emails": ["family@patient.test"]});
    scene.server.patch(&format!("{}/contacts/{cleo}", scene.account), others).await.expect(200);
    let traces = scene.count("/deliveries?from=family@patient.test").await;
    let waiting = scene.count(&format!("/held?contact={mia}")).await;
    let said = scene.get("/events?limit=200").await;
    assert!(traces > 0 && waiting > 0 && said.to_string().contains("family@patient.test"));
    scene.purge(json!({"contact_id": cleo})).await;
    assert_eq!(scene.count("/deliveries?from=family@patient.test").await, traces);
    assert_eq!(scene.count(&format!("/held?contact={mia}")).await, waiting);
    let named = |events: &Value| events.to_string().matches("family@patient.test").count();
    assert_eq!(named(&scene.get("/events?limit=200").await), named(&said));
    scene.purge(json!({"contact_id": mia})).await;
    assert_eq!(scene.count("/deliveries?from=family@patient.test").await, 0);
    assert_eq!(named(&scene.get("/events?limit=200").await), 0);
}
