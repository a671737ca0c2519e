//! Other people's senders against the real program: Postfix with its queue, swaks, msmtp, Python's smtplib, nodemailer.
//!
//! Each delivers over STARTTLS a signed mail with the lines that clients break (dots, `From `, 8-bit), and one of 20
//! MB; both must be filed, and stored to the octet as they were signed. All on loopback, in temporary folders. A peer
//! that is not installed makes its test print one line and pass, except in CI, where `tests/run.sh` has installed them
//! all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/api.rs"]
mod api;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/app.rs"]
mod app;
mod clamd;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/mail.rs"]
mod mail;
mod postfix;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/sink.rs"]
mod sink;
mod smarthost;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::api::Desk;
use crate::app::TestApp;
use crate::mail::{Draft, LENA};

/// What a peer is told to deliver.
struct Job<'a> {
    server: SocketAddr,
    mail_from: &'a str,
    rcpt: &'a str,
    /// The mail in a file, lines as the peer wants them.
    file: &'a Path,
}

/// How lines end in the file that a peer reads.
#[derive(Clone, Copy)]
enum Lines {
    Crlf,
    Lf,
    /// The last one has none: the peer adds it.
    LfBetween,
}

#[tokio::test]
async fn swaks_delivers() {
    deliver_both("swaks", Lines::LfBetween, |job| {
        let mut command = Command::new("swaks");
        let server = format!("{}:{}", job.server.ip(), job.server.port());
        command.args(["--server", &server, "--from", job.mail_from, "--to", job.rcpt, "--tls", "--pipeline"]);
        command.args(["--helo", LENA.helo, "--local-interface", &LENA.client.to_string()]);
        command.args(["--data", &format!("@{}", job.file.display())]);
        command.args(["--suppress-data", "--timeout", "120"]);
        command
    })
    .await;
}

#[tokio::test]
async fn msmtp_delivers() {
    deliver_both("msmtp", Lines::Lf, |job| {
        let mut command = Command::new("msmtp");
        command.args(["--file=/dev/null", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off"]);
        command.arg(format!("--host={}", job.server.ip())).arg(format!("--port={}", job.server.port()));
        command.arg(format!("--source-ip={}", LENA.client)).arg(format!("--domain={}", LENA.helo));
        command.arg(format!("--from={}", job.mail_from)).arg("--").arg(job.rcpt);
        command.stdin(std::fs::File::open(job.file).unwrap());
        command
    })
    .await;
}

#[tokio::test]
async fn python_smtplib_delivers() {
    deliver_both("python3", Lines::Crlf, |job| script("python3", "smtplib_send.py", job)).await;
}

#[tokio::test]
async fn nodemailer_delivers() {
    if !modules().join("nodemailer").is_dir() {
        return skip("nodemailer");
    }
    deliver_both("node", Lines::Crlf, |job| {
        let mut command = script("node", "nodemailer_send.cjs", job);
        command.env("NODE_PATH", modules());
        command
    })
    .await;
}

/// Runs one of the scripts beside this file.
fn script(interpreter: &str, name: &str, job: &Job<'_>) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name));
    command.args([job.server.ip().to_string(), job.server.port().to_string()]);
    command.args([&LENA.client.to_string(), LENA.helo, job.mail_from, job.rcpt]).arg(job.file);
    command
}

/// A peer that delivers while its command runs: one after the other, both filed.
async fn deliver_both(peer: &str, lines: Lines, command: impl Fn(&Job<'_>) -> Command) {
    if !is_installed(peer) {
        return skip(peer);
    }
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    for (n, raw) in [small(), large()].into_iter().enumerate() {
        let signed = LENA.sign(&raw);
        let file = app.folder().join("mail.eml");
        std::fs::write(&file, with_lines(&signed, lines)).unwrap();
        let job = Job { server: app.smtp, mail_from: LENA.mail_from, rcpt: &desk.sync, file: &file };
        run(command(&job)).await;
        expect_filed(&desk, n, &signed).await;
    }
}

async fn run(mut command: Command) {
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&said));
}

/// The `n`-th mail (from 0) is on the contact's timeline, over TLS, verified, and stored as it was signed.
async fn expect_filed(desk: &Desk, n: usize, signed: &[u8]) {
    let filed = wait_for_filed(desk, n + 1).await;
    let newest = &filed[0];
    assert!(newest["tls"].as_str().is_some_and(|tls| tls.starts_with("TLSv1.3")), "{newest:#}");
    assert_eq!(newest["auth"]["dkim"][0]["result"], "pass", "{newest:#}");
    assert_eq!(newest["auth"]["spf"], "pass", "{newest:#}");
    assert_eq!(desk.timeline(&desk.anna).await.len(), n + 1);
    let message = newest["message_id"].as_str().unwrap();
    let (_, raw) = desk.bytes(&format!("/messages/{message}/raw")).await;
    assert!(raw.ends_with(signed), "what is stored is what was signed, behind the fields of the way");
}

/// The deliveries that ended as filed, newest first, once there are so many.
async fn wait_for_filed(desk: &Desk, count: usize) -> Vec<Value> {
    let mut tries = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..900 {
        tries.tick().await;
        let deliveries = desk.get("/deliveries").await;
        let filed = |delivery: &&Value| delivery["outcome"] == "filed";
        let filed: Vec<Value> =
            deliveries["items"].as_array().unwrap().iter().filter(filed).cloned().collect();
        if filed.len() >= count {
            let mut whole = Vec::new();
            for delivery in filed {
                whole.push(desk.get(&format!("/deliveries/{}", delivery["id"].as_str().unwrap())).await);
            }
            return whole;
        }
    }
    panic!("not filed within 180 s: {:#}", desk.get("/deliveries").await);
}

/// With all that senders like to break.
fn small() -> Vec<u8> {
    let text =
        "Liebe Anna,\r\n\r\n.\r\n..\r\n.hidden\r\nFrom here on\r\n\tGr\u{fc}\u{df}e  \r\n\r\n-- \r\nLena\r\n";
    Draft { text, fields: "Content-Transfer-Encoding: 8bit\r\n", ..Draft::default() }.raw()
}

/// 20 MB on the wire: a text, and an attachment that no compression shrinks much.
fn large() -> Vec<u8> {
    const BOUNDARY: &str = "=_peers";
    let lines = LARGE_OCTETS / (BASE64_LINE + 2);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut attachment = Vec::with_capacity(LARGE_OCTETS);
    for _ in 0..lines {
        for _ in 0..BASE64_LINE {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            attachment.push(ALPHABET[usize::try_from(state >> 58).unwrap()]);
        }
        attachment.extend_from_slice(b"\r\n");
    }
    let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
    let mut raw = format!(
        "From: Dr. Lena Albrecht <lena.albrecht@praxis-morgenrot.test>\r\n\
         To: Anna Bergmann <anna.bergmann@web-post.test>\r\nSubject: Your pictures\r\nDate: {date}\r\n\
         Message-ID: <large@e2e.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\r\n\r\n\
         --{BOUNDARY}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nDear Anna,\r\nhere they are.\r\n\
         --{BOUNDARY}\r\nContent-Type: application/octet-stream; name=\"pictures.bin\"\r\n\
         Content-Disposition: attachment; filename=\"pictures.bin\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    )
    .into_bytes();
    raw.append(&mut attachment);
    raw.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    raw
}

fn with_lines(raw: &[u8], lines: Lines) -> Vec<u8> {
    match lines {
        Lines::Crlf => raw.to_vec(),
        Lines::Lf => raw.iter().copied().filter(|octet| *octet != b'\r').collect(),
        Lines::LfBetween => with_lines(raw.strip_suffix(b"\r\n").unwrap(), Lines::Lf),
    }
}

fn is_installed(program: &str) -> bool {
    let asked = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status();
    asked.is_ok_and(|status| status.success())
}

/// Passes without the peer; not in CI.
fn skip(peer: &str) {
    assert!(std::env::var_os("CI").is_none(), "{peer} absent: tests/run.sh installs it");
    println!("skipped: {peer} absent");
}

/// Where `tests/run.sh` installs npm packages.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/node_modules")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_LINE: usize = 76;
const LARGE_OCTETS: usize = 20_000_000;
