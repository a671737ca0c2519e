//! Copies through a smarthost: the patient's answer to staff and back, without showing the staff's mailbox (R46, R49).

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use syncmx::cli::demo::mailer::Answers;
use syncmx::cli::demo::practice;
use syncmx::zone::Zone;

use crate::api::{Desk, assert_rule_spoke};
use crate::app::{TestApp, postgres, program};
use crate::mail::{ANNA, Draft, FORGER, LENA};
use crate::sink::{Got, Manner, Sink};

/// A desk that forwards to its user, a smarthost, and a reply address of Lena's conversation with Anna.
struct World {
    app: TestApp,
    desk: Desk,
    sink: Sink,
    reply: String,
}

const STAFF: &str = "lena.albrecht@praxis-morgenrot.test";
const PATIENT: &str = "anna.bergmann@web-post.test";

async fn world(last: u8) -> World {
    world_with(last, &[]).await
}

async fn world_with(last: u8, settings: &[String]) -> World {
    let sink = Sink::start(last).await;
    let mut all = sink.settings().to_vec();
    all.extend_from_slice(settings);
    let app = TestApp::start_with(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let desk = Desk::open(&app).await;
    set(&app, &desk, json!({ "forward_replies": "user" })).await;
    let body = json!({ "contact_id": desk.anna, "user_id": desk.user, "subject": "Your appointment" });
    let minted = desk.post("/reply-addresses", body).await;
    let reply = minted["address"].as_str().unwrap().to_owned();
    World { app, desk, sink, reply }
}

async fn set(app: &TestApp, desk: &Desk, settings: Value) {
    let path = format!("/accounts/{}", desk.account);
    let (status, answer) = app.api.call(Method::PATCH, &path, Some(json!({ "settings": settings }))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// The text of a letter that is one part, in base64.
fn body_of(letter: &Got) -> String {
    let text = letter.text.split("\r\n\r\n").nth(1).unwrap();
    String::from_utf8(crate::filing::decode_base64(text)).unwrap()
}

impl World {
    /// Stops and starts the server, which looks at its start for what there is to do.
    async fn start_again(&mut self) {
        self.app.terminate().await;
        self.app.start_again().await;
        self.desk = self.desk.clone().at(&self.app);
    }

    async fn anna_writes(&self, id: &str, to: &str, fields: &str) -> Answers {
        let from = "Anna Bergmann <anna.bergmann@web-post.test>";
        let text = "May I come earlier?\r\n";
        let raw = Draft { id, from, to, fields, text, ..Draft::default() }.raw();
        self.app.send(&ANNA, to, &raw).await
    }

    async fn lena_writes(&self, id: &str, to: &str, fields: &str, text: &str) -> Answers {
        let raw = Draft { id, to, fields, text, ..Draft::default() }.raw();
        self.app.send(&LENA, to, &raw).await
    }

    async fn jobs(&self) -> Vec<Value> {
        self.desk.get("/relay-jobs").await["items"].as_array().unwrap().clone()
    }

    /// Once the newest job is in this state.
    async fn wait_for_state(&self, state: &str) -> Value {
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(50));
        for _ in 0..1_800 {
            tries.tick().await;
            let jobs = self.jobs().await;
            if let Some(job) = jobs.first().filter(|job| job["state"] == state) {
                return job.clone();
            }
        }
        panic!("no job is {state}: {:#?}", self.jobs().await);
    }
}

fn address_in(field: &str) -> String {
    field.rsplit(['<', '>']).nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn r46_r49_both_sides_write_from_their_own_mailboxes_and_neither_is_shown() {
    let world = world(1).await;
    let (delivery, _) = world.desk.expect_filed(&world.anna_writes("p1", &world.reply, "").await).await;
    assert_rule_spoke(&delivery, "R49");
    let copy = world.sink.wait_for(1).await;
    assert_eq!(copy.recipient, STAFF);
    assert_eq!(copy.sender, address_in(&copy.field("From")), "bounces come to the conversation (R51)");
    assert!(copy.field("From").starts_with("\"Anna Bergmann via Praxis Morgenrot\" <r-"), "{}", copy.text);
    assert!(copy.text.contains("May I come earlier?"));
    assert_eq!(copy.field("References"), "<p1@e2e.test>");

    let back = address_in(&copy.field("Reply-To"));
    let fields = format!(
        "In-Reply-To: {0}\r\nReferences: {1} {0}\r\nCc: {STAFF}\r\nSender: {STAFF}\r\nX-Originating-IP: [192.0.2.9]\r\n",
        copy.field("Message-ID"),
        copy.field("References")
    );
    let text = format!(
        "Yes.\r\n\r\n-- \r\nLena <{STAFF}>\r\n\r\nOn Monday, Lena Albrecht <Lena.Albrecht@praxis-morgenrot.test> wrote:\r\n> hello\r\n"
    );
    let (delivery, message) =
        world.desk.expect_filed(&world.lena_writes("s1", &back, &fields, &text).await).await;
    assert_rule_spoke(&delivery, "R46");
    assert_eq!(message["direction"], "outbound");
    let answer = world.sink.wait_for(2).await;
    assert_eq!(answer.recipient, PATIENT);
    assert_eq!(address_in(&answer.field("To")), PATIENT);
    assert!(answer.field("From").starts_with("\"Lena Albrecht\" <r-"), "{}", answer.text);
    let lower = answer.text.to_lowercase();
    for secret in ["praxis-morgenrot.test", "lena.albrecht", "192.0.2.9", "received:", "s1@e2e.test"] {
        assert!(!lower.contains(secret), "{secret} in {}", answer.text);
    }
    assert!(answer.text.contains("On Monday, Lena Albrecht <r-"), "{}", answer.text);
    assert_eq!(answer.field("In-Reply-To"), "<p1@e2e.test>");
    assert!(answer.field("References").starts_with("<p1@e2e.test> <"), "{}", answer.field("References"));

    // R40: the answer to the copy finds the conversation, even by another way than the reply address.
    let fields = format!("In-Reply-To: {}\r\nCc: {}\r\n", answer.field("Message-ID"), world.desk.sync);
    let raw = Draft { id: "p2", from: PATIENT, to: STAFF, fields: &fields, ..Draft::default() }.raw();
    let (_, second) = world.desk.expect_filed(&world.app.send(&ANNA, &world.desk.sync, &raw).await).await;
    assert_eq!(second["conversation_id"], message["conversation_id"]);
    assert_eq!(world.wait_for_state("sent").await["attempts"], 1);
    assert_eq!(world.sink.got().len(), 2, "the sync address forwards nothing");
    // "\0desk\0s:cret"; and the log names neither.
    assert!(world.sink.logins().iter().all(|login| login == "PLAIN AGRlc2sAczpjcmV0"));
    assert!(!world.app.log().contains("cret"), "{}", world.app.log());
}

#[tokio::test]
async fn r51_a_bounce_of_a_copy_is_on_the_conversation_and_goes_to_nobody() {
    let world = world(11).await;
    world.desk.expect_filed(&world.lena_writes("s1", &world.reply, "", "Yes.\r\n").await).await;
    let copy = world.sink.wait_for(1).await;
    assert_eq!(copy.recipient, PATIENT);
    let raw = format!(
        "From: MAILER-DAEMON@web-post.test\r\nTo: {}\r\nSubject: Undelivered Mail Returned to Sender\r\n\
         Date: Sun, 22 Nov 2026 02:44:05 +0000\r\nMessage-ID: <dsn@web-post.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nGone.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.web-post.test\r\n\r\n\
         Final-Recipient: rfc822; {PATIENT}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b\r\n\
         Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: {}\r\n--b--\r\n",
        copy.sender,
        copy.field("Message-ID")
    );
    let daemon = crate::mail::Sender { mail_from: "", ..ANNA };
    let (_, bounce) =
        world.desk.expect_filed(&world.app.send(&daemon, &copy.sender, raw.as_bytes()).await).await;
    assert_eq!(bounce["kind"], "bounce");
    assert_eq!(bounce["contact_id"], world.desk.anna.as_str());
    assert_eq!(world.jobs().await.len(), 1);
}

#[tokio::test]
async fn r47_a_forged_staff_mail_goes_to_nobody() {
    let world = world(2).await;
    let raw = Draft { to: &world.reply, ..Draft::default() }.raw();
    let forged = world.app.send(&FORGER, &world.reply, &raw).await;
    world.desk.expect(&forged, "550 5.7.26", "rejected", "dmarc_reject").await;
    let from = "Lena <lena.albrecht@irgendwo.test>";
    let raw = Draft { id: "2", from, to: &world.reply, ..Draft::default() }.raw();
    let somebody = world.app.send(&FORGER, &world.reply, &raw).await;
    let delivery = world.desk.delivery(&somebody).await;
    // Somebody else's aligned mail may be filed and shown to staff, and never goes to the patient.
    for job in world.jobs().await {
        assert_eq!(job["kind"], "staff", "{delivery:#}");
    }
    let stranger = world.app.send(&FORGER, "mother@elsewhere.test", &raw).await;
    assert_eq!(stranger.decisive().codes(), "550 5.7.1", "no open relay");
}

#[tokio::test]
async fn without_a_relay_the_trace_says_that_nothing_goes_on() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let minted =
        desk.post("/reply-addresses", json!({ "contact_id": desk.anna, "user_id": desk.user })).await;
    let reply = minted["address"].as_str().unwrap();
    let raw = Draft { to: reply, ..Draft::default() }.raw();
    let (delivery, _) = desk.expect_filed(&app.send(&LENA, reply, &raw).await).await;
    let steps = delivery["steps"].to_string();
    assert!(steps.contains("no copy goes on: no relay is configured"), "{steps}");
    assert_eq!(desk.get("/relay-jobs").await["items"], json!([]));
}

#[tokio::test]
async fn a_smarthost_that_is_away_costs_time_and_no_mail() {
    let mut world = world(3).await;
    world.sink.close().await;
    let raw = Draft { from: PATIENT, to: &world.reply, ..Draft::default() }.raw();
    world.desk.expect_filed(&world.app.send(&ANNA, &world.reply, &raw).await).await;
    let waits = world.wait_for_state("waiting").await;
    assert!(waits["next_at"].is_string() && waits["settled_at"].is_null(), "{waits:#}");
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(100));
    let said = loop {
        tries.tick().await;
        let job = world.jobs().await.remove(0);
        if let Some(said) = job["last_reply"].as_str() {
            break said.to_owned();
        }
    };
    assert!(said.contains("cannot connect to the smarthost"), "{said}");
    world.app.wait_for_log("relay.smarthost_away").await;
    world.sink.open().await;
    world.sink.wait_for(1).await;
    let sent = world.wait_for_state("sent").await;
    assert!(sent["attempts"].as_u64().unwrap() > 1, "{sent:#}");
    // A retry of the patient's mail after a lost 250 sends nothing again.
    let again = world.app.send(&ANNA, &world.reply, &raw).await;
    world.desk.expect(&again, "250 2.0.0", "duplicate", "duplicate").await;
    world.desk.expect_filed(&world.anna_writes("p2", &world.reply, "").await).await;
    world.sink.wait_for(2).await;
    world.wait_for_state("sent").await;
    let ids: Vec<String> = world.sink.got().iter().map(|got| got.field("Message-ID")).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn after_kill_9_between_sending_and_settling_the_copy_comes_again_with_the_same_id() {
    // Another node could be sending.
    if postgres::skips(postgres::is_wanted(), "PostgreSQL's lease ends later than a test may") {
        return;
    }
    let mut world = world(4).await;
    world.sink.be(Manner::Silent);
    world.desk.expect_filed(&world.anna_writes("p1", &world.reply, "").await).await;
    let first = world.sink.wait_for(1).await;
    assert_eq!(world.wait_for_state("sending").await["attempts"], 1);
    world.app.kill();
    world.sink.be(Manner::Taking);
    world.app.start_again().await;
    world.desk = world.desk.at(&world.app);
    let second = world.sink.wait_for(2).await;
    assert_eq!(second.field("Message-ID"), first.field("Message-ID"));
    assert_eq!(world.wait_for_state("sent").await["attempts"], 2);
    assert_eq!(world.sink.got().len(), 2);
}

#[tokio::test]
async fn what_the_smarthost_refuses_is_failed_visible_and_an_event() {
    let world = world(5).await;
    world.sink.be(Manner::Refusing);
    world.desk.expect_filed(&world.anna_writes("p1", &world.reply, "").await).await;
    let failed = world.wait_for_state("failed").await;
    assert_eq!(failed["last_reply"], "550 5.1.1 nobody here");
    assert_eq!(failed["attempts"], 1);
    let events = world.desk.get("/events").await;
    let event = events["items"].as_array().unwrap().iter().find(|event| event["type"] == "relay.failed");
    assert_eq!(event.unwrap()["data"]["message_id"], failed["id"], "{events:#}");
    // The session goes on behind a refusal.
    world.sink.be(Manner::Taking);
    world.desk.expect_filed(&world.anna_writes("p2", &world.reply, "").await).await;
    world.sink.wait_for(1).await;
    let listed = world.desk.get("/relay-jobs?state=failed").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let config = world.app.folder().join("syncmx.toml");
    let listed = program(&["relay", "list", &world.desk.account, "--config", config.to_str().unwrap()])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("failed") && listed.contains("550 5.1.1"), "{listed}");
    // Once the reason is mended, it can be sent after all.
    let id = failed["id"].as_str().unwrap();
    let retry = ["relay", "retry", &world.desk.account, id, "--config", config.to_str().unwrap()];
    assert!(program(&retry).status().unwrap().success());
    assert_eq!(world.sink.wait_for(2).await.recipient, STAFF);
    assert!(!program(&retry).status().unwrap().success(), "nothing to retry");
}

#[tokio::test]
async fn what_the_smarthost_has_against_us_is_no_reason_to_give_a_mail_up() {
    let world = world(13).await;
    world.sink.be(Manner::Strict);
    world.desk.expect_filed(&world.anna_writes("p1", &world.reply, "").await).await;
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        tries.tick().await;
        let job = world.jobs().await.remove(0);
        assert!(job["state"] == "waiting" || job["state"] == "sending", "{job}");
        if job["state"] == "waiting" && job["attempts"] != 0 {
            assert_eq!(job["last_reply"], "530 5.7.0 authentication required");
            break;
        }
    }
    world.sink.be(Manner::Taking);
    assert_eq!(world.sink.wait_for(1).await.recipient, STAFF);
    world.wait_for_state("sent").await;
}

#[tokio::test]
async fn r46_r72_one_mail_to_the_reply_addresses_of_two_contacts_goes_on_to_both() {
    let world = world(14).await;
    let bea = world.desk.contact("Bea", "bea@web-post.test").await;
    let body = json!({ "contact_id": bea, "user_id": world.desk.user, "subject": "Your appointment" });
    let minted = world.desk.post("/reply-addresses", body).await;
    let to_bea = minted["address"].as_str().unwrap().to_owned();
    let to = format!("{}, {to_bea}", world.reply);
    let raw = Draft { id: "both", to: &to, ..Draft::default() }.raw();
    // R70: a retry changes nothing.
    for _ in 0..2 {
        let answers = world.app.send_to_all(&LENA, &[&world.reply, &to_bea], &raw).await;
        assert_eq!(answers.decisive().codes(), "250 2.0.0");
    }
    world.sink.wait_for(2).await;
    let mut got = world.sink.got();
    got.sort_by(|one, other| one.recipient.cmp(&other.recipient));
    let recipients: Vec<_> = got.iter().map(|got| got.recipient.as_str()).collect();
    assert_eq!(recipients, [PATIENT, "bea@web-post.test"]);
    assert!(!got[0].text.contains("bea@") && !got[0].text.contains(&to_bea), "{}", got[0].text);
    assert!(!got[1].text.contains("anna") && !got[1].text.contains(&world.reply), "{}", got[1].text);
    // R25, R70: one message, on both timelines.
    let (anna, beas) = (world.desk.timeline(&world.desk.anna).await, world.desk.timeline(&bea).await);
    assert_eq!((anna.len(), beas.len()), (1, 1));
    assert_eq!(anna[0]["id"], beas[0]["id"]);
    let deliveries = world.desk.get("/deliveries?message_id=both@e2e.test").await;
    let ways: Vec<_> = deliveries["items"].as_array().unwrap().iter().collect();
    assert!(ways.iter().all(|way| way["message_id"] == anna[0]["id"]), "{deliveries}");
    assert!(ways.iter().any(|way| way["outcome"] == "duplicate" && way["steps"].to_string().contains("R25")));
    assert_eq!(world.jobs().await.len(), 2);

    // R40: each answer finds its own conversation.
    let fields = format!("In-Reply-To: {}\r\n", got[1].field("Message-ID"));
    let back = address_in(&got[1].field("Reply-To"));
    let raw =
        Draft { id: "answer", from: "bea@web-post.test", to: &back, fields: &fields, ..Draft::default() };
    let sender = crate::mail::Sender { mail_from: "bea@web-post.test", ..ANNA };
    let (_, answer) = world.desk.expect_filed(&world.app.send(&sender, &back, &raw.raw()).await).await;
    assert_eq!((&answer["contact_id"], &answer["in_reply_to"].is_null()), (&json!(bea), &false));

    // R47, R72: what Anna writes to both is on her record alone, and the other conversation says why.
    let raw = Draft { id: "nosy", from: PATIENT, to: &to, ..Draft::default() }.raw();
    world.app.send_to_all(&ANNA, &[&world.reply, &to_bea], &raw).await;
    assert_eq!(world.desk.timeline(&bea).await.len(), 2);
    let deliveries = world.desk.get("/deliveries?message_id=nosy@e2e.test").await;
    let steps: Vec<_> =
        deliveries["items"].as_array().unwrap().iter().map(|way| way["steps"].to_string()).collect();
    assert!(steps.iter().any(|steps| steps.contains("does not take it unasked")), "{deliveries}");
    // R60: with the message goes what would be sent of it.
    let purge = json!({ "message_id": anna[0]["id"] });
    world.desk.post("/purge", purge).await;
    assert_eq!(world.jobs().await.len(), 2, "the two answers to staff are left");
}

#[tokio::test]
async fn a_mail_that_ends_the_session_does_not_hold_up_the_next() {
    let mut world = world(12).await;
    world.sink.close().await;
    world.sink.be(Manner::Frail);
    let from = PATIENT;
    let raw = Draft { id: "1", from, to: &world.reply, text: "poison\r\n", ..Draft::default() }.raw();
    world.desk.expect_filed(&world.app.send(&ANNA, &world.reply, &raw).await).await;
    world.desk.expect_filed(&world.anna_writes("2", &world.reply, "").await).await;
    world.sink.open().await;
    assert!(world.sink.wait_for(1).await.text.contains("May I come earlier?"));
    world.wait_for_state("sent").await;
    let waits = world.desk.get("/relay-jobs?state=waiting").await;
    assert_eq!(waits["items"].as_array().unwrap().len(), 1, "{waits:#}");
    world.sink.be(Manner::Taking);
    assert!(world.sink.wait_for(2).await.text.contains("poison"));
}

/// Both sides have a responder that answers every mail and does not say that it is a machine.
#[tokio::test]
async fn m18_a_thousand_rounds_of_two_responders_stop_by_themselves() {
    let world = world(6).await;
    let mut answers = world.anna_writes("round-0", &world.reply, "").await;
    let mut copies = 0;
    for round in 1..=1_000 {
        let (delivery, _) = world.desk.expect_filed(&answers).await;
        if !delivery["steps"].to_string().contains("a copy goes on to") {
            assert!(delivery["steps"].to_string().contains("too many of this conversation"), "{delivery:#}");
            break;
        }
        copies += 1;
        let Got { recipient, text, .. } = world.sink.wait_for(copies).await;
        let back =
            address_in(&Got { sender: String::new(), recipient: String::new(), text }.field("Reply-To"));
        let id = format!("round-{round}");
        answers = match recipient.as_str() {
            STAFF => world.lena_writes(&id, &back, "", "I have your mail.\r\n").await,
            _ => world.anna_writes(&id, &back, "").await,
        };
    }
    assert_eq!(copies, 20);
    // And those that do say so are never sent on.
    let fields = "Auto-Submitted: auto-replied\r\n";
    let (delivery, message) =
        world.desk.expect_filed(&world.anna_writes("away", &world.reply, fields).await).await;
    assert_rule_spoke(&delivery, "R50");
    assert_eq!(message["kind"], "auto_reply");
    // What bears our header is cut at once.
    let looped = world.anna_writes("loop", &world.reply, "X-Syncmx-Loop: 1\r\n").await;
    world.desk.expect(&looped, "554 5.4.6", "rejected", "loop").await;
}

#[tokio::test]
async fn what_is_sent_is_signed_so_that_our_own_authenticator_believes_it() {
    for (last, algorithm) in [(7, "rsa"), (8, "ed25519")] {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("dkim.pem");
        let made =
            program(&["dkim-key", "s1", key.to_str().unwrap(), "--algorithm", algorithm]).output().unwrap();
        let record = String::from_utf8(made.stdout).unwrap();
        let default_domain = "s1._domainkey.reply.example.test. TXT \"v=DKIM1;";
        assert!(record.starts_with(default_domain), "{record}");
        let settings = [
            "SYNCMX_RELAY__DKIM_SELECTOR=s1".to_owned(),
            format!("SYNCMX_RELAY__DKIM_KEY={}", key.display()),
        ];
        let world = world_with(last, &settings).await;
        world.desk.expect_filed(&world.anna_writes("p1", &world.reply, "").await).await;
        let copy = world.sink.wait_for(1).await;
        assert!(copy.field("DKIM-Signature").contains("d=reply.example.test"), "{}", copy.text);
        let (mail, zone) = (folder.path().join("copy.eml"), folder.path().join("zone"));
        std::fs::write(&mail, &copy.text).unwrap();
        let dmarc = "_dmarc.reply.example.test. TXT \"v=DMARC1; p=reject\"\n";
        std::fs::write(&zone, format!("{}\n{record}{dmarc}", practice::ZONE)).unwrap();
        Zone::parse(&std::fs::read_to_string(&zone).unwrap()).unwrap();
        let arguments = ["inspect", mail.to_str().unwrap(), "--zone", zone.to_str().unwrap(), "--json"];
        let inspected = program(&arguments).output().unwrap();
        let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
        assert_eq!(inspected["auth"]["dkim"][0]["result"], "pass", "{inspected:#}");
        assert_eq!(inspected["auth"]["dmarc"]["result"], "pass", "{inspected:#}");
    }
}

#[tokio::test]
async fn r12_a_link_proves_an_address_once_and_sets_free_what_waits() {
    let world = world(9).await;
    let new = "lena@web-post.test";
    let body = json!({ "address": new });
    let path = format!("/users/{}/emails", world.desk.user);
    world.desk.post(&path, body.clone()).await;
    let letter = world.sink.wait_for(1).await;
    assert_eq!((letter.sender.as_str(), letter.recipient.as_str()), ("", new));
    assert_eq!(letter.field("Auto-Submitted"), "auto-generated");
    let text = body_of(&letter);
    let token = text.split("/confirm/").nth(1).unwrap().split_whitespace().next().unwrap();
    // Mail from it is held meanwhile.
    let sender = crate::mail::Sender { mail_from: new, ..ANNA };
    let raw = Draft { id: "new", from: new, ..Draft::default() }.raw();
    let held = world.app.send(&sender, &world.desk.sync, &raw).await;
    world.desk.expect(&held, "250 2.0.0", "held", "new_identity").await;
    // R36: and this one is to be held for another reason, once the address is proven.
    set(&world.app, &world.desk, json!({ "unknown_to": "hold" })).await;
    let to = "Stranger <stranger@elsewhere.test>";
    let raw = Draft { id: "on", from: new, to, ..Draft::default() }.raw();
    let held = world.app.send(&sender, &world.desk.sync, &raw).await;
    world.desk.expect(&held, "250 2.0.0", "held", "new_identity").await;

    let url = format!("{}/confirm/{token}", world.app.api.base);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(&url).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let page = page.text().await.unwrap();
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, style.as_bytes());
    let digest = syncmx::message::base64(digest.as_ref());
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains(&format!("'sha256-{digest}'")),
        "{policy}"
    );
    assert!(page.contains(new) && page.contains("<button"), "{page}");
    assert!(world.desk.timeline(&world.desk.anna).await.is_empty(), "looking changes nothing");
    let last = if url.ends_with('0') { '1' } else { '0' };
    let forged = format!("{}/confirm/{}{last}", world.app.api.base, token.get(..63).unwrap());
    assert_eq!(client.post(&forged).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(client.post(&url).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(world.desk.timeline(&world.desk.anna).await.len(), 1, "what waited is filed");
    let held = world.desk.get("/held").await;
    let reasons: Vec<_> = held["items"].as_array().unwrap().iter().map(|item| &item["reason"]).collect();
    assert_eq!(reasons, ["unknown_contact"], "what is to be held is held on");
    assert_eq!(client.post(&url).send().await.unwrap().status(), StatusCode::NOT_FOUND, "once");
    // Not again for one that is proven.
    world.desk.post(&path, body).await;
    assert_eq!(world.jobs().await.len(), 1);
}

#[tokio::test]
async fn r12_an_account_has_its_share_of_confirmation_mails_however_many_users_it_makes() {
    let world = world(15).await;
    for user in 0..11 {
        let body = json!({ "name": format!("User {user}"), "emails": [], "role": "staff" });
        let made = world.desk.post("/users", body).await;
        let path = format!("/users/{}/emails", made["id"].as_str().unwrap());
        for n in 0..10 {
            let address = format!("somebody-{user}-{n}@elsewhere.test");
            world.desk.post(&path, json!({ "address": address })).await;
        }
    }
    let config = world.app.folder().join("syncmx.toml");
    let arguments = ["relay", "list", &world.desk.account, "--json", "--config", config.to_str().unwrap()];
    let listed = program(&arguments).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 100);
}

#[tokio::test]
async fn a_user_is_told_once_a_day_that_mail_waits_and_nothing_of_it() {
    let mut world = world(10).await;
    set(&world.app, &world.desk, json!({ "unknown_to": "hold" })).await;
    let to = "Stranger <stranger@elsewhere.test>";
    let raw = Draft { id: "held", to, subject: "Blood results", ..Draft::default() }.raw();
    let held = world.app.send(&LENA, &world.desk.sync, &raw).await;
    world.desk.expect(&held, "250 2.0.0", "held", "unknown_contact").await;
    world.start_again().await;
    let letter = world.sink.wait_for(1).await;
    assert_eq!((letter.sender.as_str(), letter.recipient.as_str()), ("", STAFF));
    assert_eq!(letter.field("Subject"), "1 mail waits for your decision");
    let text = body_of(&letter);
    assert!(text.contains("1 × unknown contact") && !text.contains("Blood"), "{text}");
    assert!(!text.contains("http"), "there is no page to go to: {text}");
    let raw = Draft { id: "held-2", to, ..Draft::default() }.raw();
    let second = world.app.send(&LENA, &world.desk.sync, &raw).await;
    world.desk.expect(&second, "250 2.0.0", "held", "unknown_contact").await;
    world.start_again().await;
    world.desk.expect_filed(&world.anna_writes("p1", &world.reply, "").await).await;
    assert_eq!(world.sink.wait_for(2).await.recipient, STAFF);
    assert_eq!(world.jobs().await.iter().filter(|job| job["kind"] == "digest").count(), 1);
}

#[tokio::test]
async fn r70a_a_digest_offers_to_take_back_what_was_filed_and_its_link_does() {
    let mut world = world(18).await;
    set(&world.app, &world.desk, json!({ "unknown_to": "hold" })).await;
    for (id, subject) in [("keep", "Blood results"), ("slip", "Of my own")] {
        let raw = Draft { id, subject, ..Draft::default() }.raw();
        world.desk.expect_filed(&world.app.send(&LENA, &world.desk.sync, &raw).await).await;
    }
    let to = "Stranger <stranger@elsewhere.test>";
    let held = Draft { id: "held", to, ..Draft::default() }.raw();
    let held = world.app.send(&LENA, &world.desk.sync, &held).await;
    world.desk.expect(&held, "250 2.0.0", "held", "unknown_contact").await;
    world.start_again().await;
    let letter = world.sink.wait_for(1).await;
    assert_eq!((letter.sender.as_str(), letter.recipient.as_str()), ("", STAFF));
    let text = body_of(&letter);
    assert!(text.contains("1 × unknown contact") && text.contains(" UTC, to Anna Bergmann"), "{text}");
    assert!(!text.contains("Blood") && !text.contains("Of my own") && !text.contains("tranger"), "{text}");
    let tokens: Vec<&str> =
        text.split("/undo/").skip(1).map(|rest| rest.split_whitespace().next().unwrap()).collect();
    assert_eq!(tokens.len(), 2, "{text}");
    let url = |token: &str| format!("{}/undo/{token}", world.app.api.base);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    // The newest comes first. Looking changes nothing.
    for _ in 0..2 {
        let page = client.get(url(tokens[0])).send().await.unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        assert!(
            page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none';")
        );
        let page = page.text().await.unwrap();
        assert!(
            page.contains("Anna Bergmann") && page.contains("method=\"post\"") && !page.contains("Of my own"),
            "{page}"
        );
    }
    let last = if tokens[0].ends_with('0') { '1' } else { '0' };
    let forged = format!("{}{last}", tokens[0].get(..95).unwrap());
    // The tag of another mail.
    let crossed = format!("{}{}", tokens[0].get(..64).unwrap(), tokens[1].get(64..).unwrap());
    for wrong in [forged.as_str(), crossed.as_str(), "x", tokens[0].get(..64).unwrap()] {
        assert_eq!(client.get(url(wrong)).send().await.unwrap().status(), StatusCode::NOT_FOUND);
        assert_eq!(client.post(url(wrong)).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(world.desk.timeline(&world.desk.anna).await.len(), 2);
    assert_eq!(client.post(url(tokens[0])).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(client.post(url(tokens[0])).send().await.unwrap().status(), StatusCode::NOT_FOUND, "once");
    let left = world.desk.timeline(&world.desk.anna).await;
    assert_eq!((left.len(), &left[0]["subject"]), (1, &json!("Blood results")));
    let trail = world.desk.get("/audit?limit=200").await;
    let by = format!("user:{}", world.desk.user);
    let is_noted = |act: &Value| act["action"] == "undo" && act["actor"] == by.as_str();
    assert!(trail["items"].as_array().unwrap().iter().any(is_noted), "{trail}");
    // After 30 days it is over.
    let older = "UPDATE messages SET received_at = received_at - 2592000001";
    crate::beside::change_by_hand(world.app.folder(), older).await;
    assert_eq!(client.get(url(tokens[1])).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(client.post(url(tokens[1])).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(world.desk.timeline(&world.desk.anna).await.len(), 1);
}

#[tokio::test]
async fn e6_whatever_becomes_of_a_mail_nothing_is_sent_to_its_reverse_path() {
    let world = world(13).await;
    let stranger = Draft { id: "s", from: "Otto <otto@irgendwo.test>", ..Draft::default() }.raw();
    let refused = world.app.send(&FORGER, &world.desk.sync, &stranger).await;
    assert_eq!(refused.decisive().code, 550, "{}", refused.decisive().text);
    let unknown = world.app.send(&LENA, "nobody-0000@sync.example.test", &stranger).await;
    assert_eq!(unknown.decisive().code, 550, "{}", unknown.decisive().text);
    let from_anna = |id| Draft { id, from: PATIENT, to: STAFF, ..Draft::default() }.raw();
    let discarded = world.app.send(&ANNA, &world.desk.auto, &from_anna("d")).await;
    world.desk.expect(&discarded, "250 2.0.0", "discarded", "not_marked").await;
    let held = world.app.send(&FORGER, &world.reply, &from_anna("h")).await;
    world.desk.expect(&held, "250 2.0.0", "held", "unverified_sender").await;
    let bounce = "Auto-Submitted: auto-replied\r\n";
    assert_eq!(world.anna_writes("a", &world.reply, bounce).await.decisive().code, 250);
    // Jobs stand on disk before the 250: this one is the only one.
    assert_eq!(world.anna_writes("last", &world.reply, "").await.decisive().code, 250);
    let got = world.sink.wait_for(1).await;
    assert_eq!(got.recipient, STAFF);
    assert_eq!(world.jobs().await.len(), 1);
    assert_eq!(world.sink.got().len(), 1);
}
