//! X7, X8, X11: many connections that do little, and what a good client notices.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use syncmx::cli::demo::mailer::{Mailer, Security};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::api::Desk;
use crate::app::TestApp;
use crate::clients::{Pinger, ask, connect_from, greeted, p99, resident_kib};
use crate::mail::{Draft, LENA};
use crate::{Row, Scale};

const MANY: &str = "SYNCMX_SMTP__MAX_CONNECTIONS_PER_IP=20000";

/// Where a slow client stands, by its number.
async fn slow(app: &TestApp, number: usize) -> std::io::Result<TcpStream> {
    let mut stream = greeted(app.smtp, number).await?;
    let steps: &[&[u8]] = match number % 4 {
        0 => &[b"MAIL FR"],
        1 => &[b"MAIL FROM:<>\r\n", b"RCPT TO:<postmaster@sync.example.test>\r\n", b"DATA\r\n", b"x"],
        2 => &[b"MAIL FROM:<>\r\n", b"RCPT TO:<postmaster@sync.example.test>\r\n", b"BDAT 30000000\r\nx"],
        _ => &[b"STARTTLS\r\n", b"\x16"],
    };
    let (last, before) = steps.split_last().unwrap();
    for step in before {
        ask(&mut stream, step).await?;
    }
    stream.write_all(last).await?;
    Ok(stream)
}

pub(crate) async fn x7_slowloris(scale: Scale) -> Row {
    let settings = [MANY, "SYNCMX_SMTP__TIMEOUTS__COMMAND=20s", "SYNCMX_SMTP__TIMEOUTS__DATA=20s"];
    let app = TestApp::start_with(&settings).await;
    let desk = Desk::open(&app).await;
    let count = scale.of(2000);
    let mut drippers = JoinSet::new();
    for number in 0..count {
        let Ok(mut stream) = slow(&app, number).await else { continue };
        drippers.spawn(async move {
            let began = Instant::now();
            let mut drip = tokio::time::interval(Duration::from_secs(5));
            let mut rest = [0; 512];
            while began.elapsed() < Duration::from_secs(100) {
                drip.tick().await;
                let is_gone = matches!(stream.try_read(&mut rest), Ok(0 | 1..));
                if is_gone || stream.write_all(b"x").await.is_err() {
                    return true;
                }
            }
            false
        });
    }
    let opened = drippers.len();
    let mut took = Vec::new();
    // R52: a sync address takes 500 a day.
    let mut pace = tokio::time::interval(Duration::from_millis(30));
    while took.len() < 480 {
        let mut mailer = app.connect(&LENA).await;
        for _ in 0..20 {
            pace.tick().await;
            took.push(mail(&mut mailer, &desk, took.len()).await);
        }
    }
    let good = p99(took.clone());
    let closed = drippers.join_all().await.into_iter().filter(|closed| *closed).count();
    Row {
        id: "X7",
        what: format!(
            "slowloris: {opened} connections, an octet every 5 s in a command, DATA, BDAT, handshake"
        ),
        measured: format!(
            "good client: {} mails, p99 MAIL to 250 {:.0} ms; {closed} of {opened} closed by deadline",
            took.len(),
            good.as_secs_f64() * 1e3
        ),
        passed: good < Duration::from_millis(200) && closed == opened,
    }
}

/// Sends a mail, which must be taken, and says how long MAIL to 250 took.
async fn mail(mailer: &mut Mailer, desk: &Desk, number: usize) -> Duration {
    let raw = LENA.sign(&Draft { id: &number.to_string(), ..Draft::default() }.raw());
    let mailing = Instant::now();
    let answers = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &raw).await.unwrap();
    assert_eq!(answers.decisive().code, 250, "{}", answers.decisive().text);
    mailing.elapsed()
}

/// With nearly all seats taken for all of the time: whoever is closed is followed by another.
pub(crate) async fn x7_slowloris_under_stress(scale: Scale) -> Row {
    let count = scale.of(2000);
    // Nine of ten seats taken is stress; there is one left for whoever has a mail.
    let seats = format!("SYNCMX_SMTP__MAX_CONNECTIONS={}", count * 100 / 93 + 1);
    let app = Arc::new(TestApp::start_with(&[MANY, &seats]).await);
    let desk = Desk::open(&app).await;
    let began = Instant::now();
    let mut drippers = JoinSet::new();
    for number in 0..count {
        drippers.spawn(drip_again_and_again(Arc::clone(&app), number, began));
    }
    let (mut took, mut turned_away) = (Vec::new(), 0);
    // R52: a sync address takes 500 a day.
    let mut pace = tokio::time::interval(Duration::from_millis(250));
    let security = Security::starttls().unwrap();
    while began.elapsed() < UNDER_STRESS && took.len() < 480 {
        let Ok(mut mailer) = Mailer::connect(app.smtp, LENA.client, LENA.helo, &security).await else {
            turned_away += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        for _ in 0..20 {
            pace.tick().await;
            took.push(mail(&mut mailer, &desk, took.len()).await);
        }
    }
    let lives: Vec<Duration> = drippers.join_all().await.into_iter().flatten().collect();
    let longest = lives.iter().max().copied().unwrap_or_default();
    let good = p99(took.clone());
    Row {
        id: "X7",
        what: format!(
            "slowloris under stress: {count} connections of {seats}, each followed by another",
            seats = count * 100 / 93 + 1
        ),
        measured: format!(
            "good client: {} mails, p99 MAIL to 250 {:.0} ms, {turned_away} times turned away; {} closed, the longest after \
             {:.0} s",
            took.len(),
            good.as_secs_f64() * 1e3,
            lives.len(),
            longest.as_secs_f64()
        ),
        passed: good < Duration::from_millis(200)
            && took.len() > 100
            && lives.len() >= 2 * count
            && longest <= Duration::from_secs(30),
    }
}

const UNDER_STRESS: Duration = Duration::from_secs(120);

/// How long each connection of one slow client lasted that came to its end in time.
async fn drip_again_and_again(app: Arc<TestApp>, number: usize, began: Instant) -> Vec<Duration> {
    let mut lives = Vec::new();
    while began.elapsed() < UNDER_STRESS {
        let opened = Instant::now();
        let Ok(mut stream) = slow(&app, number).await else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        let mut drip = tokio::time::interval(Duration::from_secs(5));
        let mut rest = [0; 512];
        loop {
            tokio::select! {
                _ = drip.tick() => if stream.write_all(b"x").await.is_err() { break },
                read = stream.read(&mut rest) => {
                    // The last words, or the end.
                    let _read = read;
                    break;
                }
                () = tokio::time::sleep_until((began + UNDER_STRESS).into()) => return lives,
            }
        }
        if opened.elapsed() > Duration::from_secs(1) {
            lives.push(opened.elapsed());
        } else {
            // Turned away: it comes again.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    lives
}

pub(crate) async fn x8_idle(scale: Scale) -> Row {
    let count = scale.of(10_000);
    let cap = format!("SYNCMX_SMTP__MAX_CONNECTIONS={}", count + 100);
    let app = TestApp::start_with(&[MANY, &cap]).await;
    let mut open = Vec::new();
    for number in 0..100 {
        open.push(greeted(app.smtp, number).await.unwrap());
    }
    let before = resident_kib(app.pid());
    for number in 100..count + 100 {
        open.push(greeted(app.smtp, number).await.unwrap());
    }
    let after = resident_kib(app.pid());
    let began = Instant::now();
    let mut over = connect_from(app.smtp, 0).await.unwrap();
    let turned_away = ask(&mut over, b"").await.unwrap_or_default();
    let waited = began.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let each = (after - before) as f64 / count as f64;
    Row {
        id: "X8",
        what: format!("{count} idle connections in clear, then one over the cap"),
        measured: format!(
            "{each:.1} KiB a connection; `{}` after {:.1} ms",
            turned_away.get(..9).unwrap_or_default(),
            waited.as_secs_f64() * 1e3
        ),
        passed: each <= 15.0 && turned_away.starts_with("421 ") && waited < Duration::from_millis(100),
    }
}

/// A flood of handshakes from many addresses, with each kind of certificate; then from one.
pub(crate) async fn x11_handshakes(scale: Scale) -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("rsa.pem"), folder.path().join("rsa-key.pem"));
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let made = rcgen::CertificateParams::new(["mx.example.test".to_owned()]).unwrap().self_signed(&pair);
    std::fs::write(&certificate, made.unwrap().pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let rsa = [
        MANY.to_owned(),
        format!("SYNCMX_TLS__CERTIFICATE={}", certificate.display()),
        format!("SYNCMX_TLS__KEY={}", key.display()),
    ];
    let rsa: Vec<&str> = rsa.iter().map(String::as_str).collect();
    vec![
        handshakes(scale, &[MANY], "ECDSA P-256, from many addresses", From::Many).await,
        handshakes(scale, &rsa, "RSA 2048, from many addresses", From::Many).await,
        handshakes(scale, &rsa, "RSA 2048, from one address", From::One).await,
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Many,
    One,
}

async fn handshakes(scale: Scale, settings: &[&str], what: &str, from: From) -> Row {
    let app = TestApp::start_with(settings).await;
    let pinger = Pinger::start(app.smtp);
    let (began, seconds) = (Instant::now(), scale.of(60) as u64);
    let mut flood = JoinSet::new();
    let security = Security::starttls().unwrap();
    for flooder in 0..16_u8 {
        let (server, security) = (app.smtp, security.clone());
        flood.spawn(async move {
            let (mut done, mut tries) = (0_u32, 0_u32);
            while began.elapsed() < Duration::from_secs(seconds) {
                let [_, _, high, low] = tries.to_be_bytes();
                let client = match from {
                    From::Many => Ipv4Addr::new(127, flooder + 2, high, low),
                    From::One => Ipv4Addr::new(127, 2, 0, 1),
                };
                let mailer = Mailer::connect(server, client.into(), LENA.helo, &security);
                done += u32::from(mailer.await.is_ok());
                tries += 1;
            }
            (done, tries)
        });
    }
    let all = flood.join_all().await;
    let (done, tries) = all.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let took = began.elapsed().as_secs_f64();
    let noop = pinger.p99().await;
    let is_limited = f64::from(done) <= 300.0 + 5.0 * took + 16.0;
    Row {
        id: "X11",
        what: format!("new TLS sessions without pause, 16 at once, {seconds} s, {what}"),
        measured: format!(
            "{:.0} handshakes/s, client included, {} turned down with 454; NOOP in clear p99 {:.1} ms",
            f64::from(done) / took,
            tries - done,
            noop.as_secs_f64() * 1e3
        ),
        passed: noop < Duration::from_millis(200) && (from == From::Many || is_limited),
    }
}
