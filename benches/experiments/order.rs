//! X9, X10, X14, X16: shortages, rudeness, shutdown, and certificates that change.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, ServerName};
use socket2::SockRef;
use syncmx::cli::demo::mailer::{Mailer, Security};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
    let (count, mut silent) = (scale.of(2000), Vec::new());
    for number in 0..count {
        let Ok(mut stream) = connect_from(app.smtp, number).await else { continue };
        match number % 4 {
            // RST, before or after it is accepted.
            0 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            1 => {
                let _banner = ask(&mut stream, b"").await;
            }
            2 => {
                let _banner = ask(&mut stream, b"").await;
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            // Half a ClientHello, and silence.
            _ => {
                let _banner = ask(&mut stream, b"").await;
                let _ready = ask(&mut stream, b"STARTTLS\r\n").await;
                let _sent = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
                silent.push(stream);
            }
        }
    }
    let began = Instant::now();
    let mut open = String::new();
    // A handshake has 30 s.
    while began.elapsed() < Duration::from_secs(60) {
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
        what: format!(
            "{count} peers that reset, leave after the banner, reset after it, or fall silent in the ClientHello ({})",
            silent.len()
        ),
        measured: format!("{open} sessions left after {:.1} s", began.elapsed().as_secs_f64()),
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

/// Under a load of handshakes: a file that is none, one that has run out and one that is of another key before each new
/// certificate. Each must leave the last one in use, and be an alarm.
pub(crate) async fn x16_certificates(scale: Scale) -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let files = app.folder().join("data");
    let (certificate_file, key_file) =
        (files.join("smtp-certificate.pem"), files.join("smtp-certificate-key.pem"));
    let load = HandshakeLoad::start(app.smtp);
    let (mut longest, mut kept, mut alarms, swaps) = (Duration::ZERO, 0, 0, scale.of(100));
    let mut used = pair(2100);
    for number in 0..swaps {
        // The first one in use is the server's own.
        if number > 0 {
            let (run_out, other) = (pair(2021), pair(2100));
            for (certificate, key) in [
                ("broken".to_owned(), None),
                (run_out.0.pem(), Some(run_out.1.serialize_pem())),
                (other.0.pem(), Some(used.1.serialize_pem())),
            ] {
                let before = app.log().matches("tls.certificates_kept").count();
                if let Some(key) = key {
                    std::fs::write(&key_file, key).unwrap();
                }
                std::fs::write(&certificate_file, certificate).unwrap();
                app.hang_up();
                let is_said = || app.log().matches("tls.certificates_kept").count() > before;
                alarms += usize::from(within_ten_seconds(async || is_said()).await.is_some());
                kept += usize::from(is_served(&app, used.0.der(), number).await);
            }
        }
        used = pair(2100);
        std::fs::write(&key_file, used.1.serialize_pem()).unwrap();
        std::fs::write(&certificate_file, used.0.pem()).unwrap();
        app.hang_up();
        let took = within_ten_seconds(async || is_served(&app, used.0.der(), number).await).await;
        longest = longest.max(took.unwrap_or(Duration::MAX));
    }
    let (done, failures) = load.end().await;
    let bad = 3 * (swaps - 1);
    Row {
        id: "X16",
        what: format!(
            "{swaps} new certificates by SIGHUP under handshakes without pause; before each a broken file, one that has \
             run out, one of another key"
        ),
        measured: format!(
            "in use after {:.0} ms at most; {kept} of {bad} times the old one stayed, {alarms} alarms; {failures} of {} \
             handshakes failed",
            longest.as_secs_f64() * 1e3,
            done + failures
        ),
        passed: failures == 0 && done > 0 && (kept, alarms) == (bad, bad) && longest < Duration::from_secs(5),
    }
}

/// A certificate of a key of its own, until the beginning of that year.
fn pair(until: i32) -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut made = rcgen::CertificateParams::new(["mx.example.test".to_owned()]).unwrap();
    (made.not_before, made.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(until, 1, 1));
    (made.self_signed(&key).unwrap(), key)
}

/// How long it took to become true; none if it did not.
async fn within_ten_seconds(is_so: impl AsyncFn() -> bool) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if is_so().await {
            return Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

/// Eight clients that begin one TLS session after the other, each from an address of its own.
struct HandshakeLoad {
    clients: JoinSet<(usize, usize)>,
    stop: CancellationToken,
}

impl HandshakeLoad {
    fn start(server: SocketAddr) -> Self {
        let (stop, security) = (CancellationToken::new(), Security::starttls().unwrap());
        let mut clients = JoinSet::new();
        for client in 0..8_u8 {
            let (stop, security) = (stop.clone(), security.clone());
            clients.spawn(async move {
                let (mut done, mut failed) = (0, 0);
                while !stop.is_cancelled() {
                    let [_, _, high, low] = u32::try_from(done + failed).unwrap().to_be_bytes();
                    let from = Ipv4Addr::new(127, client + 2, high, low);
                    let mailer = Mailer::connect(server, from.into(), LENA.helo, &security).await;
                    done += usize::from(mailer.is_ok());
                    failed += usize::from(mailer.is_err());
                    if let Ok(mailer) = mailer {
                        let _gone = mailer.quit().await;
                    }
                }
                (done, failed)
            });
        }
        Self { clients, stop }
    }

    /// How many handshakes there were, and how many that failed.
    async fn end(self) -> (usize, usize) {
        self.stop.cancel();
        self.clients.join_all().await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// Whether a handshake that trusts this certificate alone succeeds.
async fn is_served(app: &TestApp, certificate: &CertificateDer<'static>, number: usize) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let Ok(mut stream) = greeted(app.smtp, number).await else { return false };
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
