//! X9, X10, X14, X16: shortages, rudeness, shutdown, and certificates that change.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, ServerName};
use socket2::SockRef;
use syncmx::cli::demo::mailer::Security;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::Desk;
use crate::app::TestApp;
use crate::clients::{ask, connect_from, greeted};
use crate::mail::{Draft, LENA};
use crate::{Row, Scale};

const MANY: &str = "SYNCMX_SMTP__MAX_CONNECTIONS_PER_IP=20000";

pub(crate) async fn x9_descriptors() -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let limited =
        Command::new("prlimit").args(["--nofile=256:256", "--pid", &app.pid().to_string()]).status();
    let (mut open, mut served, mut turned_away) = (Vec::new(), 0, 0);
    for number in 0..400 {
        let Ok(mut stream) = connect_from(app.smtp, number).await else { continue };
        let word = tokio::time::timeout(Duration::from_secs(2), ask(&mut stream, b"")).await;
        let word = word.ok().and_then(Result::ok).unwrap_or_default();
        served += usize::from(word.starts_with("220 "));
        turned_away += usize::from(word.starts_with("421 "));
        open.push(stream);
    }
    drop(open);
    let began = Instant::now();
    let mut recovered = false;
    while !recovered && began.elapsed() < Duration::from_secs(10) {
        let word = match connect_from(app.smtp, 1).await {
            Ok(mut stream) => ask(&mut stream, b"").await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        recovered = word.starts_with("220 ");
    }
    Row {
        id: "X9",
        what: "400 connections with 256 descriptors".to_owned(),
        measured: format!(
            "{served} served, {turned_away} turned away with 421; recovered after {:.0} ms",
            began.elapsed().as_secs_f64() * 1e3
        ),
        passed: limited.is_ok_and(|status| status.success()) && served > 100 && recovered,
    }
}

pub(crate) async fn x10_half_open(scale: Scale) -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let count = scale.of(2000);
    for number in 0..count {
        let Ok(mut stream) = connect_from(app.smtp, number).await else { continue };
        match number % 3 {
            // RST, before or after it is accepted.
            0 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            1 => {
                let _banner = ask(&mut stream, b"").await;
            }
            _ => {
                let _banner = ask(&mut stream, b"").await;
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }
    let began = Instant::now();
    let mut open = String::new();
    while began.elapsed() < Duration::from_secs(20) {
        let metrics = reqwest::get(format!("{}/metrics", app.api.base)).await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("syncmx_smtp_open_connections "));
        open = line.unwrap_or("?").to_owned();
        if open == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let is_alive = greeted(app.smtp, 1).await.is_ok();
    Row {
        id: "X10",
        what: format!("{count} peers that reset, leave after the banner, or reset after it"),
        measured: format!("{open} sessions left after {:.0} ms", began.elapsed().as_secs_f64() * 1e3),
        passed: open == "0" && is_alive,
    }
}

pub(crate) async fn x14_sigterm() -> Row {
    let mut app = TestApp::start_with(&[MANY]).await;
    let desk = Desk::open(&app).await;
    let (mut idle, mut in_data) = open_sessions(&app, &desk).await;
    let began = Instant::now();
    let pid = app.pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut told = 0;
    for stream in &mut idle {
        told += usize::from(ask(stream, b"").await.unwrap_or_default().starts_with("421 4.3.2"));
    }
    let idle_ms = began.elapsed().as_secs_f64() * 1e3;
    let (mut accepted, mut deferred) = (0_usize, 0_usize);
    for (stream, rest) in &mut in_data {
        let answer = ask(stream, rest).await.unwrap_or_default();
        accepted += usize::from(answer.starts_with("250 "));
        deferred += usize::from(answer.starts_with("45"));
    }
    app.terminate().await;
    let took = began.elapsed();
    app.start_again().await;
    let filed = filed_on(&desk.at(&app)).await;
    Row {
        id: "X14",
        what: "SIGTERM with 40 idle sessions, 30 in DATA, 30 waiting for their answer".to_owned(),
        measured: format!(
            "{told} told 421 4.3.2 within {idle_ms:.0} ms; {accepted} × 250, {deferred} × 45y; ended after {:.1} s; \
             {filed} on disk",
            took.as_secs_f64()
        ),
        passed: told == 40
            && accepted + deferred == 60
            && filed >= accepted
            && took < Duration::from_secs(30),
    }
}

/// Forty that idle, and sixty in the middle of a message, each with what it has still to say.
async fn open_sessions(app: &TestApp, desk: &Desk) -> (Vec<TcpStream>, Vec<(TcpStream, Vec<u8>)>) {
    let mut idle = Vec::new();
    let mut in_data = Vec::new();
    for number in 0..40 {
        idle.push(greeted(app.smtp, number).await.unwrap());
    }
    for number in 0..60 {
        let mut stream = greeted(app.smtp, number).await.unwrap();
        let id = number.to_string();
        let raw = LENA.sign(&Draft { id: &id, ..Draft::default() }.raw());
        ask(&mut stream, format!("MAIL FROM:<{}>\r\n", LENA.mail_from).as_bytes()).await.unwrap();
        ask(&mut stream, format!("RCPT TO:<{}>\r\n", desk.sync).as_bytes()).await.unwrap();
        ask(&mut stream, b"DATA\r\n").await.unwrap();
        let (first, rest) = raw.split_at(raw.len() / 2);
        stream.write_all(first).await.unwrap();
        // Half of them are waiting for the 250 when the signal comes.
        if number % 2 == 0 {
            stream.write_all(&[rest, b".\r\n"].concat()).await.unwrap();
            in_data.push((stream, Vec::new()));
        } else {
            in_data.push((stream, [rest, b".\r\n"].concat()));
        }
    }
    (idle, in_data)
}

/// How many mails are on the contact's record, page by page.
async fn filed_on(desk: &Desk) -> usize {
    let mut count = 0;
    let mut cursor = String::new();
    loop {
        let page = desk.get(&format!("/contacts/{}/timeline?limit=50{cursor}", desk.anna)).await;
        count += page["items"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return count,
        }
    }
}

pub(crate) async fn x16_certificates(scale: Scale) -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let (files, security) = (app.folder().join("data"), Security::starttls().unwrap());
    let (mut longest, mut failures, swaps) = (Duration::ZERO, 0, scale.of(100));
    for _ in 0..swaps {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let made = rcgen::CertificateParams::new(["mx.example.test".to_owned()]).unwrap().self_signed(&key);
        let made = made.unwrap();
        // Broken in between: the old one is kept.
        std::fs::write(files.join("smtp-certificate.pem"), "broken").unwrap();
        app.hang_up();
        let server = app.smtp;
        let mailer =
            syncmx::cli::demo::mailer::Mailer::connect(server, LENA.client, LENA.helo, &security).await;
        failures += usize::from(mailer.is_err());
        std::fs::write(files.join("smtp-certificate-key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(files.join("smtp-certificate.pem"), made.pem()).unwrap();
        app.hang_up();
        let began = Instant::now();
        while !is_served(&app, made.der()).await {
            assert!(began.elapsed() < Duration::from_secs(10), "the new certificate is never used");
        }
        longest = longest.max(began.elapsed());
    }
    let alarms = app.log().matches("tls.certificates_kept").count();
    Row {
        id: "X16",
        what: format!("{swaps} new certificates by SIGHUP, a broken one before each"),
        measured: format!(
            "in use after {:.0} ms at most; {failures} failed handshakes; {alarms} alarms",
            longest.as_secs_f64() * 1e3
        ),
        passed: failures == 0 && alarms > 0 && longest < Duration::from_secs(5),
    }
}

/// Whether a handshake that trusts this certificate alone succeeds.
async fn is_served(app: &TestApp, certificate: &CertificateDer<'static>) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let Ok(mut stream) = greeted(app.smtp, 1).await else { return false };
    ask(&mut stream, b"STARTTLS\r\n").await.unwrap();
    let name = ServerName::try_from("mx.example.test").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let Ok(mut stream): Result<tokio_rustls::client::TlsStream<TcpStream>, _> =
        connector.connect(name, stream).await
    else {
        return false;
    };
    stream.write_all(b"QUIT\r\n").await.unwrap();
    stream.read(&mut [0; 64]).await.is_ok()
}
