//! The commands beside `serve`, on the data of a running server.

use std::path::{Path, PathBuf};

use serde_json::Value;
use syncmx::cli::demo::practice;
use syncmx::zone::Zone;

use crate::api::Desk;
use crate::app::{TestApp, program};
use crate::mail::{Draft, FORGER, LENA, Sender};

/// The JSON lines that a command prints, and its exit code.
async fn json_lines(arguments: &[&str]) -> (i32, Vec<Value>) {
    let mut command = program(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let values =
        lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}: {said}")));
    (output.status.code().unwrap(), values.collect())
}

fn written(folder: &Path, raw: &[u8]) -> PathBuf {
    let path = folder.join("mail.eml");
    std::fs::write(&path, raw).unwrap();
    path
}

fn config(app: &TestApp) -> String {
    app.folder().join("syncmx.toml").to_str().unwrap().to_owned()
}

fn words(value: &Value) -> (&str, &str) {
    (value["outcome"].as_str().unwrap(), value["reason"].as_str().unwrap())
}

fn said(value: &Value) -> Vec<(&str, &str)> {
    let steps = value["steps"].as_array().unwrap();
    steps.iter().map(|step| (step["rule"].as_str().unwrap(), step["said"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn explain_says_what_serve_then_does_and_stores_nothing() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    for (sender, outcome) in [(&LENA, ("filed", "filed")), (&FORGER, ("rejected", "dmarc_reject"))] {
        // Unsigned: SPF alone proves it, and both ways see the same octets.
        let sender = Sender { dkim: None, ..*sender };
        let raw = Draft { id: sender.helo, ..Draft::default() }.raw();
        let file = written(app.folder(), &raw);
        let client = sender.client.to_string();
        let (code, lines) = json_lines(&[
            "explain",
            file.to_str().unwrap(),
            "--rcpt",
            &desk.sync,
            "--mail-from",
            sender.mail_from,
            "--client-ip",
            &client,
            "--helo",
            sender.helo,
            "--json",
            "--config",
            &config(&app),
        ])
        .await;
        assert_eq!((code, words(&lines[0])), (0, outcome));
        assert_eq!(
            desk.get("/deliveries").await["items"].as_array().unwrap().len(),
            usize::from(outcome.0 == "rejected")
        );
        let answers = app.send(&sender, &desk.sync, &raw).await;
        let delivery = desk.delivery(&answers).await;
        assert_eq!(words(&delivery), outcome);
        assert_eq!(said(&delivery), said(&lines[0]));
    }
}

/// Whatever becomes of a mail, `explain` foretells it: outcome, reason and each step.
#[tokio::test]
async fn explain_and_serve_decide_alike_on_every_fixture() {
    let zone = format!("{}\nno-mail.test. MX 0 .\n", practice::ZONE);
    let app = TestApp::start_with_zone(Zone::parse(&zone).unwrap()).await;
    let desk = Desk::open(&app).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mail");
    let mut fixtures: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let anna = "anna.bergmann@web-post.test";
    fixtures.extend(
        [
            Draft { id: "a", ..Draft::default() },
            Draft { id: "b", subject: "[private] x", ..Draft::default() },
            Draft { id: "c", to: "tom@praxis-morgenrot.test", ..Draft::default() },
            Draft { id: "d", to: "new@web-post.test", ..Draft::default() },
            Draft { id: "e", from: anna, fields: "In-Reply-To: <a@e2e.test>\r\n", ..Draft::default() },
            Draft { id: "a", ..Draft::default() },
            // Over a limit.
            Draft { id: "f", fields: &"DKIM-Signature: v=1\r\n".repeat(11), ..Draft::default() },
        ]
        .iter()
        .map(Draft::raw),
    );
    let lena = Sender { dkim: None, ..LENA };
    let client = lena.client.to_string();
    // Its domain takes no mail.
    let nobody = Sender { mail_from: "news@no-mail.test", ..lena };
    let by_nobody = (&nobody, Draft { id: "g", ..Draft::default() }.raw());
    for (sender, raw) in fixtures.iter().map(|raw| (&lena, raw)).chain([(by_nobody.0, &by_nobody.1)]) {
        for rcpt in [&desk.sync, &desk.auto] {
            let file = written(app.folder(), raw);
            let config = config(&app);
            let origin = ["--mail-from", sender.mail_from, "--client-ip", &client, "--helo", sender.helo];
            let mut arguments = vec!["explain", file.to_str().unwrap(), "--rcpt", rcpt];
            arguments.extend(origin);
            arguments.extend(["--json", "--config", &config]);
            let (_, lines) = json_lines(&arguments).await;
            let delivery = desk.delivery(&app.send(sender, rcpt, raw).await).await;
            assert_eq!(words(&delivery), words(&lines[0]), "{}", String::from_utf8_lossy(raw));
            if delivery["outcome"] != "discarded" {
                assert_eq!(said(&delivery), said(&lines[0]), "{}", String::from_utf8_lossy(raw));
            }
        }
    }
    assert!(fixtures.len() > 10);
}

#[tokio::test]
async fn r3_trace_finds_what_was_refused_by_the_id_in_the_reply() {
    let app = TestApp::start().await;
    for (rcpt, reason) in
        [("nobody@sync.example.test", "unknown_address"), ("a@elsewhere.test", "relay_denied")]
    {
        let answers = app.send(&LENA, rcpt, &Draft::default().raw()).await;
        let id = answers.decisive().trace().unwrap();
        let (code, lines) = json_lines(&["trace", id, "--json", "--config", &config(&app)]).await;
        assert_eq!((code, words(&lines[0])), (0, ("rejected", reason)));
        assert_eq!(lines[0]["smtp"], answers.decisive().text.as_str());
        assert!(!said(&lines[0]).is_empty());
    }
    let nothing = "0190f000-0000-7000-8000-000000000000";
    let (code, lines) = json_lines(&["trace", nothing, "--json", "--config", &config(&app)]).await;
    assert_eq!((code, lines.len()), (1, 0));
}

#[tokio::test]
async fn inspect_authenticates_from_a_zone_file_and_needs_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), &LENA.sign(&Draft::default().raw()));
    let zone = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo/practice.zone");
    let missing = folder.path().join("missing.eml");
    let (code, lines) = json_lines(&[
        "inspect",
        file.to_str().unwrap(),
        missing.to_str().unwrap(),
        "--json",
        "--zone",
        zone,
        "--client-ip",
        "127.0.0.20",
        "--helo",
        LENA.helo,
        "--mail-from",
        LENA.mail_from,
    ])
    .await;
    assert_eq!((code, lines.len()), (1, 2));
    assert_eq!(lines[0]["auth"]["spf"], "pass");
    assert_eq!(lines[0]["auth"]["dkim"][0]["result"], "pass");
    assert_eq!(lines[0]["auth"]["dmarc"]["policy"], "reject");
    assert_eq!(lines[0]["message"]["subject"], "Your appointment");
    assert!(lines[1]["error"].is_string());
    let (code, lines) = json_lines(&["inspect", file.to_str().unwrap(), "--json", "--offline"]).await;
    assert_eq!(code, 0);
    assert!(lines[0]["auth"].is_null());
}

#[tokio::test]
async fn contact_import_reads_a_quoted_field_over_two_lines_and_names_the_lines_of_the_file() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut csv = "name,email\n".to_owned();
    for n in 2..=500 {
        csv.push_str(&format!("Patient {n},patient-{n}@web-post.test\n"));
    }
    csv.push_str("\"Jonas\n\",jonas@web-post.test\nNobody,nonsense\nKim,kim@web-post.test\n");
    let file = app.folder().join("patients.csv");
    std::fs::write(&file, csv).unwrap();
    let arguments =
        ["contact", "import", &desk.account, file.to_str().unwrap(), "--json", "--config", &config(&app)];
    let (code, lines) = json_lines(&arguments).await;
    assert_eq!((code, &lines[0]["created"], &lines[0]["updated"]), (1, &501.into(), &0.into()), "{lines:?}");
    assert_eq!(lines[0]["failed"].as_array().unwrap().len(), 1, "{lines:?}");
    assert_eq!(lines[0]["failed"][0]["line"], 503);
}

#[tokio::test]
async fn a_token_for_every_account_is_made_only_where_that_is_said() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let config = config(&app);
    for (arguments, code) in [
        (&["--scope", "contacts"][..], 2),
        (&["--scope", "contacts", "--all-accounts", "--account", &desk.account], 2),
        (&["--scope", "contacts", "--all-accounts"], 0),
        (&["--scope", "contacts", "--account", &desk.account], 0),
        (&["--scope", "admin"], 0),
    ] {
        let all = [&["token", "create", "x", "--json", "--config", &config], arguments].concat();
        assert_eq!(json_lines(&all).await.0, code, "{arguments:?}");
    }
}

#[tokio::test]
async fn r60_purge_says_how_much_it_has_erased() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    desk.expect_filed(&app.send(&LENA, &desk.sync, &Draft::default().raw()).await).await;
    let config = config(&app);
    let arguments =
        ["purge", "--contact", &desk.anna, "--account", &desk.account, "--json", "--config", &config];
    let (code, lines) = json_lines(&arguments).await;
    let said = (&lines[0]["messages"], &lines[0]["deliveries"], &lines[0]["done"]);
    assert_eq!((code, said), (0, (&1.into(), &1.into(), &true.into())), "{lines:?}");
}
