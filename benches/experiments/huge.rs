//! X12, S16: messages made to be large, or said to be, and what they cost: resident memory at its peak, CPU time of the
//! server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::api::Desk;
use crate::app::TestApp;
use crate::clients::{ask, connect_from, greeted, p99, resident_kib};
use crate::mail::{Draft, LENA};
use crate::{Row, Scale};

const MANY: &str = "SYNCMX_SMTP__MAX_CONNECTIONS_PER_IP=20000";
const FROM: &str = "From: a@b.test\r\n";
const MIB: i64 = 1024;

/// Rows M8, M9 and D7, each on a server of its own.
pub(crate) async fn x12_huge() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, raw) in cases() {
        rows.push(one(&what, &raw).await);
    }
    rows.push(endless_command().await);
    rows
}

fn cases() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut add = |what: &str, raw: String| cases.push((what.to_owned(), raw.into_bytes()));
    for levels in [10, 100, 1_000, 25_000, 100_000] {
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(levels);
        add(&format!("M8: {levels} nested message/rfc822"), format!("{FROM}{nested}Subject: x\r\n\r\nx\r\n"));
    }
    let mut nested = FROM.to_owned();
    for level in 0..10_000 {
        write!(nested, "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n").unwrap();
    }
    add("M8: 10,000 nested multiparts", nested);
    add("M8: base64 in base64, 25 deep", encoded(25));
    for count in [100_000, 1_000_000] {
        add(&format!("M9: {count} header fields"), format!("{FROM}{}\r\nx\r\n", "X: y\r\n".repeat(count)));
    }
    let mixed = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    add("M9: 1,000,000 parts", format!("{FROM}{mixed}{}", "--b\r\n\r\nx\r\n".repeat(1_000_000)));
    add("M9: 100,000 boundary candidates", format!("{FROM}{mixed}{}", "--bb\r\n--c\r\n".repeat(50_000)));
    add("M9: one header field of 50 MB", format!("{FROM}X: {}\r\n\r\nx\r\n", "y".repeat(50_000_000)));
    let clauses = "a;".repeat(17 << 20);
    add(
        "M10: Authentication-Results of 34 MiB",
        format!("{FROM}Authentication-Results: {clauses}\r\n\r\nx\r\n"),
    );
    add("M9: 100,000 folded lines", format!("{FROM}X:{}\r\n\r\nx\r\n", " y\r\n".repeat(100_000)));
    let mut sections = format!("{FROM}Content-Type: application/pdf");
    for number in 0..100_000 {
        write!(sections, ";\r\n name*{number}=a").unwrap();
    }
    add("M9: 100,000 sections of RFC 2231", format!("{sections}\r\n\r\nx\r\n"));
    add("D7: body of one line of 10 MB", format!("{FROM}\r\n{}\r\n", "y".repeat(10_000_000)));
    add("D7: body of one line of 30 MB", format!("{FROM}\r\n{}\r\n", "y".repeat(30_000_000)));
    add("D7: 100 MB without LF in DATA", format!("{FROM}\r\n{}\r\n", "y".repeat(100_000_000)));
    cases
}

/// A message in base64 in a message in base64, and so on.
fn encoded(depth: usize) -> String {
    let mut inner = "Subject: x\r\n\r\nx\r\n".to_owned();
    for _ in 0..depth {
        let encoded = base64(inner.as_bytes());
        inner =
            format!("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n");
    }
    format!("{FROM}{inner}")
}

fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (number, three) in octets.chunks(3).enumerate() {
        let bits = three.iter().fold(0_usize, |bits, octet| bits << 8 | usize::from(*octet))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = if place > three.len() { b'=' } else { DIGITS[bits >> (18 - 6 * place) & 63] };
            text.push(char::from(digit));
        }
        if number % 19 == 18 {
            text.push_str("\r\n");
        }
    }
    text
}

async fn one(what: &str, raw: &[u8]) -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let mut stream = greeted(app.smtp, 1).await.unwrap();
    // Idle is who has had a mail before: the program itself is in memory then.
    begin(&mut stream).await;
    ask(&mut stream, b"From: a@b.test\r\n\r\nx\r\n.\r\n").await.unwrap();
    begin(&mut stream).await;
    let cost = Cost::start(app.pid());
    stream.write_all(raw).await.unwrap();
    let answer = ask(&mut stream, b".\r\n").await.unwrap_or_default();
    cost.row(what, &answer).await
}

async fn begin(stream: &mut TcpStream) {
    for command in ["MAIL FROM:<>", "RCPT TO:<postmaster@sync.example.test>", "DATA"] {
        ask(stream, format!("{command}\r\n").as_bytes()).await.unwrap();
    }
}

async fn endless_command() -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let mut stream = greeted(app.smtp, 1).await.unwrap();
    let cost = Cost::start(app.pid());
    let block = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        stream.write_all(&block).await.unwrap();
    }
    let answer = ask(&mut stream, b"\r\n").await.unwrap_or_default();
    cost.row("C8: command of 100 MB without LF", &answer).await
}

/// What a server spends from now on.
struct Cost {
    pid: u32,
    began: Instant,
    cpu: Duration,
    before_kib: i64,
    peak: JoinHandle<i64>,
    stop: CancellationToken,
}

impl Cost {
    fn start(pid: u32) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let peak = tokio::spawn(async move {
            let mut peak = resident_kib(pid);
            while !stopped.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                peak = peak.max(resident_kib(pid));
            }
            peak
        });
        Self { pid, began: Instant::now(), cpu: cpu_time(pid), before_kib: resident_kib(pid), peak, stop }
    }

    /// Wall time, CPU time, and the peak of resident memory, all of it and above what it was.
    async fn end(self) -> (Duration, Duration, i64, i64) {
        let (took, cpu) = (self.began.elapsed(), cpu_time(self.pid) - self.cpu);
        self.stop.cancel();
        let peak = self.peak.await.unwrap();
        (took, cpu, peak / MIB, (peak - self.before_kib) / MIB)
    }

    async fn row(self, what: &str, answer: &str) -> Row {
        let (took, cpu, _, grown) = self.end().await;
        let is_alive = answer.starts_with(['2', '5']);
        Row {
            id: "X12",
            what: what.to_owned(),
            measured: format!(
                "`{}` after {:.2} s; CPU {:.2} s; {grown} MiB above idle at the peak",
                answer.get(..9).unwrap_or("gone"),
                took.as_secs_f64(),
                cpu.as_secs_f64(),
            ),
            passed: is_alive && grown < 64 && cpu < Duration::from_secs(1),
        }
    }
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The kernel counts in hundredths of a second for everybody.
    Duration::from_millis(ticks * 10)
}

/// Row S16: a thousand sessions that announce 26,214,400 octets and are silent; a thousand that each send 24 MB. All
/// from many addresses, and a good client sends mails meanwhile.
pub(crate) async fn s16_many_bodies(scale: Scale) -> Vec<Row> {
    vec![
        many_bodies(scale, "each `BDAT 26214400` and silent", Bodies::Announced).await,
        many_bodies(scale, "each 24 MB of DATA", Bodies::Sent).await,
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bodies {
    Announced,
    Sent,
}

async fn many_bodies(scale: Scale, what: &str, bodies: Bodies) -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let desk = Desk::open(&app).await;
    let count = scale.of(1000);
    let cost = Cost::start(app.pid());
    let (over, mut senders) = (CancellationToken::new(), JoinSet::new());
    for number in 0..count {
        let (server, over, rcpt) = (app.smtp, over.clone(), desk.sync.clone());
        // So many addresses that none of them is over its own share.
        senders.spawn(async move {
            over.run_until_cancelled(one_body(server, number * 10, &rcpt, bodies)).await.unwrap_or_default()
        });
    }
    let (mut took, mut put_off) = (Vec::new(), 0);
    while took.len() + put_off < 60 {
        let mut mailer = app.connect(&LENA).await;
        for _ in 0..10 {
            let raw = LENA.sign(&Draft { id: &(took.len() + put_off).to_string(), ..Draft::default() }.raw());
            let began = Instant::now();
            let sent = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &raw).await;
            // It pipelines, and what follows a MAIL that is put off is out of order: under stress it is soon closed.
            let Ok(answers) = sent else {
                put_off += 1;
                break;
            };
            match answers.decisive().code {
                250 => took.push(began.elapsed()),
                400..=499 => put_off += 1,
                other => panic!("{other} {}", answers.decisive().text),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    if bodies == Bodies::Announced {
        over.cancel();
    }
    let ends = senders.join_all().await;
    let (_, cpu, peak, _) = cost.end().await;
    let mut answers = BTreeMap::<&str, usize>::new();
    for end in &ends {
        *answers.entry(end.get(..9).unwrap_or("none")).or_default() += 1;
    }
    let is_reply = |answer: &&str| answer.starts_with(['4', '5']);
    let replied: usize = answers.iter().filter(|(answer, _)| is_reply(answer)).map(|(_, count)| count).sum();
    let answers: Vec<String> = answers.iter().map(|(answer, count)| format!("{count} × {answer}")).collect();
    let (good, served) = (p99(took.clone()), took.len());
    let is_answered = match bodies {
        Bodies::Announced => put_off == 0,
        // They are nobody's senders: refused once they have come, or put off before.
        Bodies::Sent => replied == count,
    };
    Row {
        id: "S16",
        what: format!("{count} sessions, {what}"),
        measured: format!(
            "{}; good client: {served} × 250, p99 {:.0} ms, {put_off} put off; CPU {:.1} s; {peak} MiB resident at the peak",
            answers.join(", "),
            good.as_secs_f64() * 1e3,
            cpu.as_secs_f64(),
        ),
        passed: is_answered && served > 0 && peak <= 600,
    }
}

/// What became of one body; nothing while it is waited for.
async fn one_body(server: SocketAddr, number: usize, rcpt: &str, bodies: Bodies) -> String {
    let sending = async {
        let mut stream = connect_from(server, number).await?;
        for command in ["", "EHLO client.test\r\n"] {
            ask(&mut stream, command.as_bytes()).await?;
        }
        for command in ["MAIL FROM:<>", &format!("RCPT TO:<{rcpt}>")] {
            let answer = ask(&mut stream, format!("{command}\r\n").as_bytes()).await?;
            if !answer.starts_with("250 ") {
                return Ok(answer);
            }
        }
        if bodies == Bodies::Announced {
            stream.write_all(b"BDAT 26214400\r\nx").await?;
            std::future::pending::<()>().await;
        }
        ask(&mut stream, b"DATA\r\n").await?;
        stream.write_all(FROM.as_bytes()).await?;
        stream.write_all(b"\r\n").await?;
        let line = [&[b'y'; 78][..], b"\r\n"].concat().repeat(1000);
        for _ in 0..300 {
            stream.write_all(&line).await?;
        }
        ask(&mut stream, b".\r\n").await
    };
    sending.await.unwrap_or_else(|error: std::io::Error| error.to_string())
}

/// Eight sessions with mails of 20 MB without pause: a few lines with a file, and nothing but text.
pub(crate) async fn s16_large_mails(scale: Scale) -> Vec<Row> {
    vec![large_mails(scale, Filler::Attachment).await, large_mails(scale, Filler::Text).await]
}

#[derive(Clone, Copy)]
enum Filler {
    Attachment,
    Text,
}

impl Filler {
    /// A mail of 20 MB that differs from all others, and shrinks as little as such mails do.
    fn mail(self, id: &str) -> Vec<u8> {
        let mut state = id.bytes().fold(1_u64, |sum, octet| sum.wrapping_mul(31).wrapping_add(octet.into()));
        let mut octet = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        match self {
            Self::Attachment => {
                let file: Vec<u8> = std::iter::repeat_with(&mut octet).take(14_500_000).collect();
                let text = format!(
                    "--b\r\n\r\nsee the file\r\n--b\r\nContent-Type: application/pdf; name=scan.pdf\r\n\
                     Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
                    base64(&file)
                );
                let raw = Draft { id, text: &text, ..Draft::default() }.raw();
                let plain = "Content-Type: text/plain; charset=utf-8";
                String::from_utf8(raw)
                    .unwrap()
                    .replacen(plain, "Content-Type: multipart/mixed; boundary=b", 1)
                    .into()
            }
            Self::Text => {
                let letter = || char::from(b'a' + octet() % 26);
                let letters: String = std::iter::repeat_with(letter).take(1_000_000).collect();
                let line =
                    |at: usize| format!("{} {at}\r\n", letters.get(at % 990_000..at % 990_000 + 70).unwrap());
                let text: String = (0..256_000).map(line).collect();
                Draft { id, text: &text, ..Draft::default() }.raw()
            }
        }
    }
}

async fn large_mails(scale: Scale, filler: Filler) -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let desk = Desk::open(&app).await;
    let (sessions, mails) = (8, scale.of(100).div_ceil(8));
    let mut prepared = Vec::new();
    for session in 0..sessions {
        let mail = |number| LENA.sign(&filler.mail(&format!("{session}-{number}")));
        prepared.push((app.connect(&LENA).await, (0..mails).map(mail).collect::<Vec<_>>()));
    }
    let cost = Cost::start(app.pid());
    let mut sending = JoinSet::new();
    for (mut mailer, raws) in prepared {
        let rcpt = [desk.sync.clone()];
        sending.spawn(async move {
            let (mut accepted, mut longest) = (0, Duration::ZERO);
            for raw in raws {
                let began = Instant::now();
                let answers = mailer.send(LENA.mail_from, &rcpt, &raw).await.unwrap();
                accepted += usize::from(answers.decisive().code == 250);
                longest = longest.max(began.elapsed());
            }
            (accepted, longest)
        });
    }
    let done = sending.join_all().await;
    let (took, cpu, peak, _) = cost.end().await;
    let accepted: usize = done.iter().map(|(accepted, _)| accepted).sum();
    let longest = done.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
    let what = match filler {
        Filler::Attachment => "with an attachment",
        Filler::Text => "of text alone",
    };
    Row {
        id: "S16",
        what: format!("{sessions} sessions, {mails} mails of 20 MB each, {what}, without pause"),
        measured: format!(
            "{accepted} × 250 in {:.1} s, the longest {:.1} s; CPU {:.1} s; {peak} MiB resident at the peak",
            took.as_secs_f64(),
            longest.as_secs_f64(),
            cpu.as_secs_f64(),
        ),
        passed: accepted == sessions * mails && peak <= 600,
    }
}
