//! The SMTP front in the running program: null MX, a full disk, another configuration, sockets that outlive it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection;
use syncmx::cli::demo::mailer::{Mailer, Security, SmtpReply};
use syncmx::cli::demo::practice;
use syncmx::zone::Zone;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::api::{Desk, assert_refused, assert_rule_spoke};
use crate::app::TestApp;
use crate::mail::{Draft, LENA, Sender};

#[tokio::test]
async fn c23_a_sender_whose_domain_has_a_null_mx_is_refused_5_7_27() {
    let zone = format!("{}\nno-mail.test. MX 0 .\n", practice::ZONE);
    let app = TestApp::start_with_zone(Zone::parse(&zone).unwrap()).await;
    let desk = Desk::open(&app).await;
    let sender = Sender { mail_from: "news@no-mail.test", ..LENA };
    let answers = app.send(&sender, &desk.sync, &Draft::default().raw()).await;
    assert_refused(answers.decisive(), "550 5.7.27");
    let delivery = desk.expect(&answers, "550 5.7.27", "rejected", "sender_not_allowed").await;
    assert_rule_spoke(&delivery, "RFC7505");
    // A bounce has no domain, and one with an ordinary MX or none at all is no null MX.
    for mail_from in ["", LENA.mail_from, "x@dsl-66.irgendwo.test"] {
        let raw = Draft { id: mail_from, ..Draft::default() }.raw();
        let answers = app.send(&Sender { mail_from, ..LENA }, &desk.sync, &raw).await;
        assert_eq!(answers.decisive().code, 250, "{mail_from}: {}", answers.decisive().text);
    }
}

#[tokio::test]
async fn c23_a_null_mx_look_up_that_fails_for_now_leaves_it_to_the_rules() {
    let mut zone = Zone::parse(practice::ZONE).unwrap();
    zone.servfail("away.test").unwrap();
    let app = TestApp::start_with_zone(zone).await;
    let desk = Desk::open(&app).await;
    // DKIM is aligned, so nothing hangs on the domain that cannot be asked.
    let sender = Sender { mail_from: "bounces@away.test", ..LENA };
    let answers = app.send(&sender, &desk.sync, &Draft::default().raw()).await;
    desk.expect_filed(&answers).await;
}

#[tokio::test]
async fn r3_one_recipient_too_many_is_put_off_with_a_trace_and_the_others_get_the_mail() {
    let app = TestApp::start_with(&["SYNCMX_SMTP__MAX_RECIPIENTS=1"]).await;
    let desk = Desk::open(&app).await;
    let answers = app.send_to_all(&LENA, &[&desk.sync, &desk.auto], &Draft::default().raw()).await;
    assert_refused(&answers.recipients[1], "452 4.5.3");
    let delivery = desk.get(&format!("/deliveries/{}", answers.recipients[1].trace().unwrap())).await;
    assert_eq!(
        (&delivery["outcome"], &delivery["reason"]),
        (&json!("deferred"), &json!("too_many_recipients"))
    );
    assert_rule_spoke(&delivery, "SMTP");
    assert!(delivery["smtp"].as_str().unwrap().starts_with("452 4.5.3 "), "{delivery}");
    desk.expect_filed(&answers).await;
    // Who is not ours is in nobody's traces, and the reply says nothing about it.
    let answers =
        app.send_to_all(&LENA, &[&desk.sync, "nobody@sync.example.test"], &Draft::default().raw()).await;
    assert_eq!((answers.recipients[1].codes().as_str(), answers.recipients[1].trace()), ("452 4.5.3", None));
}

#[tokio::test]
async fn r3_who_had_been_accepted_when_a_harvester_is_closed_finds_a_trace_of_it() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut mailer = app.connect(&LENA).await;
    mailer.command(&format!("MAIL FROM:<{}>", LENA.mail_from)).await.unwrap();
    mailer.command(&format!("RCPT TO:<{}>", desk.sync)).await.unwrap();
    let last = loop {
        let answer = mailer.command("RCPT TO:<nobody@sync.example.test>").await.unwrap();
        if answer.code != 550 {
            break answer;
        }
    };
    assert_refused(&last, "421 4.7.0");
    let delivery = desk.get(&format!("/deliveries/{}", last.trace().unwrap())).await;
    assert_eq!((&delivery["outcome"], &delivery["reason"]), (&json!("deferred"), &json!("session_limit")));
    assert_eq!(delivery["rcpt"].as_str().unwrap(), desk.sync);
}

#[tokio::test]
async fn r3_s15_who_tries_to_relay_over_the_budget_leaves_no_more_traces_in_any_session() {
    let app = TestApp::start().await;
    let connect = async || {
        let mut mailer = Mailer::connect(app.smtp, LENA.client, LENA.helo, &Security::Plain).await.unwrap();
        mailer.command("MAIL FROM:<>").await.unwrap();
        mailer
    };
    // All of them are let in before the budget is spent; each session has twenty.
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(connect().await);
    }
    let (mut traces, began) = (0, Instant::now());
    for mailer in &mut sessions {
        for _ in 0..20 {
            let answer = mailer.command("RCPT TO:<u@elsewhere.test>").await.unwrap();
            if answer.code == 421 {
                assert_eq!(answer.trace(), None, "{}", answer.text);
                break;
            }
            assert_refused(&answer, "550 5.7.1");
            traces += 1;
        }
    }
    // A hundred an hour; a machine may take its time.
    let regained = began.elapsed().as_secs() / 36 + 1;
    assert!((100..=100 + regained).contains(&traces), "{traces}");
}

#[tokio::test]
async fn r3_a_message_that_the_blob_folder_cannot_take_is_put_off_with_a_trace() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let blobs = app.folder().join("data/blobs");
    std::fs::remove_dir_all(&blobs).unwrap();
    std::fs::write(&blobs, "no folder").unwrap();
    // Large, and not to be compressed into a row.
    let mut state = 1_u64;
    let mut text = String::new();
    for _ in 0..40_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:08x}\r\n", state >> 32));
    }
    let raw = Draft { text: &text, ..Draft::default() }.raw();
    let answers = app.send(&LENA, &desk.sync, &raw).await;
    assert_refused(answers.decisive(), "451 4.3.0");
    let delivery = desk.expect(&answers, "451 4.3.0", "deferred", "store_unavailable").await;
    assert_rule_spoke(&delivery, "SMTP");
    std::fs::remove_file(&blobs).unwrap();
    std::fs::create_dir(&blobs).unwrap();
    desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
}

#[tokio::test]
async fn x14_sigterm_ends_in_time_with_a_store_that_hangs_and_the_sender_is_told_to_come_again() {
    let mut app = TestApp::start_with_sqlite().await;
    let desk = Desk::open(&app).await;
    let database = format!("sqlite://{}/data/syncmx.db", app.folder().display());
    let mut mailer = app.connect(&LENA).await;
    let mut lock = sqlx::SqliteConnection::connect(&database).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    let (recipients, raw) = ([desk.sync.clone()], LENA.sign(&Draft::default().raw()));
    let sending = tokio::spawn(async move { mailer.send(LENA.mail_from, &recipients, &raw).await });
    app.wait_for_log("server.ready").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It panics after 30 seconds.
    assert_eq!(app.terminate().await.code(), Some(0));
    let answers = sending.await.unwrap().unwrap();
    assert_eq!(answers.decisive().code, 451, "{}", answers.decisive().text);
    drop(lock);
    app.start_again().await;
    let desk = desk.at(&app);
    assert_eq!(desk.timeline(&desk.anna).await.len(), 0);
}

#[tokio::test]
async fn c16_mail_to_postmaster_has_a_share_of_a_day_and_others_get_theirs() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut mailer = Mailer::connect(app.smtp, LENA.client, LENA.helo, &Security::Plain).await.unwrap();
    let postmaster = ["postmaster@sync.example.test".to_owned()];
    for _ in 0..1000 {
        let answers = mailer.send("", &postmaster, b"From: a@b.test\r\n\r\nx\r\n").await.unwrap();
        assert_eq!(answers.decisive().code, 250, "{}", answers.decisive().text);
    }
    let mut mailer = Mailer::connect(app.smtp, LENA.client, LENA.helo, &Security::Plain).await.unwrap();
    let answers = mailer.send("", &postmaster, b"From: a@b.test\r\n\r\nx\r\n").await.unwrap();
    let put_off = &answers.recipients[0];
    assert_eq!(put_off.codes(), "452 4.7.1");
    assert!(put_off.text.contains("[trace "), "{}", put_off.text);
    desk.expect_filed(&app.send(&LENA, &desk.sync, &Draft::default().raw()).await).await;
}

#[tokio::test]
async fn how_many_messages_wait_for_the_search_is_a_metric() {
    let app = TestApp::start().await;
    for _ in 0..600 {
        let metrics = reqwest::get(format!("{}/metrics", app.api.base)).await.unwrap().text().await.unwrap();
        if metrics.lines().any(|line| line == "syncmx_search_waiting 0") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it is never shown");
}

#[tokio::test]
async fn x28_a_log_that_nobody_takes_holds_no_mail_up_and_what_is_dropped_is_counted() {
    let app = TestApp::start_unheard().await;
    let desk = Desk::open(&app).await;
    let dropped = async || {
        let metrics = reqwest::get(format!("{}/metrics", app.api.base)).await.unwrap().text().await.unwrap();
        metrics.contains("syncmx_log_lines_dropped_total")
    };
    // Each refusal is a line; a session has twenty of them, and an address a hundred an hour.
    let mut recipients = vec!["stranger@elsewhere.test".to_owned(); 19];
    recipients.push(desk.sync.clone());
    for number in 0..300 {
        let id = number.to_string();
        let raw = LENA.sign(&Draft { id: &id, ..Draft::default() }.raw());
        let client = std::net::IpAddr::from([
            127,
            1,
            u8::try_from(number / 200).unwrap(),
            u8::try_from(number % 200 + 1).unwrap(),
        ]);
        let mut mailer = Mailer::connect(app.smtp, client, LENA.helo, &Security::Plain).await.unwrap();
        let answers = mailer.send(LENA.mail_from, &recipients, &raw).await.unwrap();
        assert_eq!(answers.decisive().codes(), "250 2.0.0", "{}", answers.decisive().text);
        if number % 20 == 0 && dropped().await {
            return;
        }
    }
    panic!("nothing was dropped");
}

#[tokio::test]
async fn a_body_on_disk_comes_back_whole_and_stands_nowhere_in_clear() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let text = "a line that nobody else may read, again and again\r\n".repeat(20_000);
    let answers = app.send(&LENA, &desk.sync, &Draft { text: &text, ..Draft::default() }.raw()).await;
    let (_, message) = desk.expect_filed(&answers).await;
    let (_, raw) = desk.bytes(&format!("/messages/{}/raw", message["id"].as_str().unwrap())).await;
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.starts_with("Return-Path: ") && raw.ends_with(&text), "our fields on top, then all of it");
    assert_eq!(raw.matches("\r\nReceived: ").count(), 1);
}

/// What MAIL is answered now.
async fn mail(app: &TestApp) -> SmtpReply {
    let mut mailer = Mailer::connect(app.smtp, LENA.client, LENA.helo, &Security::Plain).await.unwrap();
    mailer.send(LENA.mail_from, &["nobody@sync.example.test".to_owned()], b"x\r\n").await.unwrap().mail
}

/// Asks again and again until MAIL is answered with these codes.
async fn wait_until_mail_is(app: &TestApp, codes: &str) {
    let mut tries = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..300 {
        tries.tick().await;
        if mail(app).await.codes() == codes {
            return;
        }
    }
    panic!("MAIL is never answered {codes}");
}

/// A small disk, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"]).arg(folder);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test]
async fn x4_mail_is_put_off_while_the_disk_is_nearly_full_and_taken_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path()) else {
        println!("skipped: the right to mount a small disk absent");
        return;
    };
    let blobs = format!("SYNCMX_STORE__BLOBS=file://{}", folder.path().display());
    let app = TestApp::start_with(&[&blobs, "SYNCMX_SMTP__MAX_MESSAGE_SIZE=1MiB"]).await;
    assert_eq!(mail(&app).await.codes(), "250 2.1.0");
    let filler = folder.path().join("filler");
    std::fs::write(&filler, vec![0; 64 << 20]).unwrap();
    wait_until_mail_is(&app, "452 4.3.1").await;
    std::fs::remove_file(&filler).unwrap();
    wait_until_mail_is(&app, "250 2.1.0").await;
}

#[tokio::test]
async fn x17_sighup_takes_up_a_good_configuration_and_keeps_the_old_one_over_a_bad_one() {
    let mut app = TestApp::start().await;
    let file = app.folder().join("syncmx.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("[smtp]\n", "[smtp]\nmax_recipients = many\n")).unwrap();
    app.hang_up();
    app.wait_for_log("configuration refused, the old one stays in use").await;
    assert!(app.log().contains("syncmx.toml:2"), "the place is named");
    assert_eq!(mail(&app).await.codes(), "250 2.1.0");
    let stricter = good.replace("hostname = \"mx.example.test\"", "hostname = \"mx2.example.test\"");
    std::fs::write(&file, format!("{stricter}[tls]\nrequire = true\n")).unwrap();
    app.hang_up();
    app.wait_for_log("configuration read again").await;
    assert!(app.log().contains("smtp.hostname"), "what needs a restart is named");
    assert_eq!(mail(&app).await.codes(), "530 5.7.0");
    assert!(app.is_alive());
}

#[tokio::test]
async fn x16_a_certificate_that_cannot_be_taken_up_is_an_alarm_in_log_and_metrics() {
    let app = TestApp::start().await;
    let metrics =
        async || reqwest::get(format!("{}/metrics", app.api.base)).await.unwrap().text().await.unwrap();
    assert!(!metrics().await.contains("syncmx_tls_reloads_failed_total"));
    let path = app.folder().join("data/smtp-certificate.pem");
    assert!(path.exists());
    std::fs::write(&path, "no certificate").unwrap();
    app.wait_for_log("new certificate refused, the old one stays in use").await;
    assert!(metrics().await.contains("\nsyncmx_tls_reloads_failed_total 1\n"));
    let answers = app.send(&LENA, &Desk::open(&app).await.sync, &Draft::default().raw()).await;
    assert_eq!(answers.decisive().code, 250, "{}", answers.decisive().text);
}

#[tokio::test]
async fn x15_on_sockets_that_a_supervisor_keeps_a_restart_refuses_nobody() {
    let smtp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = smtp.local_addr().unwrap();
    let mut app = TestApp::start_on(smtp).await;
    assert_eq!(app.smtp, address);
    let desk = Desk::open(&app).await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let clients = tokio::spawn(async move {
        let mut greeted = 0;
        while stopped.try_recv().is_err() {
            greeted += usize::from(is_greeted(address).await);
        }
        greeted
    });
    for _ in 0..3 {
        assert_eq!(app.terminate().await.code(), Some(0));
        app.start_again().await;
    }
    stop.send(()).unwrap();
    let greeted = clients.await.unwrap();
    assert!(greeted > 0);
    let desk = desk.at(&app);
    let answers = app.send(&LENA, &desk.sync, &Draft::default().raw()).await;
    desk.expect_filed(&answers).await;
}

/// Connected and served. A client that the old process took, or whose connection it dropped from its queue's front, may
/// go without a banner, but is never refused.
async fn is_greeted(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).await.expect("nobody is refused");
    let mut word = [0; 4];
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut word)).await.unwrap();
    read.is_ok() && word == *b"220 "
}
