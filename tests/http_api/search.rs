//! The search.

use serde_json::{Value, json};

use crate::postgres;
use crate::server::{STRANGER, Server, keys, text};

struct Scene {
    server: Server,
    account: String,
    user: String,
    sync: String,
    ana: String,
    bea: String,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::start().await;
        let account = server.account().await;
        let user = server.user(&account, "bo@practice.test").await;
        let ana = server.contact(&account, "Ana", "ana@patient.test").await;
        let bea = server.contact(&account, "Bea", "bea@patient.test").await;
        let (sync, user) = (text(&user["sync"]["sync_address"]), text(&user["id"]));
        let scene = Self { server, account, user, sync, ana, bea };
        scene
            .deliver("ana@patient.test", 1, "Your knee", "The knee\nlooks well.\n> what about my elbow?")
            .await;
        scene.deliver("bea@patient.test", 2, "Your elbow", "The elbow hurts, not the knee.").await;
        scene
    }

    /// Where rows are sealed nothing of a text stands in the index.
    async fn with_words() -> Option<Self> {
        let is_without = postgres::skips(postgres::rows_are_sealed(), "no words of sealed rows are indexed");
        if is_without { None } else { Some(Self::set().await) }
    }

    async fn deliver(&self, to: &str, n: u32, subject: &str, text: &str) {
        let raw = format!(
            "From: Bo <bo@practice.test>\nTo: {to}\nSubject: {subject}\nDate: Sun, 22 Nov 2020 02:44:{n:02} +0000\n\
             Message-ID: <{n}@practice.test>\n\n{text}\n"
        );
        self.server.deliver(&self.sync, &raw).await;
    }

    fn path(&self, query: &str) -> String {
        let query: String = query
            .bytes()
            .map(|octet| {
                if octet.is_ascii_alphanumeric() || b"&=-_".contains(&octet) {
                    char::from(octet).to_string()
                } else {
                    format!("%{octet:02x}")
                }
            })
            .collect();
        format!("{}/search?{query}", self.account)
    }

    async fn found(&self, query: &str) -> Vec<Value> {
        let page = self.server.get(&self.path(query)).await.expect(200);
        assert_eq!(keys(&page), ["items", "next", "incomplete"]);
        assert_eq!(page["incomplete"], json!(false));
        page["items"].as_array().unwrap().clone()
    }

    async fn subjects(&self, query: &str) -> Vec<String> {
        self.found(query).await.iter().map(|hit| text(&hit["subject"])).collect()
    }
}

#[tokio::test]
async fn a_search_shows_where_the_words_stand() {
    let Some(scene) = Scene::with_words().await else { return };
    let hits = scene.found("q=knee well").await;
    assert_eq!(hits.len(), 1);
    let hit = &hits[0];
    assert_eq!(
        keys(hit),
        [
            "id",
            "conversation_id",
            "contact_id",
            "user_id",
            "direction",
            "kind",
            "subject",
            "from",
            "sent_at",
            "snippet"
        ]
    );
    assert_eq!(hit["contact_id"], json!(scene.ana));
    assert_eq!(hit["user_id"], json!(scene.user));
    assert_eq!((&hit["direction"], &hit["kind"]), (&json!("outbound"), &json!("mail")));
    assert_eq!(hit["from"], json!({"name": "Bo", "email": "bo@practice.test"}));
    assert_eq!(hit["sent_at"], "2020-11-22T02:44:01.000Z");
    assert_eq!(
        hit["snippet"],
        json!([
            {"text": "The ", "match": false}, {"text": "knee", "match": true}, {"text": " looks ", "match": false},
            {"text": "well", "match": true}, {"text": ".", "match": false},
        ])
    );
    let message =
        scene.server.get(&format!("{}/messages/{}", scene.account, text(&hit["id"]))).await.expect(200);
    assert_eq!(message["conversation_id"], hit["conversation_id"]);
}

#[tokio::test]
async fn subject_and_new_text_are_searched_and_quotes_are_not() {
    let Some(scene) = Scene::with_words().await else { return };
    for (query, subjects) in [
        ("q=knee", &["Your elbow", "Your knee"][..]),
        ("q=elbow", &["Your elbow"]),
        ("q=\"the knee\" -hurts", &["Your knee"]),
        ("q=el*", &["Your elbow"]),
        ("q=to:bea@patient.test", &["Your elbow"]),
        ("q=to:bea@patient.test from:bo@practice.test -well", &["Your elbow"]),
        ("q=nobody", &[]),
        ("q=\"knee", &["Your elbow", "Your knee"]),
    ] {
        assert_eq!(scene.subjects(query).await, subjects, "{query}");
    }
    let ana = format!("q=knee&contact={}", scene.ana);
    assert_eq!(scene.subjects(&ana).await, ["Your knee"]);
    let conversation = text(&scene.found(&ana).await[0]["conversation_id"]);
    assert_eq!(scene.subjects(&format!("q=knee&conversation={conversation}")).await, ["Your knee"]);
    let both = format!("q=knee&conversation={conversation}&contact={}", scene.bea);
    assert_eq!(scene.subjects(&both).await, [""; 0]);
    assert_eq!(scene.subjects(&format!("q=knee&contact={STRANGER}")).await, [""; 0]);
    assert_eq!(scene.subjects(&format!("q=knee&conversation={STRANGER}")).await, [""; 0]);
}

#[tokio::test]
async fn whole_addresses_and_a_record_are_searched_whatever_is_sealed() {
    let scene = Scene::set().await;
    for (query, subjects) in [
        ("q=to:bea@patient.test", &["Your elbow"][..]),
        ("q=from:bo@practice.test", &["Your elbow", "Your knee"]),
        ("q=to:bea@patient.test from:bo@practice.test -well", &["Your elbow"]),
        ("q=to:bea@patient.tes", &[]),
    ] {
        assert_eq!(scene.subjects(query).await, subjects, "{query}");
    }
    let ana = format!("q=\"the knee\"&contact={}", scene.ana);
    assert_eq!(scene.subjects(&ana).await, ["Your knee"]);
    assert_eq!(scene.subjects("q=knee").await.is_empty(), postgres::rows_are_sealed());
}

#[tokio::test]
async fn parts_of_the_answer_go_on_where_the_one_before_ended() {
    let Some(scene) = Scene::with_words().await else { return };
    let first = scene.server.get(&scene.path("q=knee&limit=1")).await.expect(200);
    assert_eq!(first["items"][0]["subject"], "Your elbow");
    // What is filed meanwhile with a later date, or erased, moves nothing.
    scene.deliver("ana@patient.test", 3, "Later", "knee").await;
    scene
        .server
        .post(&format!("{}/purge", scene.account), json!({"message_id": first["items"][0]["id"]}))
        .await
        .expect(200);
    let second = scene
        .server
        .get(&scene.path(&format!("q=knee&limit=1&cursor={}", text(&first["next"]))))
        .await
        .expect(200);
    assert_eq!(second["items"][0]["subject"], "Your knee");
    assert_eq!(second["next"], Value::Null);
    assert_eq!(scene.subjects("q=knee").await, ["Later", "Your knee"]);
}

/// More than is indexed for one who searches.
#[tokio::test]
async fn an_answer_says_when_not_all_was_looked_through_and_a_record_is_always() {
    let scene = Scene::set().await;
    for n in 3..=260 {
        let raw = format!(
            "From: Bo <bo@practice.test>\nTo: bea@patient.test\nSubject: Many\nMessage-ID: <{n}@practice.test>\n\nmany\n"
        );
        scene.server.deliver(&scene.sync, &raw).await;
    }
    for (query, first) in [
        (format!("q=knee&contact={}", scene.ana), "Your knee"),
        ("q=from:bo@practice.test".to_owned(), "Many"),
    ] {
        let page = scene.server.get(&scene.path(&query)).await.expect(200);
        assert_eq!(page["items"][0]["subject"], first);
        assert_eq!(page["incomplete"], json!(first == "Many"), "{query}");
    }
    let rest = scene.server.get(&scene.path("q=from:bo@practice.test")).await.expect(200);
    assert_eq!(rest["incomplete"], json!(false));
}

#[tokio::test]
async fn what_cannot_be_looked_for_is_said() {
    let Some(scene) = Scene::with_words().await else { return };
    let long = format!("q={}", "a".repeat(257));
    let many = format!("q={}", "a ".repeat(17).trim());
    for (query, detail) in [
        ("", "q: must hold a word to look for"),
        ("q=", "q: must hold a word to look for"),
        ("q=-knee", "q: must hold a word to look for"),
        ("q=!?", "q: must hold a word to look for"),
        (&long, "q: at most 256 characters"),
        (&many, "q: at most 16 words, phrases and addresses"),
    ] {
        assert_eq!(scene.server.get(&scene.path(query)).await.problem(422), detail, "{query}");
    }
    for query in ["q=a&cursor=x", "q=a&limit=201", "q=a&contact=7", "q=a&page=2"] {
        scene.server.get(&scene.path(query)).await.problem(400);
    }
}

#[tokio::test]
async fn r4_a_token_searches_its_own_account_and_only_with_the_scope_of_content() {
    let Some(scene) = Scene::with_words().await else { return };
    let other = scene.server.account().await;
    let path = scene.path("q=knee");
    let reader = scene.server.token(&scene.account, &["messages:content"]).await;
    let found = scene.server.as_token(&reader, "GET", &path, None).await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
    let all = ["contacts", "messages:meta", "attachments", "review", "addresses", "events", "audit", "purge"];
    let blind = scene.server.token(&scene.account, &all).await;
    let detail = scene.server.as_token(&blind, "GET", &path, None).await.problem(403);
    assert_eq!(detail, "the token has not the scope messages:content");
    let stranger = scene.server.token(&other, &["messages:content"]).await;
    scene.server.as_token(&stranger, "GET", &path, None).await.problem(404);
    let nothing =
        scene.server.as_token(&stranger, "GET", &format!("{other}/search?q=knee"), None).await.expect(200);
    assert_eq!(nothing["items"], json!([]));
}

#[tokio::test]
async fn r64_what_a_search_shows_is_a_read_and_the_words_are_not_written_down() {
    let Some(scene) = Scene::with_words().await else { return };
    let trail = format!("{}/audit?limit=200", scene.account);
    let before = scene.server.get(&trail).await.expect(200)["items"].as_array().unwrap().len();
    let hits = scene.found("q=knee well").await;
    scene.found("q=nothing of this").await;
    let rows = scene.server.get(&trail).await.expect(200);
    let rows = rows["items"].as_array().unwrap();
    assert_eq!(rows.len(), before + 1);
    assert_eq!((&rows[0]["action"], &rows[0]["object"]), (&json!("read"), &json!("search")));
    assert_eq!(rows[0]["detail"], json!({"messages": [hits[0]["id"]]}));
    assert!(!rows[0].to_string().contains("knee"), "{}", rows[0]);
}

#[tokio::test]
async fn what_gets_onto_the_record_by_another_way_is_found_and_what_is_taken_back_is_not() {
    let Some(scene) = Scene::with_words().await else { return };
    let sent = json!({
        "message_id_header": "crm-1@practice.test", "contact_id": scene.ana, "user_id": scene.user,
        "subject": "Reminder", "sent_at": "2020-11-23T00:00:00Z", "text": "Bring the insoles",
    });
    let registered =
        scene.server.post(&format!("{}/messages", scene.account), sent.clone()).await.expect(201);
    scene.server.post(&format!("{}/messages", scene.account), sent).await.expect(201);
    let hits = scene.found("q=insoles to:ana@patient.test from:bo@practice.test").await;
    assert_eq!(hits.iter().map(|hit| &hit["id"]).collect::<Vec<_>>(), [&registered["id"]]);

    // R15: held, and filed by a person.
    let raw = "From: cy@elsewhere.test\nTo: bo@practice.test\nSubject: Third\nDate: Sun, 22 Nov 2020 03:00:00 +0000\n\
               Message-ID: <9@elsewhere.test>\nIn-Reply-To: <1@practice.test>\n\nabout crutches\n";
    scene.server.deliver(&scene.sync, raw).await;
    assert_eq!(scene.subjects("q=crutches").await, [""; 0]);
    let held = scene.server.get(&format!("{}/held", scene.account)).await.expect(200);
    let path = format!("{}/held/{}:file", scene.account, text(&held["items"][0]["id"]));
    scene.server.post(&path, json!({"contact_id": scene.ana})).await.expect(200);
    let hits = scene.found("q=crutches from:cy@elsewhere.test").await;
    assert_eq!(hits.len(), 1);
    let path = format!("{}/messages/{}:undo", scene.account, text(&hits[0]["id"]));
    scene.server.post(&path, json!({})).await.expect(200);
    assert_eq!(scene.subjects("q=crutches").await, [""; 0]);

    scene.server.delete(&format!("{}/contacts/{}", scene.account, scene.ana)).await.expect(204);
    assert_eq!(scene.subjects("q=knee").await, ["Your elbow"]);
    scene.server.post(&format!("{}/purge", scene.account), json!({"all": true})).await.expect(200);
    assert_eq!(scene.subjects("q=knee").await, [""; 0]);
}
