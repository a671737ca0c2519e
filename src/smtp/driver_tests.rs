//! One connection in memory: what it holds of the budget for bodies, how its time is counted, and why it ends.

use std::net::Ipv4Addr;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;
use crate::address::{EmailAddress, Mailbox};
use crate::config;
use crate::smtp::session::{Settings, TlsPolicy};
use crate::smtp::{Body, Client, Noting};

const BUDGET: u64 = 1 << 20;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Anybody;

impl Handler for Anybody {
    async fn recipient(
        &self,
        _: &Client,
        _: Option<&EmailAddress>,
        _: &ForwardPath,
        _: Noting,
    ) -> RecipientAnswer {
        RecipientAnswer::Accepted(Mailbox::Postmaster)
    }

    async fn unserved(&self, _: &Client, unserved: Unserved) -> Reply {
        unserved.reply
    }

    async fn message(&self, _: Envelope, _: Body) -> Reply {
        reply::MESSAGE_ACCEPTED
    }
}

fn settings() -> Settings {
    Settings {
        hostname: "mx.example.test".to_owned(),
        max_message_bytes: BUDGET,
        max_recipients: 10,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(180),
        error_pause: Duration::ZERO,
        stressed_timeout: Duration::from_secs(30),
        tls: TlsPolicy::Unavailable,
    }
}

fn shared() -> Shared<Anybody> {
    let folder = tempfile::tempdir().unwrap();
    Shared {
        budget: Arc::new(Budget::new(BUDGET, BUDGET)),
        busyness: Busyness { seats: Arc::new(Semaphore::new(10)), max_connections: 10 },
        certificates: Certificates::load(&config::Tls::default(), folder.path(), "mx.example.test").unwrap(),
        handler: Arc::new(Anybody),
        patience: Patience::default(),
        refused: Vec::new(),
        room: RoomSwitch::default(),
        settings: SettingsSwitch::new(settings()),
        nearly_over: CancellationToken::new(),
        shutdown: CancellationToken::new(),
        throttle: Arc::new(Throttle::new(10)),
    }
}

/// Says it, and reads up to this.
async fn ask(client: &mut DuplexStream, said: &[u8], until: &str) {
    let (mut reader, mut writer) = tokio::io::split(client);
    let read = async {
        let mut answer = String::new();
        while !answer.contains(until) {
            let mut octets = [0; 4096];
            let count = reader.read(&mut octets).await.unwrap();
            assert!(count > 0, "closed after {answer:?}");
            answer.push_str(&String::from_utf8_lossy(&octets[..count]));
        }
    };
    let (written, ()) = tokio::join!(writer.write_all(said), read);
    written.unwrap();
}

#[tokio::test]
async fn s16_a_body_without_a_message_gives_its_budget_back_while_the_session_goes_on() {
    let shared = shared();
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let session = Session::new(shared.settings.current(), HERE);
    let mut conversation = Conversation::new(server, session, &shared);
    let talk = async {
        ask(&mut client, b"EHLO c\r\n", "MAILMAX").await;
        // Nearly all that one address may have.
        let body = vec![b'x'; 240_000];
        let too_much = format!("BDAT {BUDGET}\r\n");
        for (ender, answer) in [
            (&b"RSET\r\n"[..], "Transaction dropped"),
            (b"EHLO c\r\n", "MAILMAX"),
            (b"HELO c\r\n", "250 mx.example.test"),
            (too_much.as_bytes(), ""),
        ] {
            ask(&mut client, b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n", "Recipient ok").await;
            ask(&mut client, &[b"BDAT 240000\r\n", &body[..]].concat(), "Chunk received").await;
            assert!(shared.budget.is_low_for(HERE), "it is kept");
            assert_eq!((shared.room(HERE), shared.load()), (Room::Scarce, Load::Calm));
            assert_eq!(shared.room(IpAddr::from([127, 0, 0, 2])), Room::Enough, "others have room");
            ask(&mut client, ender, answer).await;
            // Of a chunk there is no answer before its end.
            let given_back = async {
                while answer.is_empty() && shared.budget.is_low_for(HERE) {
                    tokio::task::yield_now().await;
                }
            };
            let waited = timeout(Duration::from_secs(60), given_back).await;
            assert!(waited.is_ok(), "{}", ender.escape_ascii());
            assert!(!shared.budget.is_low_for(HERE), "{}", ender.escape_ascii());
        }
    };
    tokio::select! {
        _ended = conversation.hold() => panic!("the session goes on"),
        () = talk => {}
    }
}

#[tokio::test]
async fn d21_who_keeps_the_budget_low_makes_waits_shrink() {
    let shared = shared();
    assert_eq!((shared.load(), shared.shrunk(Duration::from_secs(60)).as_secs()), (Load::Calm, 60));
    let mut spools = Vec::new();
    for last in 1..=4 {
        let mut spool = Spool::new(Arc::clone(&shared.budget), IpAddr::from([127, 0, 0, last]));
        spool.append(&vec![0; 240_000].into()).await.unwrap();
        spools.push(spool);
    }
    assert_eq!((shared.load(), shared.shrunk(Duration::from_secs(60)).as_secs()), (Load::Stressed, 25));
    assert_eq!(shared.shrunk(Duration::from_secs(2)).as_secs(), 2);
}

#[test]
fn x7_a_body_buys_time_at_its_pace_and_a_burst_only_so_much() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let (grace, latest) = (now + 60 * second, now + 120 * second);
    let mut clock = BodyClock { due: grace, octets: 100, load: Load::Calm };
    clock.count(100, 4096, Load::Calm, latest);
    assert_eq!(clock.due, grace, "nothing has come");
    clock.count(100 + 2048, 4096, Load::Calm, latest);
    assert_eq!(clock.due, grace + second / 2);
    clock.count(1 << 30, 4096, Load::Calm, latest);
    assert_eq!(clock.due, latest, "a burst");
    clock.count(1 << 30, 4096, Load::Calm, latest + 60 * second);
    assert_eq!(clock.due, latest, "time passes, and nothing comes");
    clock.count(1 << 30, 4096, Load::Stressed, now + 30 * second);
    assert_eq!(clock.due, now + 30 * second, "stress");
    clock.count(u64::MAX, 0, Load::Stressed, latest);
    assert_eq!(clock.due, latest, "no pace at all is one octet a second");
}

#[tokio::test]
async fn x7_stress_shortens_transactions_and_sessions_that_have_begun() {
    let shared = shared();
    let (_client, server) = tokio::io::duplex(1 << 16);
    let session = Session::new(shared.settings.current(), HERE);
    let mut conversation = Conversation::new(server, session, &shared);
    let minute = Duration::from_secs(60);
    assert_eq!(conversation.ends() - conversation.began, 120 * minute);
    let seats = Arc::clone(&shared.busyness.seats).acquire_many_owned(10).await.unwrap();
    assert_eq!(conversation.ends() - conversation.began, 30 * minute);
    conversation.session.receive(b"EHLO c\r\nMAIL FROM:<>\r\n");
    while !matches!(conversation.session.next_step(), Step::Receive) {}
    assert_eq!(conversation.ends() - conversation.transaction.at, 15 * minute);
    drop(seats);
    assert_eq!(conversation.ends() - conversation.transaction.at, 60 * minute);
}

#[tokio::test]
async fn x7_stress_reaches_who_does_not_read_and_who_does_not_shake_hands() {
    let (stressed, stress_look) = (Duration::from_millis(50), Duration::from_millis(5));
    let patience = Patience { stressed, stress_look, ..Patience::default() };
    let shared = Shared { patience, ..shared() };
    let waiting = shared.wait_for(Duration::from_secs(3600), std::future::pending::<()>());
    let busy = async {
        tokio::task::yield_now().await;
        Arc::clone(&shared.busyness.seats).acquire_many_owned(10).await.unwrap()
    };
    let both = timeout(Duration::from_secs(60), async { tokio::join!(waiting, busy) }).await;
    assert!(both.unwrap().0.is_none());
}

/// How the end of a session is counted whose client has a pipe so wide, says this, and then does that.
async fn reason(pipe: usize, said: &[u8], then: Then) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = recorder.handle();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let short = Duration::from_millis(200);
    let patience = Patience { handshake: short, write: short, ..Patience::default() };
    let shared = Shared {
        patience,
        settings: SettingsSwitch::new(Settings { tls: TlsPolicy::Offered, ..settings() }),
        ..shared()
    };
    let (mut client, server) = tokio::io::duplex(pipe);
    let session = Session::new(shared.settings.current(), HERE);
    let client = async {
        client.write_all(said).await.unwrap();
        match then {
            Then::Go => drop(client),
            Then::Shake(with) => {
                ask(&mut client, b"STARTTLS\r\n", "Ready").await;
                client.write_all(with).await.unwrap();
                // What the alert is, if there is one, is TLS's affair.
                let _end = client.read_to_end(&mut Vec::new()).await;
            }
            Then::Stay => std::future::pending().await,
            Then::StopTalking => {
                client.shutdown().await.unwrap();
                let _end = client.read_to_end(&mut Vec::new()).await;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = hold_to_its_end(server, session, &shared) => {}
        () = client => {}
    }
    let said = counted.render();
    let line = said.lines().find(|line| line.starts_with("syncmx_smtp_closed_total{")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

enum Then {
    Go,
    Shake(&'static [u8]),
    Stay,
    StopTalking,
}

#[tokio::test]
async fn b9_how_a_session_is_broken_off_is_counted_by_its_reason() {
    const WIDE: usize = 1 << 16;
    assert_eq!(reason(WIDE, b"", Then::Shake(b"EHLO c\r\nMAIL FROM:<>\r\n")).await, "handshake_failed");
    assert_eq!(reason(WIDE, b"", Then::Shake(b"")).await, "handshake_timed_out");
    assert_eq!(reason(64, b"EHLO c\r\n", Then::Stay).await, "write_timed_out");
    assert_eq!(reason(WIDE, b"EHLO c\r\n", Then::Go).await, "reset");
    assert_eq!(reason(WIDE, b"NOOP\r\n", Then::StopTalking).await, "peer_closed");
    assert_eq!(reason(WIDE, b"QUIT\r\n", Then::Stay).await, "quit");
    assert_eq!(Broken::Io(io::ErrorKind::OutOfMemory.into()).name(), "io_error");
}

#[test]
fn a4_strangers_are_listened_to_before_the_banner_and_machines_of_our_own_are_not() {
    let patience = Patience::default();
    for (ip, is_near) in [
        ("127.0.0.9", true),
        ("10.1.2.3", true),
        ("172.16.0.1", true),
        ("192.168.1.1", true),
        ("169.254.0.1", true),
        ("::1", true),
        ("fd00::1", true),
        ("fe80::1", true),
        ("192.0.2.1", false),
        ("172.32.0.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(patience.before_greeting(ip.parse().unwrap()).is_zero(), is_near, "{ip}");
    }
}
