//! Events reach the CRM: signed, in order, at least once, whatever the endpoint or the server does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use syncmx::cli::demo::practice;
use syncmx::zone::Zone;

use crate::api::Desk;
use crate::app::{TestApp, postgres};
use crate::endpoint::{Authority, HookServer, Received, Reply};
use crate::mail::{Draft, LENA};

const HOST: &str = "hooks.crm.test";

/// The demo's zone, and the endpoint's name on loopback.
fn zone() -> Zone {
    let mut zone = Zone::parse(practice::ZONE).unwrap();
    zone.add(HOST, "A", "127.0.0.1").unwrap();
    zone
}

/// A server that may call loopback, an endpoint whose authority it trusts, and a desk with a webhook there.
struct World {
    app: TestApp,
    desk: Desk,
    hooks: HookServer,
    webhook: String,
    secret: String,
    _authority: tempfile::TempDir,
}

impl World {
    async fn start(body: Value) -> Self {
        Self::start_with(&["SYNCMX_WEBHOOK__ALLOW_PRIVATE=true"], body).await
    }

    async fn start_with(settings: &[&str], mut body: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::in_folder(folder.path());
        let hooks = HookServer::start(&authority, HOST).await;
        let trust = authority.setting();
        let settings: Vec<&str> = settings.iter().copied().chain([trust.as_str()]).collect();
        let app = TestApp::start_in(zone(), &settings).await;
        let desk = Desk::open(&app).await;
        body["url"] = json!(format!("https://{HOST}:{}/events", hooks.port()));
        let made = desk.post("/webhooks", body).await;
        let field = |name: &str| made[name].as_str().unwrap().to_owned();
        let (webhook, secret) = (field("id"), field("secret"));
        Self { app, desk, hooks, webhook, secret, _authority: folder }
    }

    async fn restart(mut self) -> Self {
        self.app.kill_and_restart().await;
        self.desk = self.desk.at(&self.app);
        self
    }

    fn path(&self, rest: &str) -> String {
        format!("/webhooks/{}{rest}", self.webhook)
    }

    /// Lena writes to a contact; gives the conversation.
    async fn file(&self, id: &str, to: &str, subject: &str, answers: Option<&str>) -> String {
        let fields = answers.map(|id| format!("In-Reply-To: <{id}@e2e.test>\r\n")).unwrap_or_default();
        let draft = Draft { id, to, subject, fields: &fields, ..Draft::default() };
        let answers = self.app.send(&LENA, &self.desk.sync, &draft.raw()).await;
        let (_, message) = self.desk.expect_filed(&answers).await;
        message["conversation_id"].as_str().unwrap().to_owned()
    }

    async fn attempts(&self, filter: &str) -> Vec<Value> {
        let page = self.desk.get(&self.path(&format!("/attempts?limit=200{filter}"))).await;
        page["items"].as_array().unwrap().clone()
    }

    /// Waits until the attempts satisfy `enough`, and gives them.
    async fn wait_for_attempts(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut tries = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..1200 {
            tries.tick().await;
            let attempts = self.attempts("").await;
            if enough(&attempts) {
                return attempts;
            }
        }
        panic!("no attempt was ever {what}: {:#?}", self.attempts("").await);
    }

    /// Waits for the first attempt of a test event, and gives it.
    async fn tested(&self) -> Value {
        let event = self.desk.post(&self.path(":test"), json!({})).await["event_id"].clone();
        let is_it = |attempt: &&Value| attempt["event_id"] == event;
        let attempts = self.wait_for_attempts("a test", |all| all.iter().any(|one| is_it(&one))).await;
        attempts.iter().rfind(is_it).unwrap().clone()
    }
}

const ANNA: &str = "anna.bergmann@web-post.test";

fn filed(subject: &str) -> impl Fn(&&Received) -> bool + use<'_> {
    move |one| one.kind() == "message.filed" && one.data("subject") == subject
}

#[tokio::test]
async fn a_filed_mail_is_told_with_ids_and_headers_and_signed() {
    let world = World::start(json!({ "events": ["message.filed"] })).await;
    let conversation = world.file("one", ANNA, "Your appointment", None).await;
    let told = world.hooks.delivered("message.filed").await;
    assert_eq!((told.path.as_str(), told.content_type.as_str()), ("/events", "application/json"));
    let body = told.json();
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["type", "timestamp", "account_id", "data"]);
    assert_eq!(body["account_id"], world.desk.account.as_str());
    assert_eq!(body["data"]["conversation_id"], conversation.as_str());
    assert_eq!(body["data"]["contact_id"], world.desk.anna.as_str());
    assert_eq!(body["data"]["subject"], "Your appointment");
    assert!(body["data"].get("text").is_none() && !told.body.contains("Thursday"), "{}", told.body);

    // The id is that of the pulled event; marks and contacts were not asked for.
    let events = world.desk.get("/events?limit=200").await;
    let pulled = events["items"].as_array().unwrap().iter().find(|event| event["id"] == told.id.as_str());
    let pulled = pulled.unwrap();
    assert_eq!((&pulled["type"], &pulled["data"]), (&body["type"], &body["data"]));
    assert_eq!(pulled["timestamp"], body["timestamp"]);
    assert!(world.hooks.received().iter().all(|one| one.kind() == "message.filed"));

    let attempts = world.wait_for_attempts("there", |all| !all.is_empty()).await;
    assert_eq!(attempts[0]["event_id"], told.id.as_str());
    assert_eq!(
        (&attempts[0]["outcome"], &attempts[0]["status"], &attempts[0]["error"], &attempts[0]["next_at"]),
        (&json!("delivered"), &json!(200), &Value::Null, &Value::Null)
    );
    verify(&[(told, world.secret.clone())], &[]);
}

#[tokio::test]
async fn the_text_is_told_only_where_the_webhook_was_made_with_it() {
    let world = World::start(json!({ "events": ["*"], "include_content": true })).await;
    world.file("one", ANNA, "Your appointment", None).await;
    let told = world.hooks.delivered("message.filed").await;
    assert!(told.data("text").as_str().unwrap().contains("see you on Thursday"), "{}", told.body);
    assert!(told.data("new_text").as_str().unwrap().contains("see you on Thursday"));
    let mark = world.hooks.delivered("contact.sync_on").await;
    assert_eq!(mark.data("text"), Value::Null);
}

#[tokio::test]
async fn r55_what_a_meeting_is_about_is_told_only_where_the_webhook_was_made_with_content() {
    for (include_content, title) in [(false, Value::Null), (true, json!("Results of the biopsy"))] {
        let world = World::start(json!({ "events": ["*"], "include_content": include_content })).await;
        let calendar = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Results of the biopsy\r\nDTSTART:20261122T100000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        let raw = String::from_utf8(Draft { text: calendar, ..Draft::default() }.raw()).unwrap();
        let raw = raw.replace("text/plain;", "text/calendar; method=REQUEST;");
        world.desk.expect_filed(&world.app.send(&LENA, &world.desk.sync, raw.as_bytes()).await).await;
        let told = world.hooks.delivered("message.filed").await;
        assert_eq!(told.data("meeting")["title"], title, "{}", told.body);
        assert_eq!(told.data("meeting")["start"], "2026-11-22T10:00:00.000Z");
    }
}

#[tokio::test]
async fn after_a_rotation_both_secrets_sign() {
    let world = World::start(json!({ "events": ["message.filed"] })).await;
    world.tested().await;
    let made = world.desk.post(&world.path(":rotate-secret"), json!({})).await;
    let fresh = made["secret"].as_str().unwrap().to_owned();
    assert_ne!(fresh, world.secret);
    world.tested().await;
    let received = world.hooks.wait_for("two tests", |all| all.len() >= 2).await;
    let signatures = |one: &Received| one.signature.split(' ').filter(|it| it.starts_with("v1,")).count();
    assert_eq!((signatures(&received[0]), signatures(&received[1])), (1, 2));
    let old = world.secret.clone();
    verify(
        &[
            (received[0].clone(), old.clone()),
            (received[1].clone(), old),
            (received[1].clone(), fresh.clone()),
        ],
        &[(received[0].clone(), fresh)],
    );
}

#[tokio::test]
async fn a_failing_event_holds_back_its_conversation_and_nothing_else() {
    let world = World::start(json!({ "events": ["message.filed"] })).await;
    world.hooks.answer(|one| Reply::Status(if one.data("subject") == "first" { 500 } else { 200 }));
    let conversation = world.file("a1", ANNA, "first", None).await;
    assert_eq!(world.file("a2", ANNA, "second", Some("a1")).await, conversation);
    world.desk.contact("Jonas Keller", "jonas.keller@web-post.test").await;
    let other = world.file("b1", "jonas.keller@web-post.test", "elsewhere", None).await;
    assert_ne!(other, conversation);
    world.hooks.wait_for("the other", |all| all.iter().any(|one| filed("elsewhere")(&one))).await;
    let attempts =
        world.wait_for_attempts("failed", |all| all.iter().any(|it| it["outcome"] == "failed")).await;
    let failed = attempts.iter().rfind(|it| it["outcome"] == "failed").unwrap();
    assert_eq!((&failed["status"], &failed["error"]), (&json!(500), &json!("status")));
    assert!(failed["next_at"].as_str().unwrap() > failed["at"].as_str().unwrap());
    assert!(!world.hooks.received().iter().any(|one| filed("second")(&one)), "it overtook the first");

    world.hooks.answer(|_| Reply::Status(200));
    let replayed = world.desk.post(&world.path(":replay"), json!({})).await;
    assert!(replayed["events"].as_u64().unwrap() >= 1, "{replayed}");
    let received =
        world.hooks.wait_for("the second", |all| all.iter().any(|one| filed("second")(&one))).await;
    let first: Vec<&Received> = received.iter().filter(filed("first")).collect();
    assert!(first.len() >= 2 && first.iter().all(|one| one.id == first[0].id), "one id on every attempt");
    let delivered = |subject: &'static str| {
        received.iter().position(|one| filed(subject)(&one) && one.answered == Reply::Status(200)).unwrap()
    };
    assert!(delivered("first") < delivered("second"));
    let shown = world.desk.get(&world.path("")).await;
    assert_eq!(shown["dead"], 0);
}

#[tokio::test]
async fn nothing_is_sent_while_one_before_it_in_its_conversation_is_under_way() {
    let world = World::start(json!({ "events": ["message.filed"] })).await;
    world.desk.patch(&world.path(""), json!({ "state": "off" })).await;
    let conversation = world.file("a1", ANNA, "first", None).await;
    assert_eq!(world.file("a2", ANNA, "second", Some("a1")).await, conversation);
    world.desk.contact("Jonas Keller", "jonas.keller@web-post.test").await;
    world.file("b1", "jonas.keller@web-post.test", "elsewhere", None).await;
    world.hooks.answer(|one| if one.data("subject") == "first" { Reply::Hang } else { Reply::Status(200) });
    // All three are there at once.
    world.desk.patch(&world.path(""), json!({ "state": "on" })).await;
    world.wait_for_attempts("given up", |all| all.iter().any(|it| it["error"] == "timeout")).await;
    let received = world.hooks.received();
    assert!(received.iter().any(|one| filed("elsewhere")(&one)), "another conversation waited");
    assert!(!received.iter().any(|one| filed("second")(&one)), "it overtook the first");
}

#[tokio::test]
async fn what_fails_is_tried_again_by_itself() {
    let world = World::start(json!({ "events": ["message.filed"] })).await;
    world.hooks.answer(|_| Reply::Status(503));
    world.file("one", ANNA, "again", None).await;
    world.hooks.wait_for("the first attempt", |all| !all.is_empty()).await;
    world.hooks.answer(|_| Reply::Status(200));
    let told = world.hooks.delivered("message.filed").await;
    assert_eq!(told.id, world.hooks.received()[0].id);
    assert_eq!(told.body, world.hooks.received()[0].body);
}

#[tokio::test]
async fn redirects_floods_hangs_and_strangers_certificates_are_dealt_with() {
    let world = World::start(json!({ "events": ["message.filed"] })).await;
    let away = format!("https://{HOST}:{}/elsewhere", world.hooks.port());
    world.hooks.answer(move |_| Reply::Redirect(away.clone()));
    let attempt = world.tested().await;
    assert_eq!((&attempt["status"], &attempt["error"]), (&json!(307), &json!("redirect")));
    // 64 KiB of a billion octets are read: the status has said what there is to say.
    world.hooks.answer(|_| Reply::Flood);
    assert_eq!(world.tested().await["outcome"], "delivered");
    world.hooks.answer(|_| Reply::Hang);
    let attempt = world.tested().await;
    assert_eq!((&attempt["status"], &attempt["error"]), (&Value::Null, &json!("timeout")));
    assert!(world.hooks.received().iter().all(|one| one.path == "/events"), "a redirect was followed");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, class) in [
        (format!("https://127.0.0.1:{}/", world.hooks.port()), "tls"),
        (format!("https://{HOST}:{}/", nobody.port()), "connect"),
        ("https://no-such-name.crm.test/".to_owned(), "dns"),
    ] {
        world.desk.patch(&world.path(""), json!({ "url": url })).await;
        assert_eq!(world.tested().await["error"], class, "{url}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_turned_off_and_nothing_is_lost() {
    let world = World::start(json!({ "events": ["message.filed"] })).await;
    world.hooks.answer(|_| Reply::Status(410));
    world.file("one", ANNA, "first", None).await;
    let attempts = world.wait_for_attempts("gone", |all| !all.is_empty()).await;
    assert_eq!((&attempts[0]["status"], &attempts[0]["error"]), (&json!(410), &json!("gone")));
    let shown = world.desk.get(&world.path("")).await;
    assert_eq!(
        (&shown["state"], &shown["off_because"]),
        (&json!("off"), &json!("the endpoint answered 410 Gone"))
    );
    world.file("two", ANNA, "second", Some("one")).await;
    let path = format!("/accounts/{}{}", world.desk.account, world.path(":test"));
    assert_eq!(world.app.api.call(Method::POST, &path, None).await.0, 409);
    assert_eq!(world.hooks.received().len(), 1);

    world.hooks.answer(|_| Reply::Status(200));
    world.desk.patch(&world.path(""), json!({ "state": "on" })).await;
    let received = world.hooks.wait_for("both", |all| all.len() >= 3).await;
    let subjects: Vec<Value> = received.iter().map(|one| one.data("subject")).collect();
    assert_eq!(subjects, ["first", "first", "second"]);
}

#[tokio::test]
async fn private_addresses_are_refused_at_each_call() {
    let world = World::start_with(&[], json!({ "events": ["message.filed"] })).await;
    // By name; then as it is spelled; then by a name that was nowhere and has moved to loopback.
    assert_eq!(world.tested().await["error"], "address_refused");
    for url in ["http://127.0.0.1", "http://2130706433", "http://[::ffff:127.0.0.1]"] {
        let url = format!("{url}:{}/", world.hooks.port());
        world.desk.patch(&world.path(""), json!({ "url": url })).await;
        assert_eq!(world.tested().await["error"], "address_refused", "{url}");
    }
    let url = format!("https://moving.crm.test:{}/", world.hooks.port());
    world.desk.patch(&world.path(""), json!({ "url": url })).await;
    assert_eq!(world.tested().await["error"], "dns");
    let mut moved = zone();
    moved.add("moving.crm.test", "A", "127.0.0.1").unwrap();
    world.app.zone.replace(moved);
    let is_refused = |all: &[Value]| all[0]["error"] == "address_refused";
    let mut tries = tokio::time::interval(Duration::from_millis(100));
    while !is_refused(&[world.tested().await]) {
        tries.tick().await;
    }
    assert_eq!(world.hooks.received().len(), 0);
}

#[tokio::test]
async fn what_failed_for_three_days_is_a_dead_letter_until_it_is_replayed() {
    if postgres::skips(postgres::is_wanted(), "three days are put into the file of SQLite") {
        return;
    }
    let mut world = World::start(json!({ "events": ["message.filed"] })).await;
    world.hooks.answer(|_| Reply::Status(500));
    world.file("one", ANNA, "first", None).await;
    world.file("two", ANNA, "second", Some("one")).await;
    world.wait_for_attempts("failed", |all| !all.is_empty()).await;
    world.app.kill();
    age_deliveries(world.app.folder(), 3).await;
    world.app.start_again().await;
    world.desk = world.desk.at(&world.app);
    world.desk.post(&world.path(":replay"), json!({})).await;
    let attempts =
        world.wait_for_attempts("the last", |all| all.iter().any(|it| it["outcome"] == "dead")).await;
    let dead = attempts.iter().find(|it| it["outcome"] == "dead").unwrap();
    assert_eq!(dead["next_at"], Value::Null);
    let letters = world.desk.get(&world.path("/dead-letters")).await;
    assert_eq!(letters["items"][0]["event_id"], dead["event_id"]);
    assert_eq!(letters["items"][0]["event_type"], "message.filed");
    // It does not hold back its conversation any more.
    world.hooks.wait_for("the second", |all| all.iter().any(|one| filed("second")(&one))).await;

    world.hooks.answer(|_| Reply::Status(200));
    world.desk.post(&world.path(":replay"), json!({})).await;
    world
        .wait_for_attempts("delivered", |all| {
            all.iter().filter(|it| it["outcome"] == "delivered").count() == 2
        })
        .await;
    assert_eq!(world.desk.get(&world.path("/dead-letters")).await["items"], json!([]));
    let first = world.hooks.received().into_iter().find(|one| filed("first")(&one)).unwrap();
    let again = world.desk.post(&world.path(":replay"), json!({ "event_id": first.id })).await;
    assert_eq!(again["events"], 1);
    let is_again = |all: &[Received]| {
        all.iter().filter(|one| one.id == first.id && one.answered == Reply::Status(200)).count() == 2
    };
    world.hooks.wait_for("the first again", is_again).await;
}

/// As if these days had passed since the first attempts.
async fn age_deliveries(folder: &Path, days: i64) {
    use sqlx::Connection as _;
    let database = format!("sqlite://{}", folder.join("data/syncmx.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&database).await.unwrap();
    let aged = sqlx::query("UPDATE webhook_deliveries SET begun_at = begun_at - $1")
        .bind(days * 24 * 60 * 60 * 1000)
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(aged.rows_affected() > 0);
    connection.close().await.unwrap();
}

/// Killed at any moment between commit, send and settle: every event arrives, in order within its conversation, with
/// one id and one body on every attempt.
#[tokio::test]
async fn through_kill_9_every_event_arrives_in_order_and_with_one_id() {
    // Another node could be sending.
    if postgres::skips(postgres::is_wanted(), "PostgreSQL's leases end later than a test may") {
        return;
    }
    let mut world = World::start(json!({ "events": ["message.filed"] })).await;
    // In each round one conversation's event gets no answer at first, while the others are settled.
    let seen = std::sync::Mutex::new(BTreeSet::new());
    world.hooks.answer(move |one| {
        let subject = one.data("subject").as_str().unwrap().to_owned();
        let (person, round) = subject.split_once(' ').unwrap();
        let (person, round): (usize, usize) = (person.parse().unwrap(), round.parse().unwrap());
        let is_first = seen.lock().unwrap().insert(subject);
        if is_first && person == round % 3 { Reply::Hang } else { Reply::Status(200) }
    });
    let people = ["jonas.keller@web-post.test", "marie.lund@web-post.test", ANNA];
    world.desk.contact("Jonas Keller", people[0]).await;
    world.desk.contact("Marie Lund", people[1]).await;
    let mut sent = 0;
    for round in 0..8_usize {
        for (n, person) in people.iter().enumerate() {
            let id = format!("r{round}-{n}");
            let before = round.checked_sub(1).map(|before| format!("r{before}-{n}"));
            world.file(&id, person, &format!("{n} {round:02}"), before.as_deref()).await;
            sent += 1;
        }
        // Each round dies at another place: before anything was sent, in the middle, when the others are settled.
        match round % 3 {
            0 => {}
            1 => drop(world.hooks.wait_for("some more", |all| all.len() > round).await),
            _ => {
                let others =
                    |all: &[Value]| all.iter().filter(|it| it["outcome"] == "delivered").count() >= round;
                world.wait_for_attempts("the others", others).await;
            }
        }
        world = world.restart().await;
    }
    let subjects = |all: &[Received]| {
        let delivered = all.iter().filter(|one| one.answered == Reply::Status(200));
        delivered.map(|one| one.data("subject").as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let received = world.hooks.wait_for("everything", |all| subjects(all).len() == sent).await;
    let mut ids: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for one in &received {
        let subject = one.data("subject").as_str().unwrap().to_owned();
        let known = ids.entry(subject.clone()).or_insert_with(|| (one.id.clone(), one.body.clone()));
        assert_eq!(*known, (one.id.clone(), one.body.clone()), "{subject}");
        if one.answered == Reply::Hang {
            continue;
        }
        // One that is new comes behind all that came before it in its conversation.
        let conversation = subject.split(' ').next().unwrap().to_owned();
        let newest = last.entry(conversation).or_default();
        if subject > *newest {
            let round: usize = subject.split(' ').nth(1).unwrap().parse().unwrap();
            let before: usize =
                newest.split(' ').nth(1).map_or(0, |before| before.parse::<usize>().unwrap() + 1);
            assert_eq!(round, before, "{subject} came before what was before it");
            *newest = subject;
        }
    }
}

/// Verified by the specification's own library (npm `standardwebhooks`): these hold, and those do not.
fn verify(good: &[(Received, String)], bad: &[(Received, String)]) {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/node_modules/standardwebhooks");
    if !library.exists() {
        println!("skipped: standardwebhooks is not installed (tests/run.sh installs it)");
        return;
    }
    let requests: Vec<Value> = good
        .iter()
        .map(|one| (one, true))
        .chain(bad.iter().map(|one| (one, false)))
        .map(|((request, secret), holds)| {
            json!({
                "secret": secret, "body": request.body, "holds": holds,
                "headers": {
                    "webhook-id": request.id, "webhook-timestamp": request.timestamp,
                    "webhook-signature": request.signature,
                },
            })
        })
        .collect();
    let script = "const { Webhook } = require(process.argv[1]);
        for (const r of JSON.parse(process.argv[2])) {
            let holds = true;
            try { new Webhook(r.secret).verify(r.body, r.headers); } catch (e) { holds = false; }
            if (holds !== r.holds) { console.error('expected ' + r.holds + ' of ' + JSON.stringify(r)); process.exit(1); }
        }";
    let requests = Value::from(requests).to_string();
    let output = Command::new("node").args(["-e", script]).arg(&library).arg(requests).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
