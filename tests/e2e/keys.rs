//! Master and account keys take the place of others beside the running server, and master keys from outside the file.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Desk;
use crate::app::{TestApp, program};
use crate::mail::{Draft, LENA};

/// A command beside the server, with these settings of the environment; its code, its lines, what it complains of.
async fn run(app: &TestApp, environment: &[&str], arguments: &[&str]) -> (i32, Vec<Value>, String) {
    let config = app.folder().join("syncmx.toml");
    let mut command = program(arguments);
    command.args(["--config", config.to_str().unwrap()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(environment.iter().map(|setting| setting.split_once('=').unwrap()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect();
    (output.status.code().unwrap(), lines, String::from_utf8(output.stderr).unwrap())
}

async fn send(app: &TestApp, desk: &Desk, id: &str) -> String {
    let raw = Draft { id, ..Draft::default() }.raw();
    let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
    message["id"].as_str().unwrap().to_owned()
}

async fn all_open(desk: &Desk, ids: &[String]) {
    for id in ids {
        desk.bytes(&format!("/messages/{id}/raw")).await;
    }
}

fn id_of(key: &str) -> String {
    let octets = u8::from_str_radix(key.get(..2).unwrap(), 16).unwrap();
    assert_eq!(key, format!("{octets:02x}").repeat(32));
    syncmx::keys::MasterKeyId::of(&syncmx::keys::Secret::from_bytes([octets; 32])).to_string()
}

#[tokio::test]
async fn keys_are_rotated_while_mail_comes_in_and_all_of_it_opens() {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let body = json!({ "url": "https://crm.test/hook", "events": ["*"] });
    desk.post("/webhooks", body).await;
    let mut ids = vec![send(&app, &desk, "before").await];
    let (_, listed, _) = run(&app, &[], &["keys", "list", "master", "--json"]).await;
    let old = listed[0]["id"].as_str().unwrap().to_owned();
    let expected = json!({ "id": old, "state": "wrapping", "from": "file", "accounts": 2, "older_keys": 0 });
    assert_eq!(listed, [expected]);
    assert_eq!(run(&app, &[], &["keys", "revoke", "master", &old]).await.0, 1, "it wraps");

    // Prepared, it opens everywhere before anything needs it.
    let (_, prepared, _) = run(&app, &[], &["keys", "rotate", "master", "--prepare", "--json"]).await;
    let new = prepared[0]["id"].as_str().unwrap().to_owned();
    let rotating = run(&app, &[], &["keys", "rotate", "master", "--json"]);
    let ((code, rotated, said), during) = tokio::join!(rotating, send(&app, &desk, "during-master"));
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(rotated, [json!({ "id": new, "state": "wrapping", "rewrapped": 2 })]);
    ids.push(during);
    let rotating = run(&app, &[], &["keys", "rotate", "account", "--all", "--json"]);
    let ((code, rotated, said), during) = tokio::join!(rotating, send(&app, &desk, "during-accounts"));
    assert_eq!((code, said.as_str(), rotated.len()), (0, "", 2));
    assert!(rotated.iter().all(|line| line["number"] == 2 && line["state"] == "rotated"), "{rotated:?}");
    ids.push(during);
    ids.push(send(&app, &desk, "after").await);
    all_open(&desk, &ids).await;
    let (_, retired, _) = run(&app, &[], &["keys", "list", "account", "--json"]).await;
    assert_eq!(retired.len(), 2);

    assert_eq!(run(&app, &[], &["keys", "revoke", "master", &old]).await.0, 0);
    assert_eq!(run(&app, &[], &["keys", "revoke", "master", &old]).await.0, 1, "there is none");
    let (_, listed, _) = run(&app, &[], &["keys", "list", "master", "--json"]).await;
    let expected = json!({ "id": new, "state": "wrapping", "from": "file", "accounts": 2, "older_keys": 2 });
    assert_eq!(listed, [expected]);
    ids.push(send(&app, &desk, "revoked").await);
    app.kill_and_restart().await;
    let desk = desk.at(&app);
    all_open(&desk, &ids).await;
    // An account that is made now has a key that opens after a restart, too.
    let made = app.api.post("/accounts", json!({ "name": "Praxis Zwei" })).await;
    let path = format!("/accounts/{}/users", made["id"].as_str().unwrap());
    app.api.post(&path, json!({ "name": "Eva Lindt", "emails": [], "role": "staff" })).await;
    let (_, listed, _) = run(&app, &[], &["keys", "list", "master", "--json"]).await;
    assert_eq!(listed[0]["accounts"], 3);
    assert!(!app.log().contains("keys.kept"), "{}", app.log());
}

#[tokio::test]
async fn a_wrong_use_of_keys_rotate_says_what_is_right() {
    let app = TestApp::start().await;
    for wrong in [
        &["keys", "rotate", "account"][..],
        &["keys", "rotate", "master", "--all"],
        &["keys", "rotate", "--prepare"],
        &["keys", "revoke", "account", "1"],
        &["keys", "revoke", "300"],
        &["keys", "revoke", "master", "1"],
    ] {
        let (code, _, said) = run(&app, &[], wrong).await;
        assert_eq!((code, said.lines().count()), (2, 1), "{wrong:?}: {said}");
    }
    let nobody = uuid::Uuid::now_v7().to_string();
    assert_eq!(run(&app, &[], &["keys", "rotate", "account", &nobody]).await.0, 1);
}

/// A command that prints what a file holds.
struct Command {
    folder: tempfile::TempDir,
}

impl Command {
    fn printing(lines: &str) -> Self {
        let command = Self { folder: tempfile::tempdir().unwrap() };
        command.prints(lines);
        command
    }

    fn prints(&self, lines: &str) {
        std::fs::write(self.path(), lines).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("printed")
    }

    fn setting(&self) -> String {
        format!("SYNCMX_KEYS__MASTER_COMMAND=[\"cat\", \"{}\"]", self.path().display())
    }
}

/// `serve` ends with 3 and one line with these words, and says nothing of any key.
async fn refuses(app: &TestApp, environment: &[&str], words: &[&str]) {
    let (code, _, said) = run(app, environment, &["serve"]).await;
    assert_eq!((code, said.lines().count()), (3, 1), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    for octet in ["1a", "2b", "3c"] {
        assert!(!said.contains(&octet.repeat(4)), "{said}");
    }
}

fn file_says(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("data/keys.toml")).unwrap()
}

#[tokio::test]
async fn a_command_holds_the_master_keys_and_another_takes_their_place() {
    let [first, second, other] = ["1a", "2b", "3c"].map(|octet| octet.repeat(32));
    let command = Command::printing(&format!("{first}\n"));
    let setting = command.setting();
    let environment = [setting.as_str()];
    let mut app = TestApp::start_with(&environment).await;
    assert!(!file_says(app.folder()).contains("master"), "the file holds none");
    let desk = Desk::open(&app).await;
    let mut ids = vec![send(&app, &desk, "first").await];
    // Behind the first it only opens; then it wraps.
    command.prints(&format!("{first}\n{} {second}\n", id_of(&second)));
    app.hang_up();
    app.wait_for_log("keys.taken_up").await;
    command.prints(&format!("{second}\n{first}\n"));
    let (code, rotated, said) = run(&app, &environment, &["keys", "rotate", "master", "--json"]).await;
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(rotated, [json!({ "id": id_of(&second), "state": "wrapping", "rewrapped": 2 })]);
    ids.push(send(&app, &desk, "second").await);
    let (code, _, said) = run(&app, &environment, &["keys", "rotate", "master", "--prepare"]).await;
    assert!(code == 1 && said.contains("does not hold the master key"), "{said}");
    let (code, _, said) = run(&app, &environment, &["keys", "revoke", "master", &id_of(&first)]).await;
    assert!(code == 1 && said.contains("take it out of what keys.master_command prints"), "{said}");
    command.prints(&second);
    app.kill_and_restart().await;
    let desk = desk.at(&app);
    all_open(&desk, &ids).await;
    app.kill();

    let needs = format!("sealed with master key {}", id_of(&second));
    command.prints(&other);
    refuses(&app, &environment, &[&needs, &format!("holds master key {}", id_of(&other))]).await;
    command.prints(&format!("{other}\n{first}\n"));
    let holds = format!("holds master keys {}, {}", id_of(&other), id_of(&first));
    refuses(&app, &environment, &[&needs, &holds]).await;
    command.prints(&format!("{} {second}", id_of(&first)));
    refuses(&app, &environment, &["keys.master_command: master key 1: it is", &id_of(&second)]).await;
    command.prints("1a1a1a1a");
    refuses(&app, &environment, &["master key 1: must be 32 octets"]).await;
    command.prints("");
    refuses(&app, &environment, &["it holds no master key"]).await;
    std::fs::remove_file(command.path()).unwrap();
    refuses(&app, &environment, &["cat failed", "exit status: 1"]).await;
    refuses(&app, &[], &["holds no master key, and neither"]).await;
    let nowhere = "SYNCMX_KEYS__MASTER_COMMAND=[\"/nowhere/at/all\"]";
    refuses(&app, &[nowhere], &["/nowhere/at/all cannot be started"]).await;
    command.prints(&second);
    app.start_again().await;
    all_open(&desk.at(&app), &ids).await;
}

#[tokio::test]
async fn a_move_from_the_file_to_a_variable_leaves_no_key_in_the_file() {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let ids = [send(&app, &desk, "in-the-file").await];
    app.kill();
    let key = "2b".repeat(32);
    let variable = format!("THE_MASTER_KEY={key}");
    let environment = ["SYNCMX_KEYS__MASTER_ENV=THE_MASTER_KEY", &variable];
    refuses(&app, &environment[..1], &["keys.master_env: the variable THE_MASTER_KEY is not set"]).await;
    let (_, listed, _) = run(&app, &environment, &["keys", "list", "master", "--json"]).await;
    let shown = |n: usize| (listed[n]["from"].as_str().unwrap(), listed[n]["accounts"].as_i64().unwrap());
    assert_eq!([shown(0), shown(1)], [("environment", 0), ("file", 2)]);
    let old = listed[1]["id"].as_str().unwrap().to_owned();
    assert_eq!(run(&app, &environment, &["keys", "revoke", "master", &old]).await.0, 1, "it is needed");
    assert_eq!(run(&app, &environment, &["keys", "rotate", "master"]).await.0, 0);
    assert_eq!(run(&app, &environment, &["keys", "revoke", "master", &old]).await.0, 0);
    assert!(!file_says(app.folder()).contains("master"));
    refuses(&app, &[], &["holds no master key"]).await;
    let (code, _, _) = run(&app, &environment, &["account", "list", "--json"]).await;
    assert_eq!(code, 0);
    app.start_again_with(&environment).await;
    let desk = desk.at(&app);
    all_open(&desk, &ids).await;
    let path = format!("/accounts/{}/messages/{}/raw", desk.account, ids[0]);
    assert!(app.api.call(Method::GET, &path, None).await.0.is_success());
    assert!(!app.data_contains(&key));
}

#[tokio::test]
async fn an_account_key_is_erased_by_the_server_when_its_grace_is_over() {
    let mut app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let ids = [send(&app, &desk, "mail").await];
    assert_eq!(run(&app, &[], &["keys", "rotate", "account", &desk.account]).await.0, 0);
    app.kill();
    crate::damage::database(&app, "UPDATE retired_account_keys SET retired_at = retired_at - 600001").await;
    app.start_again().await;
    let desk = desk.at(&app);
    let mut tries = tokio::time::interval(Duration::from_millis(50));
    for n in 0.. {
        tries.tick().await;
        if run(&app, &[], &["keys", "list", "account", "--json"]).await.1.is_empty() {
            break;
        }
        assert!(n < 600, "it stays");
    }
    all_open(&desk, &ids).await;
    send(&app, &desk, "later").await;
}
