//! X6: resolvers that fail in different ways.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use syncmx::cli::demo::sign::{Algorithm, Signer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::api::Desk;
use crate::app::TestApp;
use crate::clients::Pinger;
use crate::mail::{Draft, LENA};
use crate::{Row, Scale};

const MANY: &str = "SYNCMX_SMTP__MAX_CONNECTIONS_PER_IP=20000";
/// How late a slow resolver answers.
const LATE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
enum Failing {
    BlackHole,
    /// (g): answers the first hundred questions and then none.
    DiesMidRun,
    /// (f): 64 KB of text for each TXT question, over TCP.
    HugeTexts,
    NxDomain,
    NxDomainAfter3s,
    ServFail,
    TruncatedWithoutTcp,
}

pub(crate) async fn x6(scale: Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    let cases = [
        Failing::ServFail,
        Failing::BlackHole,
        Failing::NxDomain,
        Failing::NxDomainAfter3s,
        Failing::TruncatedWithoutTcp,
        Failing::HugeTexts,
        Failing::DiesMidRun,
    ];
    for failing in cases {
        rows.push(one(failing, scale).await);
    }
    rows
}

async fn one(failing: Failing, scale: Scale) -> Row {
    let dns = respond(failing).await;
    let servers = format!("SYNCMX_DNS__SERVERS=[\"{dns}\"]");
    // All come from one address, side by side.
    let app = TestApp::start_with(&[&servers, "SYNCMX_DNS__TIMEOUT=5s", MANY]).await;
    let desk = Desk::open(&app).await;
    let pinger = Pinger::start(app.smtp);
    let mut sending = JoinSet::new();
    let mut mails = Vec::new();
    for n in 0..scale.of(200) {
        let id = n.to_string();
        mails.push((
            app.connect(&LENA).await,
            signed_by_six(&Draft { id: &id, ..Draft::default() }.raw(), &id),
        ));
    }
    let began = Instant::now();
    for (mut mailer, raw) in mails {
        let rcpt = desk.sync.clone();
        sending.spawn(async move {
            let began = Instant::now();
            let answers = mailer.send(LENA.mail_from, &[rcpt], &raw).await.unwrap();
            (answers.decisive().codes(), began.elapsed())
        });
    }
    let done = sending.join_all().await;
    let total = began.elapsed();
    let noop = pinger.p99().await;
    let longest = done.iter().map(|(_, took)| *took).max().unwrap_or_default();
    let mut codes: Vec<String> = done.iter().map(|(codes, _)| codes.clone()).collect();
    codes.sort();
    codes.dedup();
    let may_pass_later =
        matches!(failing, Failing::ServFail | Failing::BlackHole | Failing::TruncatedWithoutTcp);
    let is_answered = if matches!(failing, Failing::DiesMidRun) {
        // Some found it alive, others did not.
        codes.iter().all(|codes| codes == "451 4.4.3" || codes == "250 2.0.0")
    } else {
        codes == [if may_pass_later { "451 4.4.3" } else { "250 2.0.0" }]
    };
    let measured = format!(
        "{} mails: {}; longest {:.1} s, all {:.1} s; NOOP p99 {:.1} ms",
        done.len(),
        codes.join(", "),
        longest.as_secs_f64(),
        total.as_secs_f64(),
        noop.as_secs_f64() * 1e3
    );
    // Four look-ups that follow each other, and not one behind the other for each signature.
    let limit = if matches!(failing, Failing::NxDomainAfter3s) { 4 * LATE } else { Duration::from_secs(25) };
    let passed = is_answered && longest < limit && noop < Duration::from_millis(50);
    Row { id: "X6", what: format!("DNS: {failing:?}"), measured, passed }
}

/// By Lena's host, and by five domains that sign no other mail, each with a key to be asked for.
fn signed_by_six(raw: &[u8], id: &str) -> Vec<u8> {
    let by_others = (0..5).fold(raw.to_vec(), |raw, n| {
        Signer::new(&format!("d{n}.m{id}.test"), "s", Algorithm::Ed25519).unwrap().sign(&raw).unwrap()
    });
    LENA.sign(&by_others)
}

/// Answers every question alike, on UDP; on TCP only [`Failing::HugeTexts`] listens.
async fn respond(failing: Failing) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    if matches!(failing, Failing::HugeTexts) {
        let listener = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tell_huge_texts(stream));
            }
        });
    }
    tokio::spawn(async move {
        let (mut buffer, mut asked) = (vec![0; 4096], 0);
        while let Ok((read, client)) = socket.recv_from(&mut buffer).await {
            asked += 1;
            let mut answer = buffer[..read].to_vec();
            let (flags, rcode) = match failing {
                Failing::BlackHole => continue,
                Failing::DiesMidRun if asked > 100 => continue,
                Failing::HugeTexts if is_for_text(&answer) => (0x83, 0x80),
                Failing::DiesMidRun | Failing::HugeTexts | Failing::NxDomain | Failing::NxDomainAfter3s => {
                    (0x81, 0x83)
                }
                Failing::ServFail => (0x81, 0x82),
                Failing::TruncatedWithoutTcp => (0x83, 0x80),
            };
            (answer[2], answer[3]) = (flags, rcode);
            let socket = Arc::clone(&socket);
            tokio::spawn(async move {
                if matches!(failing, Failing::NxDomainAfter3s) {
                    tokio::time::sleep(LATE).await;
                }
                let _sent = socket.send_to(&answer, client).await;
            });
        }
    });
    address
}

/// Where the question ends: behind its name, type and class.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += usize::from(message[at]) + 1;
    }
    at + 5
}

fn is_for_text(message: &[u8]) -> bool {
    let end = question_end(message);
    message[end - 4..end - 2] == [0, 16]
}

/// One record of 250 strings of 255 octets for each question of a connection.
async fn tell_huge_texts(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = usize::from(stream.read_u16().await?);
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        question.truncate(question_end(&question));
        // One answer and nothing more, whatever the question brought.
        (question[2], question[3]) = (0x81, 0x80);
        question[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
        let text: Vec<u8> = std::iter::repeat_n([&[255][..], &[b'x'; 255]].concat(), 250).flatten().collect();
        let size = u16::try_from(text.len()).unwrap().to_be_bytes();
        question.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0]);
        question.extend_from_slice(&size);
        question.extend_from_slice(&text);
        stream.write_u16(u16::try_from(question.len()).unwrap()).await?;
        stream.write_all(&question).await?;
    }
}
