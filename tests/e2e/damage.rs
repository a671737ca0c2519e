//! Bad stores: another's keys, no keys, a newer schema, a torn file, a flipped bit. What cannot be used is refused with
//! one clear line; what is damaged is named, and the rest goes on.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use syncmx::keys::Keys;
use syncmx::store::seal::Vault;

use crate::api::Desk;
use crate::app::{TestApp, program};
use crate::bucket_server::noise;
use crate::mail::{Draft, LENA};

async fn run(app: &TestApp, arguments: &[&str]) -> Output {
    let config = app.folder().join("syncmx.toml");
    let mut command = program(arguments);
    // Only what lies here is looked at: nobody answers on port 1.
    command.args(["--config", config.to_str().unwrap()]).env("SYNCMX_DNS__SERVERS", "[\"127.0.0.1:1\"]");
    command.env("SYNCMX_DNS__TIMEOUT", "100ms").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut tries = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..3000 {
        tries.tick().await;
        if child.try_wait().unwrap().is_some() {
            return child.wait_with_output().unwrap();
        }
    }
    child.kill().unwrap();
    panic!("{arguments:?} does not end: {:?}", child.wait_with_output().unwrap());
}

/// `serve` ends with 3 and one line with these words; `check` has a red line of the store, or the keys, with them.
async fn refuses(app: &TestApp, check: &str, words: &[&str]) {
    let output = run(app, &["serve"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(3), 1), "{said}");
    let (code, lines) = checked(app, &[]).await;
    assert_eq!(code, 1);
    let line = lines.iter().find(|line| line["check"] == check).unwrap();
    assert_eq!(line["state"], "red", "{line}");
    assert!(line["mend"].is_string(), "{line}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in {said}");
        assert!(line["said"].as_str().unwrap().contains(word), "no `{word}` in {line}");
    }
}

async fn checked(app: &TestApp, arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = run(app, &[&["check", "--json"], arguments].concat()).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), lines)
}

/// The subjects of the red lines about stored messages.
async fn damaged(app: &TestApp) -> Vec<String> {
    let (_, lines) = checked(app, &["--blobs"]).await;
    let (mut of_content, rest): (Vec<Value>, Vec<Value>) =
        lines.into_iter().partition(|line| line["check"] == "content");
    let sum = of_content.pop().unwrap();
    let named =
        of_content.iter().map(|line| line["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(sum["state"], if named.is_empty() { "ok" } else { "red" }, "{sum}");
    assert!(sum["said"].as_str().unwrap().ends_with(&format!(", {} damaged", named.len())), "{sum}");
    assert!(!rest.iter().any(|line| line["check"] == "database"), "{rest:#?}");
    named
}

pub(crate) async fn database(app: &TestApp, statement: &str) {
    let path = app.folder().join("data/syncmx.db");
    let mut database = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut database).await.unwrap();
}

fn flip(path: &Path) {
    let mut octets = std::fs::read(path).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(path, octets).unwrap();
}

fn blobs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { found.extend(blobs(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn a_wrong_master_key_refuses_and_says_which_one_is_needed() {
    let mut app = TestApp::start_with_sqlite().await;
    app.kill();
    let path = app.folder().join("data/keys.toml");
    let id = || Vault::new(Keys::load_or_create(&path).unwrap().master).master_id().to_string();
    let (right, needed) = (std::fs::read_to_string(&path).unwrap(), id());
    let line = right.lines().find(|line| line.starts_with("master")).unwrap();
    std::fs::write(&path, right.replace(line, &format!("master = \"{}\"", "5e".repeat(32)))).unwrap();
    let has = id();
    assert_ne!(needed, has);
    let (needs, holds) = (format!("master key {needed}"), format!("holds master key {has}"));
    refuses(&app, "store", &[&needs, &holds]).await;
    // Neither says more of a key than its id.
    assert!(!format!("{needs}{holds}").contains("5e5e5e5e"));

    std::fs::remove_file(&path).unwrap();
    refuses(&app, "keys", &["missing"]).await;
    assert!(!path.exists(), "no key file is made that does not fit");
    std::fs::write(&path, right).unwrap();
    refuses(&app, "keys", &["readable by others"]).await;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    app.start_again().await;
}

#[tokio::test]
async fn a_store_of_a_newer_version_refuses_and_says_so() {
    let mut app = TestApp::start_with_sqlite().await;
    app.kill();
    database(&app, "INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2026-11-22', 1, x'00', 0)").await;
    refuses(&app, "store", &["schema version 9999", "newer than this program"]).await;
}

#[tokio::test]
async fn a_torn_database_refuses_and_what_is_lost_is_named() {
    let mut app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let ids = file_large_rows(&app, &desk).await;
    assert_eq!(app.terminate().await.code(), Some(0));
    // All of it into the one file.
    database(&app, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let path = app.folder().join("data/syncmx.db");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length * 3 / 4).unwrap();
    let torn = std::fs::read(&path).unwrap();
    refuses(&app, "store", &["is not a database, or is damaged"]).await;
    let named = damaged_messages(&app, &ids).await;
    assert!((1..ids.len()).contains(&named.len()), "{named:?} of {ids:?}");
    assert!(std::fs::read(&path).unwrap() == torn, "what is left is not touched");
    for left in [20_000, 100] {
        file.set_len(left).unwrap();
        refuses(&app, "store", &["is not a database, or is damaged"]).await;
        let (code, lines) = checked(&app, &["--blobs"]).await;
        assert_eq!(code, 1);
        assert!(lines.iter().any(|line| line["check"] == "content" && line["state"] == "red"), "{lines:#?}");
    }
    let keys = app.folder().join("data/keys.toml");
    std::fs::remove_file(&keys).unwrap();
    assert_eq!(checked(&app, &["--blobs"]).await.0, 1);
    refuses(&app, "keys", &["missing"]).await;
    assert!(!keys.exists(), "fresh keys would not fit what is left");
}

/// Whose rows go over several pages each.
async fn file_large_rows(app: &TestApp, desk: &Desk) -> Vec<String> {
    let text = noise(40 << 10);
    let mut ids = Vec::new();
    for number in 0..8 {
        let raw = Draft { id: &number.to_string(), text: &text, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    ids
}

/// Which of them `check --blobs` names.
async fn damaged_messages(app: &TestApp, ids: &[String]) -> Vec<String> {
    let (code, lines) = checked(app, &["--blobs"]).await;
    assert_eq!(code, 1);
    assert!(lines.iter().any(|line| line["check"] == "database" && line["state"] == "red"), "{lines:#?}");
    let is_named = |id: &&String| {
        lines.iter().any(|line| line["check"] == "content" && line["subject"] == format!("message {id}"))
    };
    ids.iter().filter(is_named).cloned().collect()
}

#[tokio::test]
async fn a_flipped_bit_costs_one_message_which_is_named() {
    let app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let large = noise(200 << 10);
    let mut ids = Vec::new();
    for (id, text) in [("in-a-blob", large.as_str()), ("sound", "short\r\n"), ("in-a-row", "small\r\n")] {
        let raw = Draft { id, text, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    // R24: it names nobody.
    let held = String::from_utf8(Draft { id: "held", ..Draft::default() }.raw()).unwrap();
    let to = "To: Anna Bergmann <anna.bergmann@web-post.test>\r\n";
    let held = app.send(&LENA, &desk.sync, held.replace(to, "").as_bytes()).await;
    let held = desk.delivery(&held).await;
    assert_eq!(held["outcome"], "held", "{held}");
    assert_eq!(damaged(&app).await, [""; 0]);

    flip(&blobs(&app.folder().join("data/blobs")).pop().unwrap());
    let flipped = format!(
        "UPDATE messages SET raw = CAST(substr(raw, 1, 40) || x'00ff' || substr(raw, 43) AS BLOB) \
         WHERE message_id = x'{}'",
        ids[2].replace('-', "")
    );
    database(&app, &flipped).await;
    database(&app, "UPDATE held SET content_key = zeroblob(length(content_key))").await;
    for (id, is_sound) in ids.iter().zip([false, true, false]) {
        for what in ["raw", "html"] {
            let path = format!("/accounts/{}/messages/{id}/{what}", desk.account);
            let (status, problem) = app.api.call(Method::GET, &path, None).await;
            if is_sound {
                assert!(status.is_success() || what == "html" && status == 404, "{path}: {status}");
            } else if what == "raw" {
                assert_eq!(status, 500, "{path}");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains("damaged") && detail.contains("check --blobs"), "{detail}");
            }
        }
    }
    // The rest goes on: what is in rows is shown, and mail is filed.
    assert_eq!(desk.timeline(&desk.anna).await.len(), 3);
    let next = Draft { id: "next", ..Draft::default() }.raw();
    desk.expect_filed(&app.send(&LENA, &desk.sync, &next).await).await;

    let held = format!("held message {}", held["id"].as_str().unwrap());
    let expected = [format!("message {}", ids[0]), format!("message {}", ids[2]), held];
    assert_eq!(damaged(&app).await, expected);
    std::fs::remove_file(blobs(&app.folder().join("data/blobs")).pop().unwrap()).unwrap();
    assert_eq!(damaged(&app).await, expected, "a blob that is gone is damage too");
}

#[tokio::test]
async fn a_page_that_was_overwritten_is_found_and_named() {
    let mut app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    // Not small once compressed: its row goes over several pages.
    let text = noise(40 << 10);
    let mut ids = Vec::new();
    for id in ["one", "two"] {
        let raw = Draft { id, text: &text, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(app.terminate().await.code(), Some(0));
    database(&app, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let path = app.folder().join("data/syncmx.db");
    // One of these does not lie across a page's end.
    overwrite_page_of(&path, &ids[0], [20_000, 22_000]).await;

    app.start_again().await;
    let desk = desk.at(&app);
    let (status, _) =
        app.api.call(Method::GET, &format!("/accounts/{}/messages/{}/raw", desk.account, ids[0]), None).await;
    assert_eq!(status, 500);
    desk.bytes(&format!("/messages/{}/raw", ids[1])).await;
    let (code, lines) = checked(&app, &["--blobs"]).await;
    assert_eq!(code, 1);
    let red = |check: &str| lines.iter().any(|line| line["check"] == check && line["state"] == "red");
    assert!(red("content") && red("database"), "{lines:#?}");
    let named = format!("message {}", ids[0]);
    assert!(lines.iter().any(|line| line["subject"] == named.as_str()), "{lines:#?}");
}

/// Rows that lie side by side are lost together; those behind them are neither lost nor left out.
#[tokio::test]
async fn a_page_of_small_rows_costs_these_alone() {
    let mut app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let text = noise(700);
    let mut ids = Vec::new();
    for number in 0..12 {
        let raw = Draft { id: &number.to_string(), text: &text, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(app.terminate().await.code(), Some(0));
    database(&app, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    overwrite_page_of(&app.folder().join("data/syncmx.db"), &ids[5], [0, 100]).await;

    app.start_again().await;
    let desk = desk.at(&app);
    let mut lost = Vec::new();
    for id in &ids {
        let path = format!("/accounts/{}/messages/{id}/raw", desk.account);
        let (status, octets) = app.api.some_bytes(&path).await;
        if status == 500 {
            lost.push(id.clone());
        } else {
            assert!(octets.ends_with(text.as_bytes()), "{id}: {status}");
        }
    }
    assert!(
        lost.contains(&ids[5]) && !lost.contains(&ids[0]) && !lost.contains(&ids[11]),
        "{lost:?} of {ids:?}"
    );
    assert_eq!(damaged_messages(&app, &ids).await, lost);
}

/// The page that holds the octets of a message's `raw` at one of two places.
async fn overwrite_page_of(path: &Path, id: &str, places: [usize; 2]) {
    let mut database = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let raw: Vec<u8> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT raw FROM messages WHERE message_id = x'{}'",
        id.replace('-', "")
    )))
    .fetch_one(&mut database)
    .await
    .unwrap();
    let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut database).await.unwrap();
    drop(database);
    let size = usize::try_from(size).unwrap();
    let mut octets = std::fs::read(path).unwrap();
    let mut found = places.into_iter().map(|at| memchr::memmem::find(&octets, &raw[at..at + 32]));
    let place = found.find_map(|place| place).unwrap();
    let page = place - place % size;
    octets[page..page + size].fill(0xff);
    std::fs::write(path, octets).unwrap();
}

/// What lay in the part that is gone is an error or put off; nothing else is harmed, and the server goes on.
#[tokio::test]
async fn a_database_that_is_torn_under_a_running_server_is_said_and_named() {
    let app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let ids = file_large_rows(&app, &desk).await;
    empty_log(&app).await;
    let file = std::fs::File::options().write(true).open(app.folder().join("data/syncmx.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() * 3 / 4).unwrap();
    let mut lost = Vec::new();
    for id in &ids {
        let path = format!("/accounts/{}/messages/{id}/raw", desk.account);
        let (status, problem) = app.api.call(Method::GET, &path, None).await;
        if !status.is_success() {
            assert_eq!(status, 500, "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains("damaged"), "{problem}");
            lost.push(id.clone());
        }
    }
    assert!((1..ids.len()).contains(&lost.len()), "{lost:?} of {ids:?}");
    let next = Draft { id: "next", ..Draft::default() }.raw();
    let answer = app.send(&LENA, &desk.sync, &next).await;
    let answer = answer.decisive();
    assert!(answer.code == 250 || answer.code == 451, "its trouble is ours: {} {}", answer.code, answer.text);
    assert_eq!(damaged_messages(&app, &ids).await, lost);
}

/// All of it into the one file, as soon as nobody reads or writes.
async fn empty_log(app: &TestApp) {
    let path = app.folder().join("data/syncmx.db");
    let mut database = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    for _ in 0..1000 {
        let emptied = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut database).await;
        let (is_busy, ..): (i64, i64, i64) = emptied.unwrap();
        if is_busy == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the log is never emptied");
}

#[tokio::test]
async fn r60_a_purge_that_cannot_go_on_holds_up_no_other() {
    let mut app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let bea = desk.contact("Bea", "bea@web-post.test").await;
    let raw = Draft { id: "late", to: "Bea <bea@web-post.test>", ..Draft::default() }.raw();
    let (_, late) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
    assert_eq!(app.terminate().await.code(), Some(0));
    // Both were under way: what the older one knows can no longer be read; the other was all but over when a mail came.
    let is_bea = format!("contact_id = x'{}'", bea.replace('-', ""));
    let under_way = format!(
        "INSERT INTO purges (account_id, purge_id, kind, subject_id, passed, actor, messages, attachments, bytes, blobs,
         held, deliveries, begun_at, stage, texts)
         SELECT account_id, randomblob(16), 'contact', contact_id, zeroblob(16), 'operator', 0, 0, 0, 0, 0, 0,
         CASE WHEN {is_bea} THEN 2 ELSE 1 END, CASE WHEN {is_bea} THEN 4 ELSE 1 END, CASE WHEN {is_bea} THEN NULL ELSE 'torn' END FROM contacts",
    );
    database(&app, &under_way).await;
    app.start_again().await;
    let desk = desk.at(&app);
    let mut tries = tokio::time::interval(Duration::from_millis(50));
    for tried in 0.. {
        assert!(tried < 1_200, "the other purge does not end: {}", app.log());
        tries.tick().await;
        let contacts = desk.get("/contacts").await;
        let ids: Vec<_> =
            contacts["items"].as_array().unwrap().iter().map(|contact| &contact["id"]).collect();
        assert!(ids.contains(&&Value::from(desk.anna.as_str())));
        if !ids.contains(&&Value::from(bea.as_str())) {
            break;
        }
    }
    assert!(app.log().contains("purge.failed"), "{}", app.log());
    let path = format!("/accounts/{}/messages/{}", desk.account, late["id"].as_str().unwrap());
    assert_eq!(app.api.call(Method::GET, &path, None).await.0, 404);
}
