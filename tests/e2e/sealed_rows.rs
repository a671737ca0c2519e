//! `store.seal_rows`: whoever has the disk and not the keys reads no subject, text, name, address or file name.
//!
//! Measured on a practice's day: mail filed, held, refused and copied through the relay, mail that the CRM registered,
//! contacts imported, events pushed. Everything that is stored is searched for the words of that day, as they are, in
//! base64 and in hexadecimal digits; a clear store shows that the search finds them.

use std::path::{Path, PathBuf};
use std::process::Output;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;
use syncmx::cli::demo::practice;
use syncmx::message::base64;
use syncmx::zone::Zone;

use crate::api::Desk;
use crate::app::{TOKEN, TestApp, postgres, program};
use crate::beside::{change_by_hand, stands_in, stored};
use crate::endpoint::{Authority, HookServer};
use crate::mail::{ANNA, Draft, FORGER, LENA};
use crate::sink::Sink;

/// Each stands in what the day brings, and nowhere in the program. Long enough to be no accident.
const WORDS: [&str; 26] = [
    "Morgenrot",               // the account
    "geheimnis-klinik.test",   // its never-log list
    "Albrecht",                // the user
    "praxis-morgenrot.test",   // their address
    "lena.privat@web-post",    // one that waits for its proof
    "Bergmann",                // the contact
    "web-post.test",           // their address
    "Sonnenblume",             // imported
    "sonnenblume@wohnungsamt", // their address
    "nebenstelle.test",        // another one
    "Patientennummer-4711",    // the CRM's id
    "Wiederholer",             // made with an Idempotency-Key
    "Schluessel-der-Anfrage",  // that key
    "Empfangstresen",          // a token
    "Untersuchungsergebnis",   // a subject
    "Hormonwerte",             // a text
    "Laborbefund-Schild",      // a file
    "Blutzuckerbesprechung",   // a meeting
    "Terminvereinbarung",      // the subject of a reply address
    "ambulanztermin",          // a text that is copied
    "befund-kennung@e2e.test", // a Message-ID
    "Ueberweisungsschein",     // the subject of mail that the CRM registered
    "Krankengeschichte",       // its text
    "Rechnungsbetrug",         // the subject of held mail
    "irgendwo.test",           // who was refused
    "dsl-66.irgendwo",         // what they called themselves
];

struct World {
    app: TestApp,
    desk: Desk,
    sink: Sink,
    hooks: HookServer,
    _authority: tempfile::TempDir,
}

impl World {
    async fn start(last: u8, sealed: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::in_folder(folder.path());
        let hooks = HookServer::start(&authority, HOST).await;
        let sink = Sink::start(last).await;
        let mut zone = Zone::parse(practice::ZONE).unwrap();
        zone.add(HOST, "A", "127.0.0.1").unwrap();
        let mut settings = sink.settings().to_vec();
        settings.extend([authority.setting(), "SYNCMX_WEBHOOK__ALLOW_PRIVATE=true".to_owned()]);
        settings.push(format!("SYNCMX_STORE__SEAL_ROWS={sealed}"));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let app = TestApp::start_in(zone, &settings).await;
        let desk = Desk::open(&app).await;
        Self { app, desk, sink, hooks, _authority: folder }
    }

    /// Everything that is to be searched for is stored when this ends.
    async fn spend_a_day(&self) {
        self.set_up().await;
        let reply = self.write().await;
        self.suffer(&reply).await;
        self.hooks.delivered("reply.received").await;
        self.settled().await;
    }

    /// Settings, contacts, a token, an address that waits for its proof.
    async fn set_up(&self) {
        let (app, desk) = (&self.app, &self.desk);
        let url = format!("https://{HOST}:{}/events", self.hooks.port());
        desk.post("/webhooks", json!({ "url": url, "events": ["*"], "include_content": true })).await;
        let settings = json!({ "forward_replies": "user", "never_log": ["geheimnis-klinik.test"] });
        app.api
            .call(
                Method::PATCH,
                &format!("/accounts/{}", desk.account),
                Some(json!({ "settings": settings })),
            )
            .await;
        self.import().await;
        self.repeat().await;
        let token = json!({ "name": "Empfangstresen", "scopes": ["contacts"], "account_id": desk.account });
        app.api.post("/tokens", token).await;
        desk.post(&format!("/users/{}/emails", desk.user), json!({ "address": "lena.privat@web-post.test" }))
            .await;
        self.sink.wait_for(1).await;
    }

    /// Mail between Lena and Anna, also through the relay; gives the reply address.
    async fn write(&self) -> String {
        let (app, desk) = (&self.app, &self.desk);
        let (_, filed) = desk.expect_filed(&app.send(&LENA, &desk.sync, &visit(desk)).await).await;
        assert_eq!(filed["attachments"][0]["filename"], "Laborbefund-Schilddruese.pdf", "{filed}");
        assert_eq!(filed["meeting"]["title"], "Blutzuckerbesprechung", "{filed}");
        let minted =
            json!({ "contact_id": desk.anna, "user_id": desk.user, "subject": "Terminvereinbarung" });
        let reply = desk.post("/reply-addresses", minted).await["address"].as_str().unwrap().to_owned();
        let (anna, lena) = ("Anna Bergmann <anna.bergmann@web-post.test>", Draft::default().from);
        let text = "Ist ein Ambulanztermin frei?\r\n";
        let raw = Draft { id: "a1", from: anna, to: &reply, text, ..Draft::default() }.raw();
        desk.expect_filed(&app.send(&ANNA, &reply, &raw).await).await;
        self.sink.wait_for(2).await;
        let raw = Draft { id: "l1", from: lena, to: &reply, ..Draft::default() }.raw();
        desk.expect_filed(&app.send(&LENA, &reply, &raw).await).await;
        self.sink.wait_for(3).await;
        reply
    }

    /// A forged mail, a refused one, and one that the CRM registered.
    async fn suffer(&self, reply: &str) {
        let (app, desk) = (&self.app, &self.desk);
        let anna = "Anna Bergmann <anna.bergmann@web-post.test>";
        let forged =
            Draft { id: "f1", from: anna, to: reply, subject: "Rechnungsbetrug", ..Draft::default() };
        desk.expect(&app.send(&FORGER, reply, &forged.raw()).await, "250 2.0.0", "held", "unverified_sender")
            .await;
        let spam = Draft { id: "f2", from: "info@irgendwo.test", to: &desk.sync, ..Draft::default() };
        let refused = app.send(&FORGER, &desk.sync, &spam.raw()).await;
        desk.expect(&refused, "550 5.7.1", "rejected", "sender_not_allowed").await;
        let registered = json!({
            "message_id_header": "<befund-kennung@e2e.test>", "contact_id": desk.anna, "user_id": desk.user,
            "subject": "Ueberweisungsschein", "sent_at": "2026-11-20T10:00:00Z", "text": "Ihre Krankengeschichte",
        });
        desk.post("/messages", registered).await;
    }

    /// Nothing waits for endpoint or smarthost any more.
    async fn settled(&self) {
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(50));
        for _ in 0..1_200 {
            tries.tick().await;
            let jobs = self.desk.get("/relay-jobs").await;
            if jobs["items"].as_array().unwrap().iter().all(|job| job["state"] == "sent") {
                return;
            }
        }
        panic!("copies wait: {}", self.desk.get("/relay-jobs").await);
    }

    async fn import(&self) {
        let csv = "name,email,other_emails,external_id\n\
             Friederike Sonnenblume,friederike.sonnenblume@wohnungsamt.test,fs@nebenstelle.test,Patientennummer-4711\n";
        let path = format!("{}/api/v1/accounts/{}/contacts:import", self.app.api.base, self.desk.account);
        for _ in 0..2 {
            let request =
                reqwest::Client::builder().no_proxy().build().unwrap().post(&path).bearer_auth(TOKEN);
            let answer = request.header("content-type", "text/csv").body(csv).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
        let known = self.desk.get("/contacts?email=friederike.sonnenblume@wohnungsamt.test").await;
        assert_eq!(known["items"].as_array().unwrap().len(), 1, "the second import knows the first: {known}");
    }

    /// The same request twice is done once.
    async fn repeat(&self) {
        let path = format!("{}/api/v1/accounts/{}/contacts", self.app.api.base, self.desk.account);
        let body = json!({ "name": "Wanda Wiederholer", "email": "wanda@nebenstelle.test" });
        let mut ids = Vec::new();
        for _ in 0..2 {
            let request =
                reqwest::Client::builder().no_proxy().build().unwrap().post(&path).bearer_auth(TOKEN);
            let request = request.header("idempotency-key", "Schluessel-der-Anfrage").json(&body);
            ids.push(request.send().await.unwrap().json::<Value>().await.unwrap()["id"].clone());
        }
        assert_eq!(ids[0], ids[1]);
    }

    /// What the CRM is shown.
    async fn shown(&self) -> Vec<Value> {
        let desk = &self.desk;
        let mut shown = vec![
            self.app.api.get(&format!("/accounts/{}", desk.account)).await,
            self.app.api.get("/tokens").await,
        ];
        for path in [
            &format!("/contacts/{}/timeline", desk.anna),
            &format!("/users/{}", desk.user),
            &format!("/held?contact={}", desk.anna),
            "/contacts",
            "/deliveries",
            "/deliveries?from=anna.bergmann@web-post.test",
            "/deliveries?message_id=l1@e2e.test",
            "/events?limit=200",
            "/held",
        ] {
            shown.push(desk.get(path).await);
        }
        let jobs = desk.get("/relay-jobs").await["items"].as_array().unwrap().clone();
        // The digest of what is held comes when it comes.
        shown.push(jobs.into_iter().filter(|job| job["kind"] != "digest").collect());
        shown
    }

    /// `syncmx migrate` with the settings of the server, which does not run.
    fn migrate(&self, how: &str) -> Output {
        let config = self.app.folder().join("syncmx.toml");
        let mut command = program(&["migrate", how, "--config", config.to_str().unwrap()]);
        command.envs(self.app.environment().iter().filter_map(|setting| setting.split_once('=')));
        command.output().unwrap()
    }

    async fn restart(mut self, sealed: &str) -> Self {
        self.app.set("SYNCMX_STORE__SEAL_ROWS", sealed);
        self.app.start_again().await;
        self.desk = self.desk.at(&self.app);
        self
    }
}

const HOST: &str = "hooks.crm.test";

/// To Anna: a text, a file, an appointment.
fn visit(desk: &Desk) -> Vec<u8> {
    let lena = Draft::default().from;
    format!(
        "From: {lena}\r\nTo: Anna Bergmann <anna.bergmann@web-post.test>\r\nBcc: {}\r\nSubject: Untersuchungsergebnis\r\n\
         Date: {}\r\nMessage-ID: <v1@e2e.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nIhre Hormonwerte sind in Ordnung.\r\n\
         --b\r\nContent-Type: application/pdf; name=\"Laborbefund-Schilddruese.pdf\"\r\n\
         Content-Disposition: attachment; filename=\"Laborbefund-Schilddruese.pdf\"\r\n\r\n%PDF-1.4\r\n\
         --b\r\nContent-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\nVERSION:2.0\r\n\
         BEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Blutzuckerbesprechung\r\nDTSTART:20270301T090000Z\r\nDTEND:20270301T093000Z\r\n\
         END:VEVENT\r\nEND:VCALENDAR\r\n--b--\r\n",
        desk.sync,
        jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z"),
    )
    .into_bytes()
}

async fn words_in(folder: &Path) -> Vec<&'static str> {
    let stored = stored(folder).await;
    // It takes a while; connections that are closed meanwhile are to be noticed.
    tokio::task::spawn_blocking(move || found_in(&stored)).await.unwrap()
}

/// The words that stand there in any of their forms.
fn found_in(stored: &[u8]) -> Vec<&'static str> {
    WORDS.into_iter().filter(|word| stands_in(stored, word)).collect()
}

#[test]
fn a_word_is_found_in_each_of_its_forms() {
    let hidden = format!("x{}y", base64(b"ab die HORMONWERTE sind Hormonwerte gut"));
    assert_eq!(found_in(hidden.as_bytes()), ["Hormonwerte"]);
    assert_eq!(found_in(b"..hormonWERTE.."), ["Hormonwerte"]);
    assert_eq!(found_in(b"\\x486f726d6f6e7765727465"), ["Hormonwerte"]);
    assert_eq!(found_in(b"Hormon"), [""; 0]);
}

#[tokio::test]
async fn whoever_has_the_disk_and_not_the_keys_finds_no_word_of_the_day() {
    let mut world = World::start(71, "true").await;
    world.spend_a_day().await;
    assert_eq!(words_in(world.app.folder()).await, [""; 0], "while it runs");
    let before = world.shown().await;
    let all = Value::from(before.clone()).to_string();
    for said in [
        "Untersuchungsergebnis",
        "Hormonwerte",
        "Laborbefund",
        "Sonnenblume",
        "Rechnungsbetrug",
        "Krankengeschichte",
    ] {
        assert!(all.contains(said), "{said} is shown to who may read it");
    }
    assert_eq!(before[4]["items"].as_array().unwrap().len(), 1, "held mail that names Anna: {}", before[4]);
    assert_eq!(world.app.terminate().await.code(), Some(0));
    assert_eq!(words_in(world.app.folder()).await, [""; 0], "when it has ended");
    let world = world.restart("true").await;
    assert_same(&world.shown().await, &before);
    // R63: what names Anna is found without looking for her, and goes.
    world.desk.post("/purge", json!({ "contact_id": world.desk.anna })).await;
    for path in ["/contacts", "/deliveries", "/events?limit=200", "/held", "/relay-jobs"] {
        let left = world.desk.get(path).await.to_string().to_lowercase();
        assert!(!left.contains("bergmann"), "{path}: {left}");
    }
}

#[tokio::test]
async fn a_sealed_value_that_was_moved_costs_one_message() {
    if postgres::skips(postgres::is_wanted(), "the file of SQLite itself is changed") {
        return;
    }
    let app = TestApp::start_with(&["SYNCMX_STORE__SEAL_ROWS=true"]).await;
    let desk = Desk::open(&app).await;
    let mut ids = Vec::new();
    for id in ["one", "two", "three"] {
        let raw = Draft { id, subject: id, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    let row = |n: usize| format!("message_id = x'{}'", ids[n].replace('-', ""));
    let url = format!("sqlite://{}/data/syncmx.db", app.folder().display());
    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for text in [
        format!(
            "UPDATE messages SET subject = (SELECT subject FROM messages WHERE {}) WHERE {}",
            row(0),
            row(1)
        ),
        format!("UPDATE participants SET email = name WHERE position = 1 AND {}", row(2)),
        format!("UPDATE deliveries SET helo = peer WHERE {}", row(1)),
        "UPDATE contacts SET name = email WHERE name_key = '' AND external_id IS NULL".to_owned(),
    ] {
        let changed = sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut file).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
    }
    for (n, id) in ids.iter().enumerate() {
        let path = format!("/accounts/{}/messages/{id}", desk.account);
        let (status, answer) = app.api.call(Method::GET, &path, None).await;
        if n == 0 {
            assert_eq!((status, &answer["subject"]), (StatusCode::OK, &json!("one")));
        } else {
            assert_eq!(status, 500, "{answer}");
            assert!(answer["detail"].as_str().unwrap().contains("damaged"), "{answer}");
        }
    }
    let timeline = desk.timeline(&desk.anna).await;
    let flags = |id: &String| timeline.iter().find(|entry| entry["id"] == **id).unwrap()["flags"].clone();
    assert_eq!(
        ids.iter().map(flags).collect::<Vec<_>>(),
        [json!([]), json!(["damaged"]), json!(["damaged"])]
    );
    let config = app.folder().join("syncmx.toml");
    let mut check = program(&["check", "--blobs", "--json", "--config", config.to_str().unwrap()]);
    let checked = check.env("SYNCMX_STORE__SEAL_ROWS", "true").output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(!said.contains(&ids[0]) && said.contains(&ids[1]) && said.contains(&ids[2]), "{said}");
    for row in [format!("delivery {}", ids[1]), format!("contact {}", desk.anna)] {
        assert!(said.contains(&row), "{row} in {said}");
    }
    let export = an_export_names_them(&app, &desk, &ids);
    is_imported_without_them(&export, &desk).await;
}

/// What others refer to is there, without what does not open.
async fn is_imported_without_them(export: &Path, desk: &Desk) {
    let copy = TestApp::start_with(&["SYNCMX_STORE__SEAL_ROWS=false"]).await;
    let config = copy.folder().join("syncmx.toml");
    let mut import = program(&["import", export.to_str().unwrap(), "--config", config.to_str().unwrap()]);
    let imported = import.env("SYNCMX_STORE__SEAL_ROWS", "false").output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let new = desk.clone().at(&copy);
    let contact = new.get(&format!("/contacts/{}", desk.anna)).await;
    assert_eq!((&contact["name"], &contact["email"]), (&json!(""), &json!("anna.bergmann@web-post.test")));
    assert_eq!(new.timeline(&desk.anna).await.len(), 1);
}

/// And holds the others.
fn an_export_names_them(app: &TestApp, desk: &Desk, ids: &[String]) -> PathBuf {
    let (config, out) = (app.folder().join("syncmx.toml"), app.folder().join("export"));
    let wanted = ["export", "--account", &desk.account, "--out", out.to_str().unwrap(), "--json"];
    let mut export = program(&[&wanted[..], &["--config", config.to_str().unwrap()]].concat());
    let exported = export.env("SYNCMX_STORE__SEAL_ROWS", "true").output().unwrap();
    assert_eq!(exported.status.code(), Some(1), "{}", String::from_utf8_lossy(&exported.stderr));
    let report: Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert_eq!((&report["problems"], &report["originals"]), (&4.into(), &1.into()), "{report}");
    let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
    for row in [&ids[1], &ids[2], &desk.anna] {
        assert!(manifest.contains(row.as_str()), "{row} in {manifest}");
    }
    assert!(!manifest.contains(&format!("message_id {}", ids[0])), "{manifest}");
    out
}

#[tokio::test]
async fn a_clear_store_is_sealed_made_clear_again_and_says_the_same() {
    let mut world = World::start(72, "false").await;
    world.spend_a_day().await;
    // Clear as it is, its name must not be taken for a seal.
    world.desk.contact("~1~AAAA", "tilde@nebenstelle.test").await;
    let before = world.shown().await;
    assert_eq!(world.app.terminate().await.code(), Some(0));
    assert_eq!(words_in(world.app.folder()).await, WORDS, "the search finds what is clear");

    world.app.set("SYNCMX_STORE__SEAL_ROWS", "true");
    refused(&world, "are not sealed");
    let sealed = world.migrate("--seal-rows");
    assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
    assert_eq!(words_in(world.app.folder()).await, [""; 0]);
    // As if it had been broken off before the last row.
    change_by_hand(world.app.folder(), "UPDATE row_keys SET sealed_at = NULL").await;
    let clear = "UPDATE contacts SET name = 'Friederike Sonnenblume' WHERE external_id IS NOT NULL";
    change_by_hand(world.app.folder(), clear).await;
    refused(&world, "partly sealed");
    let rest = world.migrate("--seal-rows");
    assert!(String::from_utf8_lossy(&rest.stdout).contains("\n1 rows"), "{rest:?}");
    assert_eq!(words_in(world.app.folder()).await, [""; 0]);
    let again = world.migrate("--seal-rows");
    assert!(String::from_utf8_lossy(&again.stdout).contains("\n0 rows"), "{again:?}");
    let mut world = world.restart("true").await;
    assert_same(&world.shown().await, &before);
    // What was known is known: the conversation by its Message-ID, the sync address, the duplicate.
    let fields = "In-Reply-To: <v1@e2e.test>\r\n";
    let raw = Draft { id: "v2", fields, ..Draft::default() }.raw();
    let (_, answer) = world.desk.expect_filed(&world.app.send(&LENA, &world.desk.sync, &raw).await).await;
    let first = world.desk.timeline(&world.desk.anna).await;
    let visit = first.iter().find(|entry| entry["message_id_header"] == "v1@e2e.test").unwrap();
    assert_eq!(answer["conversation_id"], visit["conversation_id"]);
    let twice = world.app.send(&LENA, &world.desk.sync, &raw).await;
    world.desk.expect(&twice, "250 2.0.0", "duplicate", "duplicate").await;

    let before = world.shown().await;
    assert_eq!(world.app.terminate().await.code(), Some(0));
    world.app.set("SYNCMX_STORE__SEAL_ROWS", "false");
    refused(&world, "are sealed");
    // One that does not open costs its row, and nothing else.
    change_by_hand(world.app.folder(), "UPDATE held SET digest = content_key").await;
    let clear = world.migrate("--unseal-rows");
    assert!(clear.status.success(), "{}", String::from_utf8_lossy(&clear.stderr));
    let world = world.restart("false").await;
    assert_same(&world.shown().await, &before);
    let found = world.desk.get("/contacts?q=blume").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "part of a name is found again: {found}");
}

#[track_caller]
fn assert_same(after: &[Value], before: &[Value]) {
    for (after, before) in after.iter().zip(before) {
        assert_eq!(after, before);
    }
}

/// A command that opens the store does not.
#[track_caller]
fn refused(world: &World, why: &str) {
    let config = world.app.folder().join("syncmx.toml");
    let mut command = program(&["audit", "verify", "--config", config.to_str().unwrap()]);
    command.envs(world.app.environment().iter().filter_map(|setting| setting.split_once('=')));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why) && said.contains("syncmx migrate"), "{said}");
}
