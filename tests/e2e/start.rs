//! How the program starts, and how it says that it cannot.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Output;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use syncmx::config::Config;

use crate::app::{TestApp, postgres, program, write_config};

/// Ended with `code`, and said so in one line (log lines of level info apart) that holds `words`.
#[track_caller]
fn assert_one_line(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let lines: Vec<&str> =
        said.lines().filter(|line| !line.trim().is_empty() && !line.contains(" INFO ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    for word in words {
        assert!(lines[0].contains(word), "no `{word}` in: {said}");
    }
}

async fn serve(folder: &Path) -> Output {
    ended(folder, &["serve"]).await
}

async fn ended(folder: &Path, arguments: &[&str]) -> Output {
    let config = folder.join("syncmx.toml");
    let mut command = program(&[arguments, &["--config", config.to_str().unwrap()]].concat());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn config_with(folder: &Path, from: &str, to: &str) {
    let path = write_config(folder, SocketAddr::from(([127, 0, 0, 1], 53)));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in the test's configuration");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn a_bad_configuration_ends_with_2_and_one_line_naming_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    config_with(folder.path(), "timeout = \"2s\"", "timeout = \"soon\"");
    assert_one_line(&serve(folder.path()).await, 2, &["syncmx.toml:8", "dns.timeout", "soon"]);
    config_with(folder.path(), "hostname", "hostnam");
    assert_one_line(&serve(folder.path()).await, 2, &["syncmx.toml:3", "smtp.hostnam"]);
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    let output = program(&["serve", "--no-such-flag"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = program(&["no-such-command"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn a_taken_port_ends_with_3_and_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for section in ["listen = [\"127.0.0.1:0\"]", "listen = \"127.0.0.1:0\""] {
        let folder = tempfile::tempdir().unwrap();
        config_with(folder.path(), section, &section.replace("127.0.0.1:0", &address));
        assert_one_line(&serve(folder.path()).await, 3, &[&address]);
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_made_ends_with_3_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), SocketAddr::from(([127, 0, 0, 1], 53)));
    // A file where the folder should be: holds for root too, whom permissions do not stop.
    std::fs::write(folder.path().join("data"), "in the way").unwrap();
    assert_one_line(&serve(folder.path()).await, 3, &["data"]);
}

#[tokio::test]
async fn a_database_locked_by_another_process_ends_with_3_and_one_line() {
    let mut app = TestApp::start_with_sqlite().await;
    app.kill();
    let path = app.folder().join("data/syncmx.db");
    let mut other = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    // In WAL mode this keeps readers out too (SQLite, "PRAGMA locking_mode").
    for statement in ["PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "CREATE TABLE in_the_way (n INT)"]
    {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    assert_one_line(&serve(app.folder()).await, 3, &["lock"]);
}

#[tokio::test]
async fn serve_leaves_an_empty_postgres_to_migrate_and_starts_when_that_is_done() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database().await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}/data/syncmx.db", folder.path().display());
    config_with(folder.path(), &sqlite, &url);
    assert_one_line(&serve(folder.path()).await, 3, &[postgres::name_in(&url), "run `syncmx migrate`"]);
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let mut beside = postgres::connect(&url).await;
    let made: i64 = sqlx::query_scalar(tables).fetch_one(&mut beside).await.unwrap();
    assert_eq!(made, 0, "it has changed the database");

    // As nodes do that are brought up to date together; then once more, with nothing to do.
    let migrate = || ended(folder.path(), &["migrate", "--json"]);
    let (one, other) = tokio::join!(migrate(), migrate());
    for output in [&one, &other, &migrate().await] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(output.stdout, one.stdout, "{said}");
    }
    assert!(String::from_utf8_lossy(&one.stdout).starts_with("{\"schema_version\":"), "{one:?}");

    // It has answered /readyz with 200, without `--migrate`.
    let mut app = TestApp::start_on_migrated(url).await;
    assert_eq!(app.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_0() {
    let mut app = TestApp::start().await;
    let status = app.terminate().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn the_example_configuration_of_deploy_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/syncmx.toml");
    Config::load(Some(&path), []).unwrap();
}
