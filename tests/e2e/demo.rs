//! `syncmx demo`, and its mails one by one with all that is expected of them.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use syncmx::cli::demo::admin::AdminApi;
use syncmx::cli::demo::{fixture, run, table};

use crate::app::{TOKEN, TestApp, first_line, program};

#[tokio::test]
async fn every_demo_mail_fares_as_its_index_says_and_its_trace_explains_it() {
    let app = TestApp::start().await;
    let api = AdminApi::new(&app.api.base, TOKEN).unwrap();
    let (_, played) = run::play(&api, app.smtp).await.unwrap();
    let shown = table::table(&played);
    assert!(played.iter().all(run::Played::is_as_expected), "\n{shown}");
    for mail in played.iter().filter_map(|mail| mail.delivery.as_ref()) {
        let steps = mail["steps"].as_array().unwrap();
        assert!(!steps.is_empty(), "{mail:#}");
        assert!(steps.iter().all(|step| !step["said"].as_str().unwrap().is_empty()), "{mail:#}");
    }
}

#[tokio::test]
async fn the_demo_command_prints_its_table_and_stays_up() {
    let mut child = program(&["demo"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let stdout = child.stdout.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let last = first_line(stdout, |line| line.contains(" mails: ").then(|| line.to_owned())).await;
    let is_up = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    let log = log.join().unwrap();
    let last = last.unwrap_or_else(|| panic!("no table within {:?}:\n{log}", Duration::from_secs(60)));
    let count = fixture::index().unwrap().len();
    assert!(
        last.starts_with(&format!("{count} mails: ")) && last.ends_with("each as expected."),
        "{last}\n{log}"
    );
    assert!(is_up, "{log}");
}
