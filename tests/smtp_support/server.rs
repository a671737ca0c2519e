//! The server's life: time limits, TLS, panics, shutdown, caps, temporary files.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use syncmx::config;
use syncmx::smtp::listener::{Patience, Server};
use syncmx::smtp::session::{Room, TlsPolicy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::script::Script;
use crate::wire::{Cut, Peer, Running, certificates, serve, smtp_config};

/// What is to be over soon.
pub(crate) const SHORT: Duration = Duration::from_millis(100);
/// What is to end while the test waits, but not between a few questions and answers on a loaded machine.
const LONG: Duration = Duration::from_secs(3);

pub(crate) fn config() -> config::Smtp {
    smtp_config(&Script::default())
}

pub(crate) fn start() -> Running {
    serve(&config(), TlsPolicy::Offered, Patience::default())
}

pub(crate) async fn greeted(running: &Running) -> Peer {
    let mut peer = Peer::connect(running.address).await;
    assert!(peer.reply().await.starts_with("220 "));
    assert!(peer.ask("EHLO client.example").await.starts_with("250-"));
    peer
}

/// Up to the 354.
pub(crate) async fn in_data(running: &Running, sender: &str) -> Peer {
    let mut peer = greeted(running).await;
    assert!(peer.ask(&format!("MAIL FROM:<{sender}>")).await.starts_with("250 "));
    assert!(peer.ask("RCPT TO:<ana@sync.example.test>").await.starts_with("250 "));
    assert!(peer.ask("DATA").await.starts_with("354 "));
    peer
}

pub(crate) async fn stop(running: Running) {
    running.shutdown.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let config = config::Smtp { listen: vec![address], ..config() };
    let error = Server::bind(&config, TlsPolicy::Offered, certificates().0.clone()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}: address already in use"));
}

#[tokio::test]
async fn ipv6_and_several_addresses_are_served() {
    let ipv6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
    let config = config::Smtp { listen: vec![config().listen[0], ipv6], ..config() };
    let Ok(server) = Server::bind(&config, TlsPolicy::Offered, certificates().0.clone()) else {
        println!("skipped: IPv6 absent");
        return;
    };
    let addresses = server.local_addrs();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let recorder = Arc::new(crate::recorder::Recorder::default());
    let task = tokio::spawn(server.serve(recorder, shutdown.clone()));
    for address in addresses {
        assert!(Peer::connect(address).await.reply().await.starts_with("220 "), "{address}");
    }
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn d21_an_idle_client_and_a_dripping_one_are_closed_by_the_same_deadline() {
    let timeouts = config::Timeouts { command: LONG, data: Duration::from_secs(60) };
    let running = serve(&config::Smtp { timeouts, ..config() }, TlsPolicy::Offered, Patience::default());
    let mut idle = greeted(&running).await;
    assert!(idle.reply().await.starts_with("421 4.4.2 "));
    let mut dripping = greeted(&running).await;
    let begun = Instant::now();
    let mut drip = tokio::time::interval(Duration::from_millis(50));
    while begun.elapsed() < LONG + SHORT {
        drip.tick().await;
        dripping.send(b"N", Cut::Whole).await;
    }
    assert!(dripping.reply().await.starts_with("421 4.4.2 "));
    stop(running).await;
}

#[tokio::test]
async fn c21_a_slow_recipient_look_up_is_451_4_3_0() {
    let running = serve(&config(), TlsPolicy::Offered, Patience { recipient: SHORT, ..Patience::default() });
    let mut peer = greeted(&running).await;
    peer.ask("MAIL FROM:<a@client.example>").await;
    assert!(peer.ask("RCPT TO:<hang@sync.example.test>").await.starts_with("451 4.3.0 "));
    assert!(peer.ask("RCPT TO:<ana@sync.example.test>").await.starts_with("250 2.1.5 "));
    stop(running).await;
}

#[tokio::test]
async fn d22_a_slow_filing_is_451_4_3_0() {
    let running = serve(&config(), TlsPolicy::Offered, Patience { message: SHORT, ..Patience::default() });
    let mut peer = in_data(&running, "hang@client.example").await;
    assert!(peer.ask("x\r\n.").await.starts_with("451 4.3.0 "));
    assert!(peer.ask("NOOP").await.starts_with("250 "));
    stop(running).await;
}

#[tokio::test]
async fn d20_a_client_that_drops_in_data_leaves_nothing() {
    let running = start();
    let mut peer = in_data(&running, "a@client.example").await;
    peer.send(b"half a mess", Cut::Whole).await;
    drop(peer);
    let recorder = Arc::clone(&running.recorder);
    stop(running).await;
    assert!(recorder.messages.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_panic_in_one_connection_stops_no_other() {
    let running = start();
    let mut other = in_data(&running, "a@client.example").await;
    let mut peer = in_data(&running, "panic@client.example").await;
    peer.send(b"x\r\n.\r\n", Cut::Whole).await;
    assert_eq!(peer.line().await, None, "no 250 without an answer");
    assert!(other.ask("x\r\n.").await.starts_with("250 2.0.0 "));
    let mut peer = greeted(&running).await;
    peer.ask("MAIL FROM:<>").await;
    peer.send(b"RCPT TO:<panic@sync.example.test>\r\n", Cut::Whole).await;
    assert_eq!(peer.line().await, None);
    greeted(&running).await;
    stop(running).await;
}

#[tokio::test]
async fn d8_a_body_over_256_kib_arrives_whole() {
    let running = start();
    for octets in [262_140, 262_150, 2_000_003] {
        let mut peer = in_data(&running, "a@client.example").await;
        let line: Vec<u8> = (0..octets).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
        peer.send(&[&line[..], b"\r\n.\r\n"].concat(), Cut::Whole).await;
        assert!(peer.reply().await.starts_with("250 2.0.0 "));
        let recorded = running.recorder.messages.lock().unwrap().pop().unwrap();
        let body =
            recorded.strip_prefix(b"from=<a@client.example> to=<ana@sync.example.test> body=").unwrap();
        assert!(body == [&line[..], b"\r\n"].concat(), "{octets}");
    }
    stop(running).await;
}

#[tokio::test]
async fn c13_x4_with_the_disk_nearly_full_mail_is_put_off_and_taken_again_later() {
    let running = start();
    let mut under_way = in_data(&running, "a@client.example").await;
    running.room.set(Room::Scarce);
    let mut peer = greeted(&running).await;
    assert!(peer.ask("MAIL FROM:<>").await.starts_with("452 4.3.1 "));
    assert!(under_way.ask("x\r\n.").await.starts_with("250 2.0.0 "));
    running.room.set(Room::Enough);
    assert!(peer.ask("MAIL FROM:<>").await.starts_with("250 2.1.0 "));
    stop(running).await;
}

#[tokio::test]
async fn a2_over_the_cap_of_connections_a_client_is_turned_away_at_once() {
    let running =
        serve(&config::Smtp { max_connections: 1, ..config() }, TlsPolicy::Offered, Patience::default());
    let first = greeted(&running).await;
    let mut second = Peer::connect(running.address).await;
    assert!(second.reply().await.starts_with("421 4.7.0 "));
    assert_eq!(second.line().await, None);
    drop(first);
    stop(running).await;
}

#[tokio::test]
async fn x14_shutdown_finishes_the_message_on_its_way_and_turns_idle_clients_away() {
    let running = start();
    let mut idle = greeted(&running).await;
    let mut mid_command = greeted(&running).await;
    mid_command.send(b"MAIL FROM:<a@cl", Cut::Whole).await;
    let mut busy = in_data(&running, "a@client.example").await;
    busy.send(b"x\r\n", Cut::Whole).await;
    running.shutdown.cancel();
    for peer in [&mut idle, &mut mid_command] {
        assert!(peer.reply().await.starts_with("421 4.3.2 "));
        assert_eq!(peer.line().await, None);
    }
    busy.send(b"y\r\n.\r\n", Cut::Whole).await;
    assert!(busy.reply().await.starts_with("250 2.0.0 "));
    assert!(busy.reply().await.starts_with("421 4.3.2 "));
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody new is taken");
}

#[tokio::test]
async fn a4_s4_who_talks_before_the_banner_is_closed_a_proxy_header_included() {
    let patience = Patience { greeting_nearby: Duration::from_secs(5), ..Patience::default() };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    for early in [&b"EHLO c\r\nMAIL FROM:<a@b.example>\r\n"[..], b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n"] {
        let mut peer = Peer::connect(running.address).await;
        peer.send(early, Cut::Whole).await;
        assert!(peer.reply().await.starts_with("554 5.5.1 "));
        assert_eq!(peer.line().await, None);
    }
    stop(running).await;
}

#[tokio::test]
async fn a2_one_address_has_so_many_connections_at_once() {
    let running = serve(
        &config::Smtp { max_connections_per_ip: 2, ..config() },
        TlsPolicy::Offered,
        Patience::default(),
    );
    let (mut first, _second) = (greeted(&running).await, greeted(&running).await);
    assert!(Peer::connect(running.address).await.reply().await.starts_with("421 4.7.0 "));
    assert_eq!(first.ask("QUIT").await, "221 2.0.0 Bye");
    assert_eq!(first.line().await, None);
    drop(first);
    // The place is given back when the server has seen the client go.
    let mut tries = 0;
    while !Peer::connect(running.address).await.reply().await.starts_with("220 ") {
        tries += 1;
        assert!(tries < 1000);
        tokio::task::yield_now().await;
    }
    stop(running).await;
}

#[tokio::test]
async fn x7_a_body_that_drips_is_closed_however_regularly() {
    let patience = Patience { body_grace: LONG, body_octets_per_second: 1000, ..Patience::default() };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    let mut dripping = in_data(&running, "a@client.example").await;
    let (begun, mut drip) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    while begun.elapsed() < LONG + 2 * SHORT {
        drip.tick().await;
        dripping.send(b"x", Cut::Whole).await;
    }
    assert!(dripping.reply().await.starts_with("421 4.4.2 "));
    let mut paced = in_data(&running, "a@client.example").await;
    let (begun, mut pace) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    while begun.elapsed() < LONG + 2 * SHORT {
        pace.tick().await;
        paced.send(&[b'x'; 100], Cut::Whole).await;
    }
    assert!(paced.ask("\r\n.").await.starts_with("250 2.0.0 "));
    stop(running).await;
}

#[tokio::test]
async fn x7_a_session_ends_at_its_absolute_deadline() {
    let patience = Patience { session: LONG, ..Patience::default() };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    let mut peer = greeted(&running).await;
    let mut asked = 0;
    while peer.ask("RCPT TO:<>").await.starts_with("501 ") && asked < 3 {
        asked += 1;
    }
    assert!(peer.reply().await.starts_with("421 4.4.2 "));
    stop(running).await;
}

#[tokio::test]
async fn x7_a_session_ends_though_it_never_pauses_for_breath() {
    let patience = Patience { session: Duration::from_millis(200), ..Patience::default() };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
    let (mut reader, mut writer) = stream.split();
    writer.write_all(b"EHLO c\r\n").await.unwrap();
    let mail = b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 65536 LAST\r\n";
    // So much of it that the thousand of a session do not come through before.
    let mail = [&mail[..], &[b'x'; 65536], &b"NOOP\r\n".repeat(90)].concat();
    // It waits for no answer, and there is always something to be read.
    let flood = async { while writer.write_all(&mail).await.is_ok() {} };
    let said = async {
        let mut said = Vec::new();
        let _end = reader.read_to_end(&mut said).await;
        String::from_utf8(said).unwrap()
    };
    let (said, ()) = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(said, flood) })
        .await
        .expect("the server closes");
    assert!(said.ends_with("421 4.4.2 Waited too long for you, closing\r\n"), "{:?}", said.lines().last());
    stop(running).await;
}

/// Up to where a chunk of a message has come.
async fn between_chunks(running: &Running) -> Peer {
    let mut peer = greeted(running).await;
    assert!(peer.ask("MAIL FROM:<a@client.example>").await.starts_with("250 "));
    assert!(peer.ask("RCPT TO:<ana@sync.example.test>").await.starts_with("250 "));
    peer.send(b"BDAT 3\r\nabc", Cut::Whole).await;
    assert!(peer.reply().await.starts_with("250 2.0.0 Chunk "));
    peer
}

#[tokio::test]
async fn x7_a_transaction_ends_at_its_absolute_deadline_whatever_comes_in_it() {
    let patience = Patience { transaction: LONG, ..Patience::default() };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    let mut peer = between_chunks(&running).await;
    let mut chunks = 0;
    let last = loop {
        peer.send(b"BDAT 1\r\nx", Cut::Whole).await;
        let reply = peer.reply().await;
        if !reply.starts_with("250 2.0.0 Chunk ") {
            break reply;
        }
        chunks += 1;
        assert!(chunks < 1_000_000);
    };
    assert!(last.starts_with("421 4.4.2 "), "{last}");
    let mut silent = greeted(&running).await;
    assert!(silent.ask("MAIL FROM:<a@client.example>").await.starts_with("250 "));
    assert!(silent.reply().await.starts_with("421 4.4.2 "));
    // Each has its own.
    let mut peer = greeted(&running).await;
    tokio::time::sleep(LONG + SHORT).await;
    for command in ["MAIL FROM:<>", "RCPT TO:<postmaster>", "DATA", "x\r\n."] {
        assert!(peer.ask(command).await.starts_with(if command == "DATA" { "354" } else { "250" }));
    }
    stop(running).await;
}

#[tokio::test]
async fn x7_a_message_that_is_coming_in_outlives_its_session_and_nothing_else_does() {
    let patience = Patience { session: LONG, ..Patience::default() };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    let (mut data, mut chunks) =
        (in_data(&running, "a@client.example").await, between_chunks(&running).await);
    tokio::time::sleep(LONG + SHORT).await;
    assert!(data.ask("x\r\n.").await.starts_with("250 2.0.0 Message "));
    assert!(data.reply().await.starts_with("421 4.4.2 "));
    chunks.send(b"BDAT 1 LAST\r\nd", Cut::Whole).await;
    assert!(chunks.reply().await.starts_with("250 2.0.0 Message "));
    assert!(chunks.reply().await.starts_with("421 4.4.2 "));
    stop(running).await;
}

#[tokio::test]
async fn x7_a_burst_does_not_pay_for_silence() {
    let patience = Patience {
        body_grace: Duration::from_millis(200),
        // What comes would last for hours.
        body_octets_per_second: 1,
        ..Patience::default()
    };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    let mut bursting = in_data(&running, "a@client.example").await;
    for _ in 0..10 {
        bursting.send(&[b'x'; 10_000], Cut::Whole).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bursting.reply().await.starts_with("421 4.4.2 "));
    stop(running).await;
}

#[tokio::test]
async fn s16_x7_chunks_that_drip_are_closed_as_data_is_and_so_is_silence_between_them() {
    let patience = Patience { body_grace: LONG, body_octets_per_second: 1000, ..Patience::default() };
    let running = serve(&config(), TlsPolicy::Offered, patience);
    let (mut silent, mut dripping, mut paced) =
        (between_chunks(&running).await, between_chunks(&running).await, between_chunks(&running).await);
    let (begun, mut pace) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    let piece = [&b"BDAT 100\r\n"[..], &[b'x'; 100]].concat();
    let mut chunks = 0;
    while begun.elapsed() < LONG + 2 * SHORT {
        pace.tick().await;
        dripping.send(b"BDAT 1\r\nx", Cut::Whole).await;
        paced.send(&piece, Cut::Whole).await;
        chunks += 1;
    }
    assert!(silent.reply().await.starts_with("421 4.4.2 "));
    let mut last = dripping.reply().await;
    while last.starts_with("250 2.0.0 Chunk ") {
        last = dripping.reply().await;
    }
    assert!(last.starts_with("421 4.4.2 "), "{last}");
    paced.send(b"BDAT 0 LAST\r\n", Cut::Whole).await;
    for _ in 0..chunks {
        assert!(paced.reply().await.starts_with("250 2.0.0 Chunk "));
    }
    assert!(paced.reply().await.starts_with("250 2.0.0 Message "));
    stop(running).await;
}

#[tokio::test]
async fn d21_x7_stress_reaches_those_who_wait_already() {
    let patience = Patience { stressed: SHORT, stress_look: SHORT / 4, ..Patience::default() };
    let running = serve(&config::Smtp { max_connections: 10, ..config() }, TlsPolicy::Offered, patience);
    let mut idle = greeted(&running).await;
    let mut silent_in_data = in_data(&running, "a@client.example").await;
    tokio::time::sleep(3 * SHORT).await;
    assert!(idle.ask("NOOP").await.starts_with("250 "), "five minutes are not over, and nobody is stressed");
    // They come before the first two can be told to go.
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(Peer::connect(running.address).await);
    }
    assert!(idle.reply().await.starts_with("421 4.4.2 "));
    assert!(silent_in_data.reply().await.starts_with("421 4.4.2 "));
    stop(running).await;
}

/// Asks for this recipient, in one session after the other, until the answer is another one than this; how often it
/// was this, and the other.
async fn refused(running: &Running, recipient: &str, expected: &str) -> (usize, String) {
    let mut refused = 0;
    loop {
        let mut peer = greeted(running).await;
        peer.ask("MAIL FROM:<a@client.example>").await;
        // The session itself has twenty.
        for _ in 0..20 {
            let answer = peer.ask(&format!("RCPT TO:<{recipient}>")).await;
            if answer != expected {
                return (refused, answer);
            }
            refused += 1;
            assert!(refused < 1000, "there is a limit");
        }
    }
}

#[tokio::test]
async fn s15_who_tries_to_relay_has_the_budget_of_those_who_try_out_addresses() {
    let running = start();
    let expected = "550 5.7.1 We do not serve this domain and do not relay";
    let (refused, last) = refused(&running, "u@other.example", expected).await;
    assert!((100..110).contains(&refused), "{refused}");
    assert_eq!(last, "421 4.7.0 Too many errors, closing");
    let noted = running.recorder.noted_guesses.load(Ordering::Relaxed);
    assert!(
        noted <= refused && refused <= noted + 1,
        "{noted} traces of {refused}: what is over is not noted"
    );
    assert!(Peer::connect(running.address).await.reply().await.starts_with("421 4.7.0 "));
    stop(running).await;
}

/// Through a balancer, from this address of a stranger; up to the answer to MAIL.
async fn stranger(running: &Running, last: u8) -> Option<Peer> {
    let mut peer = Peer::connect(running.address).await;
    peer.send(format!("PROXY TCP4 192.0.2.{last} 192.0.2.200 1000 25\r\n").as_bytes(), Cut::Whole).await;
    if !peer.reply().await.starts_with("220 ") {
        return None;
    }
    assert!(peer.ask("EHLO c").await.starts_with("250"));
    assert!(peer.ask("MAIL FROM:<a@client.example>").await.starts_with("250 "));
    Some(peer)
}

#[tokio::test]
async fn s15_a_network_that_tries_out_addresses_ends_its_sessions_and_its_good_senders_are_served() {
    let config = config::Smtp { max_connections_per_ip: 50, ..behind_a_balancer() };
    let patience = Patience { greeting: Duration::ZERO, ..Patience::default() };
    let running = serve(&config, TlsPolicy::Offered, patience);
    let unknown = "RCPT TO:<unknown@sync.example.test>";
    // Five addresses of a /26, which has four hundred: the fifth is closed though it has had few of its own.
    let mut answered = [0_usize; 6];
    for last in 1..=5 {
        'address: while let Some(mut peer) = stranger(&running, last).await {
            for _ in 0..20 {
                if !peer.ask(unknown).await.starts_with("550 5.1.1 ") {
                    break 'address;
                }
                answered[usize::from(last)] += 1;
                assert!(answered[usize::from(last)] < 150, "there is a limit");
            }
        }
    }
    assert!(answered[1] >= 100 && answered[4] > 90, "{answered:?}");
    assert!(answered[5] < 60, "{answered:?}");
    // A neighbour whose recipient is: served, and one old address among its recipients does not end it.
    let mut good = stranger(&running, 6).await.expect("let in");
    assert!(good.ask("RCPT TO:<ana@sync.example.test>").await.starts_with("250 2.1.5 "));
    assert!(good.ask(unknown).await.starts_with("550 5.1.1 "));
    assert!(good.ask("DATA").await.starts_with("354 "));
    assert!(good.ask("x\r\n.").await.starts_with("250 2.0.0 "));
    stop(running).await;
}

#[tokio::test]
async fn s15_who_writes_to_addresses_that_are_off_has_a_budget_of_traces_and_is_served_all_the_same() {
    let running = start();
    let expected = "550 5.2.1 This address is no longer in use";
    let (refused, last) = refused(&running, "off@sync.example.test", expected).await;
    assert!((200..1000).contains(&refused), "{refused}");
    let noted = running.recorder.noted_others.load(Ordering::Relaxed);
    assert!(
        noted <= refused && refused <= noted + 1,
        "{noted} traces of {refused}: what is over is not noted"
    );
    assert_eq!(last, "421 4.7.0 Too many errors, closing");
    in_data(&running, "a@client.example").await;
    stop(running).await;
}

#[tokio::test]
async fn a4_who_is_near_is_greeted_at_once_and_strangers_are_listened_to_first() {
    let patience = Patience { greeting: Duration::from_secs(3600), ..Patience::default() };
    let config = config::Smtp { proxy_protocol_from: vec!["127.0.0.2/32".to_owned()], ..config() };
    let running = serve(&config, TlsPolicy::Offered, patience);
    greeted(&running).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let mut peer = Peer::on(socket.connect(running.address).await.unwrap());
    peer.send(b"PROXY TCP4 192.0.2.1 192.0.2.200 1000 25\r\n", Cut::Whole).await;
    peer.send(b"EHLO c\r\n", Cut::Whole).await;
    assert!(peer.reply().await.starts_with("554 5.5.1 "));
    assert!(!Patience::default().greeting.is_zero());
    stop(running).await;
}

#[tokio::test]
async fn a2_who_connects_while_the_server_drains_is_told_421_4_3_2() {
    let running = start();
    let mut busy = in_data(&running, "a@client.example").await;
    running.shutdown.cancel();
    for _ in 0..3 {
        let mut late = Peer::connect(running.address).await;
        assert!(late.reply().await.starts_with("421 4.3.2 "));
        assert_eq!(late.line().await, None);
    }
    busy.send(b"y\r\n.\r\n", Cut::Whole).await;
    assert!(busy.reply().await.starts_with("250 2.0.0 "));
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody new is taken");
}

#[tokio::test]
async fn a2_who_waits_in_the_queue_when_the_server_stops_is_told_421_4_3_2() {
    let server = Server::bind(&config(), TlsPolicy::Offered, certificates().0.clone()).unwrap();
    let address = server.local_addrs()[0];
    // Connected while nobody accepts, and nobody ever will.
    let mut waiting = Peer::connect(address).await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    shutdown.cancel();
    server.serve(Arc::new(crate::recorder::Recorder::default()), shutdown).await;
    assert!(waiting.reply().await.starts_with("421 4.3.2 "));
    assert_eq!(waiting.line().await, None);
}

#[tokio::test]
async fn x15_what_waits_in_the_queue_of_a_socket_that_was_handed_over_is_left_to_the_next_server() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let serve = |shutdown| {
        let handed = vec![socket.try_clone().unwrap()];
        let server = Server::on(handed, &config(), TlsPolicy::Offered, certificates().0.clone()).unwrap();
        server.serve(Arc::new(crate::recorder::Recorder::default()), shutdown)
    };
    let mut waiting = Peer::connect(socket.local_addr().unwrap()).await;
    let stopped = tokio_util::sync::CancellationToken::new();
    stopped.cancel();
    serve(stopped).await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(serve(shutdown.clone()));
    assert!(waiting.reply().await.starts_with("220 "));
    shutdown.cancel();
    drop(waiting);
    task.await.unwrap();
}

fn behind_a_balancer() -> config::Smtp {
    config::Smtp {
        proxy_protocol_from: vec!["127.0.0.0/8".to_owned()],
        max_connections_per_ip: 1,
        ..config()
    }
}

#[tokio::test]
async fn s5_s6_the_client_is_whom_the_trusted_balancer_names_and_the_balancer_is_never_throttled() {
    let running = serve(&behind_a_balancer(), TlsPolicy::Offered, Patience::default());
    let mut peers = Vec::new();
    for host in 1..=5 {
        let mut peer = Peer::connect(running.address).await;
        peer.send(format!("PROXY TCP4 192.0.2.{host} 192.0.2.200 1000 25\r\n").as_bytes(), Cut::Whole).await;
        assert!(peer.reply().await.starts_with(if host <= 4 { "220 " } else { "421 4.7.0 " }), "{host}");
        peers.push(peer);
    }
    let transaction = ["EHLO c", "MAIL FROM:<>", "RCPT TO:<postmaster>", "DATA", "x\r\n."];
    for command in transaction {
        assert!(peers[0].ask(command).await.starts_with(if command == "DATA" { "354" } else { "250" }));
    }
    let client = running.recorder.clients.lock().unwrap().pop().unwrap();
    assert_eq!(client.ip, std::net::IpAddr::from([192, 0, 2, 1]));
    let mut check = Peer::connect(running.address).await;
    check.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", Cut::Single).await;
    assert!(check.reply().await.starts_with("220 "), "LOCAL is a health check");
    stop(running).await;
}

#[tokio::test]
async fn s5_no_header_a_wrong_one_or_none_in_time_is_closed_without_a_word() {
    let patience = Patience { proxy_header: SHORT, ..Patience::default() };
    let running = serve(&behind_a_balancer(), TlsPolicy::Offered, patience);
    let sent =
        [&b""[..], b"EHLO c\r\n", b"PROXY TCP4 x", b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x00", &[b'P'; 3000]];
    for bytes in sent {
        let mut peer = Peer::connect(running.address).await;
        peer.send(bytes, Cut::Whole).await;
        assert_eq!(peer.line().await, None, "{}", bytes.escape_ascii());
    }
    stop(running).await;
    let running = serve(&behind_a_balancer(), TlsPolicy::Offered, Patience::default());
    let mut peer = Peer::connect(running.address).await;
    peer.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\nEHLO c\r\n", Cut::Whole).await;
    assert!(peer.reply().await.starts_with("554 5.5.1 "), "early talk behind the header");
    stop(running).await;
}

#[tokio::test]
async fn x15_on_a_socket_that_is_handed_over_nobody_is_refused_during_a_restart() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    for _ in 0..2 {
        // Connected while nobody accepts.
        let mut waiting = Peer::connect(address).await;
        let handed = vec![socket.try_clone().unwrap()];
        let server = Server::on(handed, &config(), TlsPolicy::Offered, certificates().0.clone()).unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let task =
            tokio::spawn(server.serve(Arc::new(crate::recorder::Recorder::default()), shutdown.clone()));
        assert!(waiting.reply().await.starts_with("220 "));
        shutdown.cancel();
        assert!(waiting.reply().await.starts_with("421 4.3.2 "));
        drop(waiting);
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_network_that_is_none_is_one_clear_line() {
    let config = config::Smtp { proxy_protocol_from: vec!["10.0.0.0/99".to_owned()], ..config() };
    let error = Server::bind(&config, TlsPolicy::Offered, certificates().0.clone()).unwrap_err();
    assert!(error.to_string().starts_with("smtp.proxy_protocol_from: `10.0.0.0/99` is no network"));
}

#[tokio::test]
async fn x14_what_outlives_the_grace_period_is_cut_off_without_a_250() {
    let running = serve(&config(), TlsPolicy::Offered, Patience { grace: SHORT, ..Patience::default() });
    let mut peer = in_data(&running, "a@client.example").await;
    peer.send(b"half a line", Cut::Whole).await;
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert_eq!(peer.line().await, None);
}

#[tokio::test]
async fn x14_a_message_whose_filing_hangs_is_451_before_the_grace_period_ends() {
    let grace = Duration::from_secs(2);
    let running = serve(&config(), TlsPolicy::Offered, Patience { grace, ..Patience::default() });
    let mut peer = in_data(&running, "hang@client.example").await;
    peer.send(b"x\r\n.\r\n", Cut::Whole).await;
    running.shutdown.cancel();
    assert!(peer.reply().await.starts_with("451 4.3.0 "));
    running.task.await.unwrap();
}

#[tokio::test]
async fn x11_a_flood_of_handshakes_gets_454_and_mail_in_clear_is_taken() {
    let running = start();
    let (mut granted, began) = (0, Instant::now());
    let last = loop {
        let mut peer = greeted(&running).await;
        let answer = peer.ask("STARTTLS").await;
        if !answer.starts_with("220 ") {
            break (answer, peer);
        }
        granted += 1;
        // Five a second come back meanwhile.
        assert!(granted < 400 + 6 * began.elapsed().as_secs(), "there is a limit");
    };
    let (answer, mut peer) = last;
    assert!(granted >= 300 && answer.starts_with("454 4.7.0 "), "{granted} {answer}");
    assert!(peer.ask("MAIL FROM:<a@client.example>").await.starts_with("250 "));
    stop(running).await;
}

#[tokio::test]
async fn a_network_in_refuse_from_that_is_none_is_one_clear_line() {
    let config = config::Smtp { refuse_from: vec!["10.0.0.0/99".to_owned()], ..config() };
    let error = Server::bind(&config, TlsPolicy::Offered, certificates().0.clone()).unwrap_err();
    assert!(error.to_string().starts_with("smtp.refuse_from: `10.0.0.0/99` is no network"));
}

#[tokio::test]
async fn x7_a_client_that_never_reads_is_closed_by_the_write_timeout() {
    let running = serve(&config(), TlsPolicy::Offered, Patience { write: SHORT, ..Patience::default() });
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n").await.unwrap();
    let block = b"BDAT 1\r\nx".repeat(10_000);
    let flood = async { while stream.write_all(&block).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), flood).await.expect("the server closes");
    stop(running).await;
}

async fn tls_stream(
    running: &Running,
    name: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut buffer = [0; 512];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    stream.write_all(b"STARTTLS\r\n").await.unwrap();
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(versions).unwrap().dangerous();
    let verifier = Arc::new(any_name::AnyName);
    let mut config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.enable_sni = name == "wrong.example.test";
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await.unwrap()
}

#[tokio::test]
async fn b8_b10_any_server_name_or_none_is_served_and_no_ticket_is_sent() {
    let running = start();
    for name in ["mx.example.test", "wrong.example.test"] {
        let mut stream = tls_stream(&running, name, rustls::ALL_VERSIONS).await;
        stream.write_all(b"EHLO c\r\nQUIT\r\n").await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.expect("a close_notify, not a cut");
        assert!(said.ends_with(b"221 2.0.0 Bye\r\n"));
        assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
    }
    stop(running).await;
}

#[tokio::test]
async fn b1_tls_1_2_is_spoken_too_and_the_message_says_so() {
    let running = start();
    let mut stream = tls_stream(&running, "mx.example.test", &[&rustls::version::TLS12]).await;
    let mail = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 1 LAST\r\nxQUIT\r\n";
    stream.write_all(mail).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("a close_notify, not a cut");
    assert!(String::from_utf8(said).unwrap().ends_with("250 2.0.0 Message accepted\r\n221 2.0.0 Bye\r\n"));
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let client = running.recorder.clients.lock().unwrap().pop().unwrap();
    assert!(client.tls.unwrap().starts_with("TLSv1.2 TLS_ECDHE_"));
    stop(running).await;
}

#[tokio::test]
async fn b9_a_stalled_or_senseless_handshake_is_closed_without_a_word_in_clear() {
    let running = serve(&config(), TlsPolicy::Offered, Patience { handshake: SHORT, ..Patience::default() });
    for garbage in [&b""[..], b"EHLO inside.example\r\nMAIL FROM:<a@b.example>\r\n"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let mut buffer = [0; 512];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream.write_all(b"STARTTLS\r\n").await.unwrap();
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream.write_all(garbage).await.unwrap();
        let mut said = Vec::new();
        let _end = stream.read_to_end(&mut said).await;
        assert!(!said.contains(&b' '), "an alert at most: {}", said.escape_ascii());
    }
    stop(running).await;
}

/// A client as mail servers are: any certificate will do.
mod any_name {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    #[derive(Debug)]
    pub(super) struct AnyName;

    impl ServerCertVerifier for AnyName {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
