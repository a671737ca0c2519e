//! Contacts, imports, marks.

use serde_json::{Value, json};

use crate::postgres;
use crate::server::{Answer, STRANGER, Server, keys, text};

#[tokio::test]
async fn a_contact_is_made_found_changed_and_deleted() {
    let server = Server::start().await;
    let account = server.account().await;
    let contacts = format!("{account}/contacts");
    let new = json!({"name": "Ana Ruiz", "email": "Ana@Patient.test", "other_emails": ["a2@patient.test"], "external_id": "P-1"});
    let ana = server.post(&contacts, new).await.expect(201);
    assert_eq!(
        keys(&ana),
        ["id", "name", "email", "other_emails", "external_id", "created_at", "created_by"]
    );
    assert_eq!((&ana["email"], &ana["created_by"]), (&json!("Ana@Patient.test"), &json!("api")));
    server.contact(&account, "Bea 100%", "bea@patient.test").await;

    for (query, names) in [
        ("q=ruiz", vec!["Ana Ruiz"]),
        ("q=PATIENT.test", vec!["Ana Ruiz", "Bea 100%"]),
        ("q=a2@", vec!["Ana Ruiz"]),
        ("q=100%25", vec!["Bea 100%"]),
        ("q=%25%25", vec![]),
        ("email=ANA@patient.TEST", vec!["Ana Ruiz"]),
        ("email=a2@patient.test", vec![]),
        ("q=ANA@patient.test", vec!["Ana Ruiz"]),
    ] {
        // Under seal a part of a name or address is not found.
        if postgres::rows_are_sealed() && !query.contains("ANA@") {
            assert_eq!(server.get(&format!("{contacts}?{query}")).await.expect(200)["items"], json!([]));
            continue;
        }
        let found = server.get(&format!("{contacts}?{query}")).await.expect(200);
        let seen: Vec<_> = found["items"].as_array().unwrap().iter().map(|c| text(&c["name"])).collect();
        assert_eq!(seen, names, "{query}");
    }

    let path = format!("{contacts}/{}", text(&ana["id"]));
    let changed =
        server.patch(&path, json!({"email": "new@patient.test", "external_id": null})).await.expect(200);
    assert_eq!((&changed["email"], &changed["external_id"]), (&json!("new@patient.test"), &Value::Null));
    assert_eq!(changed["name"], "Ana Ruiz");
    assert_eq!(server.get(&path).await.expect(200), changed);
    server.delete(&path).await.expect(204);
    server.get(&path).await.problem(404);
    server.delete(&path).await.problem(404);
}

#[tokio::test]
async fn a_contact_that_cannot_be_taken_is_refused_naming_the_field() {
    let server = Server::start().await;
    let contacts = format!("{}/contacts", server.account().await);
    server.post(&contacts, json!({"name": "A", "email": "a@a.test", "external_id": "1"})).await.expect(201);
    for (body, named) in [
        (json!({"email": "a@a.test"}), "name"),
        (json!({"name": "A"}), "email"),
        (json!({"name": "A", "email": "a"}), "email"),
        (json!({"name": 3, "email": "a@a.test"}), "name"),
        (json!({"name": "A", "email": "a@a.test", "other_emails": ["x"]}), "other_emails[0]"),
        (json!({"name": "A", "email": "a@a.test", "colour": 1}), "colour"),
        (json!({"name": "n".repeat(201), "email": "a@a.test"}), "name"),
    ] {
        let detail = server.post(&contacts, body).await.problem(422);
        assert!(detail.contains(named), "{detail}");
    }
    server.post(&contacts, json!({"name": "n".repeat(200), "email": "a@a.test"})).await.expect(201);
    let taken = server.post(&contacts, json!({"name": "B", "email": "b@a.test", "external_id": "1"})).await;
    assert!(taken.problem(409).contains("external_id"));
}

#[tokio::test]
async fn a_list_is_read_to_its_end_by_cursors_without_gap_or_repetition() {
    let server = Server::start().await;
    let account = server.account().await;
    let csv: String = std::iter::once("name,email\n".to_owned())
        .chain((0..230).map(|n| format!("N{n:03},n{n}@a.test\n")))
        .collect();
    let report = import(&server, &account, "text/csv", &csv).await.expect(200);
    assert_eq!(report, json!({"created": 230, "updated": 0, "failed": []}));
    for (limit, pages) in [("", 5), ("&limit=200", 2), ("&limit=115", 2), ("&limit=230", 0), ("&limit=1", 0)]
    {
        if limit.ends_with("=230") {
            assert!(server.get(&format!("{account}/contacts?{limit}")).await.problem(400).contains("limit"));
            continue;
        }
        let (mut names, mut cursor, mut seen) = (Vec::new(), String::new(), 0);
        loop {
            let page = server.get(&format!("{account}/contacts?{cursor}{limit}")).await.expect(200);
            names.extend(page["items"].as_array().unwrap().iter().map(|contact| text(&contact["name"])));
            seen += 1;
            if page["next"].is_null() {
                break;
            }
            cursor = format!("cursor={}", text(&page["next"]));
            if pages == 0 && seen == 3 {
                assert_eq!(names, ["N000", "N001", "N002"]);
                break;
            }
        }
        if pages > 0 {
            assert_eq!(names, (0..230).map(|n| format!("N{n:03}")).collect::<Vec<_>>(), "{limit}");
            assert_eq!(seen, pages, "{limit}");
        }
    }
    server.get(&format!("{account}/contacts?q=&email=&cursor=")).await.expect(200);
    for bad in ["cursor=x", "limit=0", "limit=x", "limit=-1", "limt=3"] {
        server.get(&format!("{account}/contacts?{bad}")).await.problem(400);
    }
}

async fn import(server: &Server, account: &str, content_type: &str, body: &str) -> Answer {
    let request = server.request(reqwest::Method::POST, &format!("{account}/contacts:import"));
    let request = request.bearer_auth(&server.admin).header("content-type", content_type);
    Server::send(request.body(body.to_owned())).await
}

#[tokio::test]
async fn an_import_updates_what_it_knows_and_reports_the_lines_it_cannot_take() {
    let server = Server::start().await;
    let account = server.account().await;
    let ana = json!({"name": "Old", "email": "ana@a.test", "external_id": "1", "other_emails": ["x@a.test"]});
    server.post(&format!("{account}/contacts"), ana).await.expect(201);
    server.contact(&account, "Old Bea", "bea@a.test").await;
    let csv = "external_id,name,email\n1,\"Ruiz, Ana\",ana2@a.test\n,Bea,BEA@a.test\n,,nobody@a.test\n5,Cid,not an address\n6,Dan,dan@a.test\n";
    let report = import(&server, &account, "text/csv; charset=utf-8", csv).await.expect(200);
    assert_eq!((&report["created"], &report["updated"]), (&json!(1), &json!(2)));
    let failed: Vec<_> = report["failed"].as_array().unwrap().iter().collect();
    assert_eq!(failed.iter().map(|f| f["line"].as_u64().unwrap()).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(keys(failed[0]), ["line", "detail"]);
    assert!(text(&failed[1]["detail"]).contains("email"));
    let found = server.get(&format!("{account}/contacts?email=ana2@a.test")).await.expect(200);
    assert_eq!(found["items"][0]["name"], "Ruiz, Ana");
    assert_eq!(found["items"][0]["other_emails"], json!(["x@a.test"]));

    let lines = "{\"name\":\"Eve\",\"email\":\"eve@a.test\",\"other_emails\":[\"e2@a.test\"]}\n{\"name\":\"No\"}\n{\n{\"name\":\"Dan 2\",\"email\":\"dan@a.test\"}";
    let report = import(&server, &account, "application/x-ndjson", lines).await.expect(200);
    assert_eq!((&report["created"], &report["updated"]), (&json!(1), &json!(1)));
    let failed = report["failed"].as_array().unwrap();
    assert_eq!(failed.iter().map(|f| f["line"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3]);
    let eve = server.get(&format!("{account}/contacts?email=eve@a.test")).await.expect(200);
    assert_eq!(eve["items"][0]["created_by"], "import");
    let empty = import(&server, &account, "text/csv", "").await.expect(200);
    assert_eq!(empty, json!({"created": 0, "updated": 0, "failed": []}));
}

#[tokio::test]
async fn an_import_ends_after_a_thousand_bad_lines() {
    let server = Server::start().await;
    let account = server.account().await;
    let mut csv = "name,email\n".to_owned();
    csv.push_str(&"x,not an address\n".repeat(1500));
    csv.push_str("Last,last@a.test\n");
    let report = import(&server, &account, "text/csv", &csv).await.expect(200);
    assert_eq!((&report["created"], report["failed"].as_array().unwrap().len()), (&json!(0), 1001));
}

#[tokio::test]
async fn r29_a_mark_is_turned_on_and_off_and_listed_for_a_connector() {
    let server = Server::start().await;
    let account = server.account().await;
    let user = text(&server.user(&account, "bo@practice.test").await["id"]);
    let contact = server.contact(&account, "Ana", "ana@patient.test").await;
    let marks = format!("{account}/contacts/{contact}/sync");
    let path = format!("{marks}/{user}");
    let on = server.as_token(&server.admin, "PUT", &path, None).await.expect(200);
    assert_eq!(keys(&on), ["user_id", "state", "since", "because"]);
    assert_eq!((&on["state"], &on["because"], &on["user_id"]), (&json!("on"), &json!("api"), &json!(user)));
    let again = server.as_token(&server.admin, "PUT", &path, None).await.expect(200);
    assert_eq!(again, on);
    assert_eq!(server.get(&marks).await.expect(200), json!({"items": [on], "next": null}));

    server.delete(&path).await.expect(204);
    let off = server.get(&marks).await.expect(200);
    assert_eq!(off["items"][0]["state"], "off");
    let on_now = server.get(&format!("{account}/sync-marks?user={user}")).await.expect(200);
    assert_eq!(on_now["items"], json!([]), "what is off is told only to those who follow changes");
    let all =
        server.get(&format!("{account}/sync-marks?user={user}&since=2020-01-01T00:00:00Z")).await.expect(200);
    assert_eq!((&all["items"][0]["contact_id"], &all["items"][0]["state"]), (&json!(contact), &json!("off")));
    let since = text(&all["items"][0]["since"]);
    let from_then = server.get(&format!("{account}/sync-marks?since={since}")).await.expect(200);
    assert_eq!(from_then["items"].as_array().unwrap().len(), 1);
    let later = server.get(&format!("{account}/sync-marks?since=2999-01-01T00:00:00Z")).await.expect(200);
    assert_eq!(later["items"], json!([]));
    server.get(&format!("{account}/sync-marks?since=now")).await.problem(400);
    server.get(&format!("{account}/sync-marks?user=x")).await.problem(400);
    server.as_token(&server.admin, "PUT", &format!("{marks}/{STRANGER}"), None).await.problem(404);
    server.get(&format!("{account}/contacts/{STRANGER}/sync")).await.problem(404);

    let events = server.get(&format!("{account}/events")).await.expect(200);
    let types: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| text(&event["type"])).collect();
    assert_eq!(types, ["contact.created", "contact.sync_on", "contact.sync_off"]);
}
