//! Timelines, conversations, messages and what is in them; reply addresses; registered mail; deliveries.

use serde_json::{Value, json};

use crate::server::{STRANGER, Server, keys, text};

const MESSAGE: [&str; 20] = [
    "id",
    "conversation_id",
    "contact_id",
    "user_id",
    "direction",
    "role",
    "kind",
    "subject",
    "from",
    "to",
    "cc",
    "sent_at",
    "received_at",
    "message_id_header",
    "in_reply_to",
    "text",
    "new_text",
    "has_html",
    "sender",
    "flags",
];

/// An account with a user, two contacts and one mail of each kind of part.
struct Scene {
    server: Server,
    account: String,
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
        let scene = Self { sync: text(&user["sync"]["sync_address"]), server, account, ana, bea };
        scene.server.deliver(&scene.sync, FIRST).await;
        scene
    }

    async fn timeline(&self, contact: &str) -> Value {
        self.server.get(&format!("{}/contacts/{contact}/timeline", self.account)).await.expect(200)
    }

    async fn message(&self) -> String {
        format!("{}/messages/{}", self.account, text(&self.timeline(&self.ana).await["items"][0]["id"]))
    }
}

const FIRST: &str = "From: Bo Hansen <bo@practice.test>
To: Ana <ana@patient.test>
Cc: Bea <bea@patient.test>
Subject: Your results
Date: Sun, 22 Nov 2020 02:44:05 +0000
Message-ID: <first@practice.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8

<p onclick=\"x()\">All is <b>well</b></p><img src=\"https://tracker.test/p.gif\"><script>x()</script>
--b
Content-Type: text/html; name=\"r\u{e9}sum\u{e9}.html\"
Content-Disposition: attachment; filename=\"r\u{e9}sum\u{e9}.html\"

<script>alert(1)</script>
--b--
";

#[tokio::test]
async fn a_filed_mail_stands_on_the_timeline_of_each_contact_with_its_role() {
    let scene = Scene::set().await;
    let page = scene.timeline(&scene.ana).await;
    let entry = &page["items"][0];
    assert_eq!(keys(entry)[..20], MESSAGE);
    assert_eq!(keys(entry)[20..], ["attachments", "meeting"]);
    assert_eq!(keys(&entry["from"]), ["name", "email"]);
    assert_eq!(keys(&entry["to"][0]), ["name", "email", "contact_id", "user_id"]);
    assert_eq!(
        keys(&entry["attachments"][0]),
        ["n", "filename", "content_type", "size", "sha256", "inline", "status", "why"]
    );
    assert_eq!((&entry["direction"], &entry["kind"]), (&json!("outbound"), &json!("mail")));
    assert_eq!((&entry["subject"], &entry["sender"]), (&json!("Your results"), &json!("verified")));
    assert_eq!((&entry["contact_id"], &entry["role"]), (&json!(scene.ana), &json!("to")));
    assert_eq!((&entry["sent_at"], &entry["has_html"]), (&json!("2020-11-22T02:44:05.000Z"), &json!(true)));
    assert_eq!(entry["message_id_header"], "first@practice.test");
    let copied = scene.timeline(&scene.bea).await;
    assert_eq!((&copied["items"][0]["id"], &copied["items"][0]["role"]), (&entry["id"], &json!("cc")));
    scene.server.get(&format!("{}/contacts/{STRANGER}/timeline", scene.account)).await.problem(404);

    let message = scene.message().await;
    assert_eq!(scene.server.get(&message).await.expect(200), *entry);
    scene.server.get(&format!("{}/messages/{STRANGER}", scene.account)).await.problem(404);
}

#[tokio::test]
async fn a_timeline_is_newest_first_and_a_conversation_oldest_first_over_several_pages() {
    let scene = Scene::set().await;
    for n in 0..7 {
        let mail = format!(
            "From: bo@practice.test\nTo: ana@patient.test\nSubject: Re: Your results\nDate: Sun, 22 Nov 2020 03:0{n}:00 +0000\nMessage-ID: <n{n}@practice.test>\nIn-Reply-To: <first@practice.test>\n\nNumber {n}\n"
        );
        scene.server.deliver(&scene.sync, &mail).await;
    }
    let timeline = format!("{}/contacts/{}/timeline?limit=3", scene.account, scene.ana);
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = scene.server.get(&format!("{timeline}{cursor}")).await.expect(200);
        ids.extend(page["items"].as_array().unwrap().iter().map(|m| text(&m["message_id_header"])));
        if page["next"].is_null() {
            break;
        }
        cursor = format!("&cursor={}", text(&page["next"]));
    }
    let expected =
        ["n6", "n5", "n4", "n3", "n2", "n1", "n0", "first"].map(|id| format!("{id}@practice.test"));
    assert_eq!(ids, expected);
    let id = text(&scene.timeline(&scene.ana).await["items"][0]["conversation_id"]);
    let path = format!("{}/conversations/{id}", scene.account);
    let conversation = scene.server.get(&path).await.expect(200);
    assert_eq!(keys(&conversation), ["id", "contact_id", "user_id", "subject", "messages", "next"]);
    let messages = conversation["messages"].as_array().unwrap();
    let ids: Vec<_> = messages.iter().map(|m| text(&m["message_id_header"])).collect();
    assert_eq!(ids, expected.into_iter().rev().collect::<Vec<_>>());
    assert_eq!((&conversation["subject"], &conversation["next"]), (&json!("Your results"), &Value::Null));
    let part = scene.server.get(&format!("{path}?limit=5")).await.expect(200);
    let rest = scene.server.get(&format!("{path}?limit=5&cursor={}", text(&part["next"]))).await.expect(200);
    assert_eq!(rest["messages"].as_array().unwrap().len(), 3);
    scene.server.get(&format!("{}/conversations/{STRANGER}", scene.account)).await.problem(404);
}

#[tokio::test]
async fn a_message_is_given_raw_as_clean_html_and_attachment_by_attachment() {
    let scene = Scene::set().await;
    let message = scene.message().await;
    let raw = scene.server.get(&format!("{message}/raw")).await;
    assert_eq!((raw.status, raw.header("content-type")), (200, "message/rfc822"));
    assert_eq!(String::from_utf8(raw.body).unwrap(), FIRST.replace('\n', "\r\n"));

    let html = scene.server.get(&format!("{message}/html")).await;
    assert_eq!((html.status, html.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(html.header("content-security-policy"), "sandbox; default-src 'none'");
    let shown = String::from_utf8(html.body).unwrap();
    assert_eq!(shown.trim(), "<p>All is <b>well</b></p><img>");

    let file = scene.server.get(&format!("{message}/attachments/0")).await;
    assert_eq!((file.status, file.header("content-type")), (200, "application/octet-stream"));
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    assert_eq!(
        file.header("content-disposition"),
        "attachment; filename=\"r_sum_.html\"; filename*=UTF-8''r%C3%A9sum%C3%A9.html"
    );
    assert_eq!(String::from_utf8(file.body).unwrap().trim(), "<script>alert(1)</script>");
    for missing in ["attachments/1", "attachments/x", "attachments/-1"] {
        scene.server.get(&format!("{message}/{missing}")).await.problem(404);
    }
}

#[tokio::test]
async fn without_messages_content_the_shapes_are_the_same_and_empty() {
    let scene = Scene::set().await;
    let meta = scene.server.token(&scene.account, &["messages:meta", "attachments", "events"]).await;
    let full = scene.message().await;
    let whole = scene.server.get(&full).await.expect(200);
    let shown = scene.server.as_token(&meta, "GET", &full, None).await.expect(200);
    assert_eq!(keys(&shown), keys(&whole));
    for hidden in ["text", "new_text", "subject"] {
        assert_eq!(shown[hidden], Value::Null, "{hidden}");
        assert!(whole[hidden].is_string(), "{hidden}");
    }
    assert_eq!(shown["attachments"][0]["filename"], Value::Null);
    assert_eq!(shown["attachments"][0]["sha256"], whole["attachments"][0]["sha256"]);
    assert_eq!(shown["message_id_header"], whole["message_id_header"]);
    for content in ["raw", "html"] {
        scene.server.as_token(&meta, "GET", &format!("{full}/{content}"), None).await.problem(403);
    }
    let file = scene.server.as_token(&meta, "GET", &format!("{full}/attachments/0"), None).await;
    assert_eq!((file.status, file.header("content-disposition")), (200, "attachment"));
    let lists = [
        format!("{}/contacts/{}/timeline", scene.account, scene.ana),
        format!("{}/conversations/{}", scene.account, text(&whole["conversation_id"])),
        format!("{}/events", scene.account),
        format!("{}/deliveries", scene.account),
    ];
    for path in lists {
        let shown = scene.server.as_token(&meta, "GET", &path, None).await.expect(200).to_string();
        assert!(!shown.contains("Your results") && !shown.contains("All is"), "{path}: {shown}");
    }
    let content = scene.server.token(&scene.account, &["messages:content"]).await;
    assert_eq!(scene.server.as_token(&content, "GET", &full, None).await.expect(200), whole);
}

#[tokio::test]
async fn r45_a_reply_address_leads_to_its_conversation() {
    let scene = Scene::set().await;
    let path = format!("{}/reply-addresses", scene.account);
    let made =
        scene.server.post(&path, json!({"contact_id": scene.ana, "subject": "Hello"})).await.expect(201);
    assert_eq!(keys(&made), ["address", "conversation_id"]);
    let address = text(&made["address"]);
    assert!(address.starts_with("r-") && address.ends_with("@reply.example.test"), "{address}");
    let answer = "From: ana@patient.test\nTo: x@y.test\nSubject: Re: Hello\nDate: Sun, 22 Nov 2020 04:00:00 +0000\nMessage-ID: <a@patient.test>\n\nThanks\n";
    scene.server.deliver(&address, answer).await;
    let conversation = text(&made["conversation_id"]);
    let shown =
        scene.server.get(&format!("{}/conversations/{conversation}", scene.account)).await.expect(200);
    assert_eq!(shown["messages"][0]["direction"], "inbound");
    assert_eq!(shown["messages"][0]["role"], "from");

    let again = json!({"contact_id": scene.ana, "conversation_id": conversation});
    assert_eq!(scene.server.post(&path, again).await.expect(201)["conversation_id"], json!(conversation));
    let wrong = json!({"contact_id": scene.bea, "conversation_id": conversation});
    scene.server.post(&path, wrong).await.problem(409);
    scene.server.post(&path, json!({"contact_id": STRANGER})).await.problem(404);
    scene.server.post(&path, json!({"contact_id": scene.ana, "user_id": STRANGER})).await.problem(404);
    scene.server.post(&path, json!({"contact_id": "x"})).await.problem(422);
}

#[tokio::test]
async fn r40_an_answer_joins_the_mail_that_the_crm_registered_and_its_copy_is_a_duplicate() {
    let scene = Scene::set().await;
    let users = scene.server.get(&format!("{}/users", scene.account)).await.expect(200);
    let mail = json!({
        "message_id_header": "<crm1@practice.test>", "contact_id": scene.ana, "user_id": users["items"][0]["id"],
        "subject": "Appointment", "sent_at": "2020-11-22T05:00:00Z", "text": "See you\non Monday",
    });
    let path = format!("{}/messages", scene.account);
    let made = scene.server.post(&path, mail.clone()).await.expect(201);
    assert_eq!(keys(&made)[..20], MESSAGE);
    assert_eq!((&made["direction"], &made["text"]), (&json!("outbound"), &json!("See you\non Monday")));
    assert_eq!(
        (&made["from"]["email"], &made["to"][0]["contact_id"]),
        (&json!("bo@practice.test"), &json!(scene.ana))
    );
    assert_eq!(scene.server.post(&path, mail.clone()).await.expect(201)["id"], made["id"]);
    scene.server.get(&format!("{path}/{}/raw", text(&made["id"]))).await.problem(404);

    let copy = "From: Bo <bo@practice.test>\nTo: ana@patient.test\nSubject: Appointment\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <crm1@practice.test>\n\nSee you\non Monday\n";
    scene.server.deliver(&scene.sync, copy).await;
    let answer = "From: ana@patient.test\nTo: bo@practice.test\nSubject: Re: Appointment\nDate: Sun, 22 Nov 2020 06:00:00 +0000\nMessage-ID: <a@patient.test>\nIn-Reply-To: <crm1@practice.test>\n\nYes\n";
    scene.server.deliver(&scene.sync, answer).await;
    let conversation = format!("{}/conversations/{}", scene.account, text(&made["conversation_id"]));
    let messages = scene.server.get(&conversation).await.expect(200)["messages"].clone();
    let seen: Vec<_> = messages.as_array().unwrap().iter().map(|m| text(&m["message_id_header"])).collect();
    assert_eq!(seen, ["crm1@practice.test", "a@patient.test"]);

    let mut ahead = mail.clone();
    ahead["message_id_header"] = json!("crm2@practice.test");
    ahead["sent_at"] = json!("2999-01-01T00:00:00Z");
    let ahead = scene.server.post(&path, ahead).await.expect(201);
    assert_eq!(ahead["sent_at"], ahead["received_at"]);

    for (field, value, status, said) in [
        ("message_id_header", json!("two words"), 422, "message_id_header"),
        ("sent_at", json!("yesterday"), 422, "sent_at"),
        ("subject", json!("a\r\nBcc: x@y.test"), 422, "subject"),
        ("contact_id", json!(scene.bea), 409, "message_id_header"),
        ("user_id", json!(STRANGER), 404, "user"),
    ] {
        let mut bad = mail.clone();
        bad[field] = value;
        let answer = scene.server.post(&path, bad).await;
        assert!(answer.problem(status).contains(said), "{field}");
    }
}

#[tokio::test]
async fn r03_a_delivery_is_found_by_address_message_contact_outcome_and_time() {
    let scene = Scene::set().await;
    let internal = "From: bo@practice.test\nTo: nobody@other.test\nSubject: [private] x\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <p@practice.test>\n\nx\n";
    scene.server.deliver(&scene.sync, internal).await;
    let deliveries = format!("{}/deliveries", scene.account);
    let all = scene.server.get(&deliveries).await.expect(200);
    let [newest, first] = all["items"].as_array().unwrap().as_slice() else { panic!("{all}") };
    assert_eq!(
        keys(first),
        [
            "id",
            "at",
            "peer",
            "helo",
            "tls",
            "mail_from",
            "rcpt",
            "message_id_header",
            "from",
            "size",
            "auth",
            "outcome",
            "reason",
            "smtp",
            "message_id",
            "steps"
        ]
    );
    assert_eq!(keys(&first["auth"]), ["spf", "dkim", "dmarc", "arc", "iprev"]);
    assert_eq!(keys(&first["steps"][0]), ["rule", "said", "took_us"]);
    assert_eq!(
        (&first["outcome"], &first["reason"], &first["peer"]),
        (&json!("filed"), &json!("filed"), &json!("192.0.2.1"))
    );
    assert_eq!((&newest["outcome"], &newest["reason"]), (&json!("discarded"), &json!("private_marker")));
    // R5: a discarded mail is found by an exact address, and shows none.
    for address in ["mail_from", "rcpt", "message_id_header", "from"] {
        assert_eq!(newest[address], Value::Null, "{address}");
    }
    assert_eq!(scene.server.get(&format!("{deliveries}/{}", text(&first["id"]))).await.expect(200), *first);

    found(&scene, first, newest).await;
    for bad in ["from=x", "outcome=lost", "contact=x", "since=x", "cursor=zz"] {
        scene.server.get(&format!("{deliveries}?{bad}")).await.problem(400);
    }
    scene.server.get(&format!("{deliveries}/{STRANGER}")).await.problem(404);
}

async fn found(scene: &Scene, first: &Value, newest: &Value) {
    let deliveries = format!("{}/deliveries", scene.account);
    let message = text(&first["message_id"]);
    for (query, expected) in [
        ("to=ANA@patient.test".to_owned(), vec!["filed"]),
        ("to=nobody@other.test".to_owned(), vec!["private_marker"]),
        ("from=bo@practice.test".to_owned(), vec!["private_marker", "filed"]),
        ("from=ana@patient.test".to_owned(), vec![]),
        ("message_id=%3Cfirst@practice.test%3E".to_owned(), vec!["filed"]),
        (format!("message_id={message}"), vec!["filed"]),
        (format!("contact={}", scene.ana), vec!["filed"]),
        ("outcome=discarded".to_owned(), vec!["private_marker"]),
        ("since=2020-01-01T00:00:00Z".to_owned(), vec!["private_marker", "filed"]),
        ("since=2999-01-01T00:00:00Z".to_owned(), vec![]),
        ("until=2020-01-01T00:00:00Z".to_owned(), vec![]),
        ("until=2999-01-01T00:00:00Z&limit=1".to_owned(), vec!["private_marker"]),
        (format!("until={}", text(&newest["at"])), vec!["filed"]),
    ] {
        let found = scene.server.get(&format!("{deliveries}?{query}")).await.expect(200);
        let reasons: Vec<_> = found["items"].as_array().unwrap().iter().map(|d| text(&d["reason"])).collect();
        assert_eq!(reasons, expected, "{query}");
    }
}

#[tokio::test]
async fn events_are_pulled_in_order_behind_the_one_given() {
    let scene = Scene::set().await;
    let events = format!("{}/events", scene.account);
    let all = scene.server.get(&events).await.expect(200);
    let items = all["items"].as_array().unwrap();
    assert_eq!(keys(&items[0]), ["id", "type", "timestamp", "data"]);
    let types: Vec<_> = items.iter().map(|event| text(&event["type"])).collect();
    assert_eq!(types[..2], ["contact.created", "contact.created"]);
    assert!(types.contains(&"message.filed".to_owned()) && types.contains(&"contact.sync_on".to_owned()));
    let after = scene.server.get(&format!("{events}?after={}", text(&items[1]["id"]))).await.expect(200);
    assert_eq!(after["items"].as_array().unwrap()[..], items[2..]);
    let first = scene.server.get(&format!("{events}?limit=1")).await.expect(200);
    let second =
        scene.server.get(&format!("{events}?limit=1&cursor={}", text(&first["next"]))).await.expect(200);
    assert_eq!((&first["items"][0], &second["items"][0]), (&items[0], &items[1]));
    scene.server.get(&format!("{events}?after=x")).await.problem(400);
}

#[tokio::test]
async fn r63_deleting_a_contact_erases_its_record_and_takes_its_name_off_the_others() {
    let scene = Scene::set().await;
    let other = "From: bo@practice.test\nTo: Bea <bea@patient.test>\nCc: Ana Secret <ana@patient.test>\nSubject: Bea's own\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <b@practice.test>\n\nx\n";
    scene.server.deliver(&scene.sync, other).await;
    let first = scene.message().await;
    let all = scene.timeline(&scene.ana).await;
    let own = all["items"].as_array().unwrap().iter().find(|m| m["role"] == "to").unwrap();
    let conversation = format!("{}/conversations/{}", scene.account, text(&own["conversation_id"]));
    let delivery =
        scene.server.get(&format!("{}/deliveries?contact={}", scene.account, scene.ana)).await.expect(200);
    let delivery = format!("{}/deliveries/{}", scene.account, text(&delivery["items"][0]["id"]));
    scene.server.delete(&format!("{}/contacts/{}", scene.account, scene.ana)).await.expect(204);
    scene.server.get(&conversation).await.problem(404);
    scene.server.get(&delivery).await.problem(404);
    scene.server.get(&format!("{}/messages/{}", scene.account, text(&own["id"]))).await.problem(404);
    scene.server.get(&first).await.expect(200);
    let left = scene.timeline(&scene.bea).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    let shown = left["items"][0].to_string();
    assert!(shown.contains("Bea's own") && !shown.contains("Secret") && !shown.contains("ana@"), "{shown}");
    let marks = scene.server.get(&format!("{}/sync-marks", scene.account)).await.expect(200);
    assert!(!marks.to_string().contains(&scene.ana));
    let events = scene.server.get(&format!("{}/events?limit=200", scene.account)).await.expect(200);
    let last = events["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["type"], &last["data"]["messages"]), (&json!("purge.done"), &json!(1)));
    assert!(!events.to_string().contains("Your results") && events.to_string().contains("Bea's own"));
    assert!(!events.to_string().contains("Secret") && !events.to_string().contains("ana@"), "{events}");
}

#[tokio::test]
async fn r56_what_is_over_the_limits_is_listed_with_the_reason_and_cannot_be_had() {
    let scene = Scene::set().await;
    let settings = json!({"settings": {"attachments": {"max_each": 5, "max_total": null, "allow": ["txt"]}}});
    scene.server.patch(&scene.account, settings).await.expect(200);
    let part = |name: &str, text: &str| {
        format!(
            "--b\nContent-Type: text/plain; name={name}\nContent-Disposition: attachment; filename={name}\n\n{text}\n"
        )
    };
    let mail = format!(
        "From: bo@practice.test\nTo: ana@patient.test\nSubject: Files\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <f@practice.test>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n{}{}{}--b--\n",
        part("a.txt", "12345"),
        part("b.txt", "123456"),
        part("c.exe", "1")
    );
    scene.server.deliver(&scene.sync, &mail).await;
    let message = &scene.timeline(&scene.ana).await["items"][0];
    let list = message["attachments"].as_array().unwrap();
    let shown: Vec<_> = list.iter().map(|a| (text(&a["filename"]), text(&a["status"]))).collect();
    let expected = [("a.txt", "stored"), ("b.txt", "skipped"), ("c.exe", "skipped")];
    assert_eq!(shown, expected.map(|(name, status)| (name.to_owned(), status.to_owned())));
    assert_eq!(list[0]["why"], Value::Null);
    assert_eq!(list[1]["why"], "larger than 5 octets for one file");
    let file = |n: usize| format!("{}/messages/{}/attachments/{n}", scene.account, text(&message["id"]));
    assert_eq!(scene.server.get(&file(0)).await.body, b"12345");
    assert!(scene.server.get(&file(1)).await.problem(404).contains("over the account's limits"));
    scene.server.get(&file(2)).await.problem(404);
}

#[tokio::test]
async fn r27a_internal_history_is_shown_with_scope_review_alone() {
    let scene = Scene::set().await;
    let settings = json!({"settings": {"internal_domains": ["practice.test"]}});
    scene.server.patch(&scene.account, settings).await.expect(200);
    let mail = "From: bo@practice.test\nTo: ana@patient.test\nSubject: Re: Ana\nDate: Sun, 22 Nov 2020 05:00:00 +0000\nMessage-ID: <i@practice.test>\n\nAll is well.\n\nOn Sun, 22 Nov 2020 at 04:00, Kim <kim@practice.test> wrote:\n> Between us: a secret\n";
    scene.server.deliver(&scene.sync, mail).await;
    let page = scene.timeline(&scene.ana).await;
    let message = &page["items"][0];
    assert_eq!(message["flags"], json!(["internal_history"]));
    assert!(text(&message["text"]).contains("secret"), "an administrator may review");
    let path = format!("{}/messages/{}", scene.account, text(&message["id"]));
    let reader = scene.server.token(&scene.account, &["messages:content"]).await;
    let shown = scene.server.as_token(&reader, "GET", &path, None).await.expect(200);
    assert_eq!((&shown["text"], &shown["new_text"]), (&json!("All is well."), &json!("All is well.")));
    let both = scene.server.token(&scene.account, &["messages:content", "review"]).await;
    for part in ["raw", "html"] {
        let path = format!("{path}/{part}");
        scene.server.as_token(&reader, "GET", &path, None).await.problem(403);
    }
    assert_eq!(scene.server.as_token(&both, "GET", &format!("{path}/raw"), None).await.status, 200);
    let shown = scene.server.as_token(&both, "GET", &path, None).await.expect(200);
    assert!(text(&shown["text"]).contains("secret"));
}
