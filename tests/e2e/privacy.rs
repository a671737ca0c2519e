//! Erasing and the audit trail, on the real program and its files (R60–R64, R70a).

use std::process::Output;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Desk;
use crate::app::{TestApp, postgres, program};
use crate::beside::{self, Beside};
use crate::mail::{ANNA, Draft, LENA};

async fn run(app: &TestApp, arguments: &[&str]) -> Output {
    let config = app.folder().join("syncmx.toml").to_str().unwrap().to_owned();
    let mut command = program(arguments);
    command.args(["--config", &config]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until none of these words stands in any file; the log of SQLite is emptied as soon as nobody reads it. With
/// PostgreSQL none may stand in any row, nor, once the operator has run `VACUUM FULL`, in any file of the database.
async fn expect_erased(app: &TestApp, words: &[&str]) {
    let mut left = words_left(app, words).await;
    for _ in 0..500 {
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = words_left(app, words).await;
    }
    assert!(left.is_empty(), "still stored: {left:?}");
    if let Some(url) = beside::postgres_url(app.folder()) {
        for file in beside::files_of_postgres(&url).await {
            let octets = beside::octets(&file);
            let left: Vec<_> = words.iter().filter(|word| beside::stands_in(&octets, word)).collect();
            assert!(left.is_empty(), "still in {}: {left:?}", file.display());
        }
    }
}

async fn words_left<'a>(app: &TestApp, words: &[&'a str]) -> Vec<&'a str> {
    let mut left: Vec<_> = words.iter().copied().filter(|word| app.data_contains(word)).collect();
    if let Some(url) = beside::postgres_url(app.folder()) {
        let rows = beside::rows(&url).await;
        left.extend(words.iter().copied().filter(|word| beside::stands_in(&rows, word)));
    }
    left
}

/// In just these letters; those of the index of the search stand there in a moment.
async fn will_be_stored(app: &TestApp, word: &str) -> bool {
    for _ in 0..3_000 {
        let rows = match beside::postgres_url(app.folder()) {
            Some(url) => beside::rows(&url).await,
            None => Vec::new(),
        };
        if app.data_contains(word) || memchr::memmem::find(&rows, word.as_bytes()).is_some() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

fn blobs(app: &TestApp) -> usize {
    fn below(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
        entries.map(|entry| if entry.path().is_dir() { below(&entry.path()) } else { 1 }).sum()
    }
    below(&app.folder().join("data/blobs"))
}

#[tokio::test]
async fn r60_after_a_purge_nothing_of_the_mail_stands_in_any_file_and_a_retry_changes_nothing() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    // Noise does not compress: it takes a blob.
    let noise: String =
        (0..40_000_u32).map(|n| format!("{:08x}\r\n", n.wrapping_mul(2_654_435_761))).collect();
    let text = format!("The word is Zwetschgendatschi.\r\n{noise}");
    let draft = Draft { id: "secret-message-id", subject: "Quittengelee", text: &text, ..Draft::default() };
    let raw = LENA.sign(&draft.raw());
    let mut mailer = app.connect(&LENA).await;
    let recipients = [desk.sync.clone()];
    let first = mailer.send(LENA.mail_from, &recipients, &raw).await.unwrap();
    let (_, message) = desk.expect_filed(&first).await;
    let id = message["id"].as_str().unwrap();
    assert_eq!(blobs(&app), 1);
    for word in WORDS {
        assert!(postgres::rows_are_sealed() || will_be_stored(&app, word).await, "{word} can be looked for");
    }
    let purged = desk.post("/purge", json!({ "message_id": id })).await;
    assert_eq!(
        (&purged["messages"], &purged["blobs"], &purged["done"]),
        (&json!(1), &json!(1), &json!(true))
    );
    assert_eq!(blobs(&app), 0);
    expect_erased(&app, WORDS).await;

    // A late retry: the same octets.
    let again = mailer.send(LENA.mail_from, &recipients, &raw).await.unwrap();
    let delivery = desk.expect(&again, "250 2.0.0", "duplicate", "duplicate").await;
    crate::api::assert_rule_spoke(&delivery, "R60");
    assert_eq!(desk.timeline(&desk.anna).await.len(), 0);
    assert_eq!(blobs(&app), 0);
    expect_erased(&app, WORDS).await;
}

#[tokio::test]
async fn r60_a_purge_of_many_messages_that_is_killed_is_finished_after_the_start() {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let bea = desk.contact("Bea", "bea@web-post.test").await;
    let keep = Draft { id: "keep", to: "bea@web-post.test", ..Draft::default() }.raw();
    desk.expect_filed(&app.send(&LENA, &desk.sync, &keep).await).await;
    file_many(&app, &desk).await;

    let mut other = Beside::of(app.folder()).await;
    let api = app.api.clone();
    let path = format!("/accounts/{}/purge", desk.account);
    let body = json!({ "contact_id": desk.anna });
    // Nobody hears its answer.
    let asking = tokio::spawn(async move { api.call(Method::POST, &path, Some(body)).await });
    while count(&mut other).await > messages() {
        tokio::task::yield_now().await;
    }
    app.kill();
    asking.abort();
    if count(&mut other).await == 1 {
        println!("the purge was faster than the signal that should have killed it in the middle");
    }

    app.start_again().await;
    for _ in 0..3000 {
        if count(&mut other).await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let desk = desk.at(&app);
    for _ in 0..500 {
        if done(&desk).await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = done(&desk).await.unwrap();
    assert_eq!(done["data"]["messages"], json!(messages()));
    assert_eq!(desk.timeline(&bea).await.len(), 1);
    let (status, _) =
        app.api.call(Method::GET, &format!("/accounts/{}/contacts/{}", desk.account, desk.anna), None).await;
    assert_eq!(status, 404);
    drop(other);
    // Of a word that stood in thousands of mails the index of the search may keep a border between two of its pages.
    expect_erased(&app, &["Zwetschgendatschi", "m0-7@e2e.test", "anna.bergmann"]).await;
}

#[tokio::test]
async fn r60_what_a_crash_left_in_the_databases_log_is_gone_after_the_start() {
    if postgres::rows_are_sealed() {
        println!("skipped: no word of a sealed row stands in any file");
        return;
    }
    let mut app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let draft = Draft { id: "secret-message-id", subject: "Quittengelee", ..Draft::default() };
    let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &draft.raw()).await).await;
    // Somebody reads, so that the log cannot be emptied. Open until after the start: who closes a database last empties
    // its log.
    let mut other = Beside::of(app.folder()).await;
    other.run("BEGIN").await;
    count(&mut other).await;
    let purged = desk.post("/purge", json!({ "message_id": message["id"] })).await;
    assert_eq!(purged["done"], json!(true));
    app.kill();
    other.run("COMMIT").await;
    assert!(app.data_contains("Quittengelee"), "what the crash has left");
    app.start_again().await;
    assert_eq!(count(&mut other).await, 0);
    expect_erased(&app, WORDS).await;
}

/// To Anna, over several sessions.
async fn file_many(app: &TestApp, desk: &Desk) {
    let settings = json!({ "settings": { "daily_limit": 10_000 } });
    app.api.call(Method::PATCH, &format!("/accounts/{}", desk.account), Some(settings)).await;
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..SESSIONS {
        let (mut mailer, recipients) = (app.connect(&LENA).await, [desk.sync.clone()]);
        sessions.spawn(async move {
            for n in 0..messages() / SESSIONS {
                let id = format!("m{session}-{n}");
                let raw = Draft { id: &id, text: "Zwetschgendatschi\r\n", ..Draft::default() }.raw();
                let answers = mailer.send(LENA.mail_from, &recipients, &LENA.sign(&raw)).await.unwrap();
                assert_eq!(answers.decisive().codes(), "250 2.0.0");
            }
        });
    }
    sessions.join_all().await;
}

/// The index of the search has them in lower case.
const WORDS: &[&str] =
    &["Zwetschgendatschi", "zwetschgendatschi", "Quittengelee", "quittengelee", "secret-message-id"];
const SESSIONS: i64 = 8;

/// 50 go in one transaction of a purge.
fn messages() -> i64 {
    // Its filing takes longer.
    if postgres::is_wanted() { 400 } else { 2000 }
}

async fn count(other: &mut Beside) -> i64 {
    other.count("SELECT COUNT(*) FROM messages").await
}

/// The one report of the purge.
async fn done(desk: &Desk) -> Option<Value> {
    let mut after = String::new();
    let mut found = Vec::new();
    loop {
        let page = desk.get(&format!("/events?limit=200{after}")).await;
        let items = page["items"].as_array().unwrap();
        found.extend(items.iter().filter(|event| event["type"] == "purge.done").cloned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&cursor={next}");
    }
    assert!(found.len() <= 1, "{found:?}");
    found.pop()
}

#[tokio::test]
async fn r62_a_disconnect_refuses_open_threads_and_erases_what_the_address_brought_in() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    desk.expect_filed(&app.send(&LENA, &desk.sync, &Draft::default().raw()).await).await;
    let minted =
        desk.post("/reply-addresses", json!({ "contact_id": desk.anna, "user_id": desk.user })).await;
    let reply = minted["address"].as_str().unwrap();
    let answer = Draft { id: "a", from: "anna.bergmann@web-post.test", to: reply, ..Draft::default() };
    desk.expect_filed(&app.send(&ANNA, reply, &answer.raw()).await).await;
    let output =
        run(&app, &["user", "disconnect", &desk.account, &desk.user, "--purge", "mine", "--json"]).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(desk.timeline(&desk.anna).await.len(), 1);
    for (n, rcpt) in [desk.sync.as_str(), desk.auto.as_str(), reply].into_iter().enumerate() {
        let id = format!("late{n}");
        let late = Draft { id: &id, ..answer }.raw();
        let mut refused = None;
        // Another process did it: the server sees it within a second.
        for _ in 0..100 {
            let answers = app.send(&ANNA, rcpt, &late).await;
            if answers.decisive().codes() == "550 5.2.1" {
                refused = Some(answers);
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(refused.is_some(), "{rcpt} is not refused");
    }
}

#[tokio::test]
async fn r60_r70a_the_commands_count_erase_and_take_back() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut ids = Vec::new();
    for id in ["one", "two", "three"] {
        let raw = Draft { id, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    let account = desk.account.as_str();
    let purge = ["purge", "--message", &ids[0], "--account", account, "--json"];
    let counted = run(&app, &[&purge[..], &["--dry-run"]].concat()).await;
    let counted: Value = serde_json::from_slice(&counted.stdout).unwrap();
    assert_eq!((&counted["messages"], &counted["done"]), (&json!(1), &json!(false)));
    assert_eq!(desk.timeline(&desk.anna).await.len(), 3);
    let purged = run(&app, &purge).await;
    let purged: Value = serde_json::from_slice(&purged.stdout).unwrap();
    assert_eq!((&purged["messages"], &purged["done"]), (&json!(1), &json!(true)));
    assert_eq!(desk.timeline(&desk.anna).await.len(), 2);
    let undone = run(&app, &["message", "undo", account, &ids[1], "--json"]).await;
    assert!(undone.status.success(), "{}", said(&undone));
    assert_eq!(desk.timeline(&desk.anna).await.len(), 1);
    assert_eq!(run(&app, &["message", "undo", account, &ids[1]]).await.status.code(), Some(1));
    assert_eq!(run(&app, &["purge", "--account", account]).await.status.code(), Some(2));
    let both = run(&app, &["purge", "--all", "--user", &desk.user, "--account", account]).await;
    assert_eq!(both.status.code(), Some(2));
    let all = run(&app, &["purge", "--all", "--account", account]).await;
    assert!(all.status.success(), "{}", said(&all));
    expect_erased(&app, &["anna.bergmann@web-post.test", "three@e2e.test"]).await;
    let trail = desk.get("/audit?actor=operator").await;
    let actions: Vec<_> =
        trail["items"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions, ["purge.done", "purge", "undo", "purge.done", "purge"]);
}

#[tokio::test]
async fn r64_the_audit_trail_names_a_row_that_was_changed_removed_or_cut_off() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    for n in 0..5 {
        desk.contact("A", &format!("a{n}@web-post.test")).await;
    }
    let account = desk.account.as_str();
    let verify = ["audit", "verify", "--account", account];
    let good = run(&app, &["audit", "verify"]).await;
    assert!(good.status.success(), "{}", said(&good));
    assert!(said(&good).contains(account), "{}", said(&good));
    let mut other = Beside::of(app.folder()).await;
    let id = sqlx::types::Uuid::parse_str(account).unwrap();
    let guards: &[&str] = match &other {
        Beside::Postgres(_) => {
            &["ALTER TABLE audit DISABLE TRIGGER USER", "ALTER TABLE audit_heads DISABLE TRIGGER USER"]
        }
        Beside::Sqlite(_) => &[
            "DROP TRIGGER audit_is_not_changed",
            "DROP TRIGGER audit_is_not_removed",
            "DROP TRIGGER audit_heads_are_kept",
            "DROP TRIGGER audit_heads_go_on",
        ],
    };
    for guard in guards {
        other.run(guard).await;
    }
    for (harm, mend, named) in [
        (
            "UPDATE audit SET actor = 'system' WHERE account_id = $1 AND seq = 3",
            Some(
                "UPDATE audit SET actor = (SELECT actor FROM audit WHERE account_id = $1 AND seq = 2) WHERE account_id = $1 AND seq = 3",
            ),
            "row 3 was changed",
        ),
        (
            "UPDATE audit SET at = at + 1 WHERE account_id = $1 AND seq = 4",
            Some("UPDATE audit SET at = at - 1 WHERE account_id = $1 AND seq = 4"),
            "row 4 was changed",
        ),
        (
            "UPDATE audit SET seq = CASE seq WHEN 4 THEN -5 ELSE -4 END WHERE account_id = $1 AND seq IN (4, 5)",
            None,
            "rows 4 to 5 are missing",
        ),
        ("UPDATE audit SET seq = -seq WHERE account_id = $1 AND seq < 0", None, "row 4 was changed or moved"),
        ("DELETE FROM audit WHERE account_id = $1 AND seq = 5", None, "row 5 is missing"),
        ("DELETE FROM audit WHERE account_id = $1 AND seq > 6", None, "missing at the end"),
        ("DELETE FROM audit WHERE account_id = $1", None, "are missing at the end"),
        ("DELETE FROM audit_heads WHERE account_id = $1", None, "the whole chain is missing"),
    ] {
        other.run_for(harm, id).await;
        let found = run(&app, &verify).await;
        assert_eq!(found.status.code(), Some(1), "{harm}: {}", said(&found));
        assert!(said(&found).contains(named), "{harm}: {}", said(&found));
        if let Some(mend) = mend {
            other.run_for(mend, id).await;
            let mended = run(&app, &verify).await;
            assert!(mended.status.success(), "{mend}: {}", said(&mended));
        }
    }
}

#[tokio::test]
async fn r64_what_was_answered_is_in_the_trail_after_kill_9() {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &Draft::default().raw()).await).await;
    let raw = format!("/messages/{}/raw", message["id"].as_str().unwrap());
    desk.bytes(&raw).await;
    app.kill_and_restart().await;
    let desk = desk.at(&app);
    let trail = desk.get("/audit").await;
    assert_eq!(
        (&trail["items"][0]["action"], &trail["items"][0]["object"]),
        (&json!("read"), &json!(raw.trim_start_matches('/')))
    );
}
