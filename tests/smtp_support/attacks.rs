//! Rude and hostile peers on sockets: octets of every value in every cut, injection behind STARTTLS, peers that go
//! without a word, the limits of recipients and connections at the limit and one past it.

use std::time::Duration;

use socket2::SockRef;
use syncmx::config;
use syncmx::smtp::listener::Patience;
use syncmx::smtp::session::TlsPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{SHORT, config, greeted, start, stop};
use crate::wire::{Cut, Peer, Running, serve};

/// Under stress an address has a quarter of its connections, and all of ours come from one.
const OF_ONE_ADDRESS: usize = 1000;

/// Greeted, in TLS or in clear.
async fn greeted_by(running: &Running, uses_tls: bool) -> Peer {
    let mut peer = greeted(running).await;
    if uses_tls {
        assert!(peer.ask("STARTTLS").await.starts_with("220 "));
        peer = peer.handshake().await;
        assert!(peer.ask("EHLO client.example").await.starts_with("250-"));
    }
    peer
}

async fn envelope(peer: &mut Peer) {
    assert!(peer.ask("MAIL FROM:<a@client.example>").await.starts_with("250 "));
    assert!(peer.ask("RCPT TO:<ana@sync.example.test>").await.starts_with("250 "));
}

/// The only message that the handler was asked about since last time, without what stands before its body.
fn body_of_the_only_message(running: &Running) -> Vec<u8> {
    let messages = std::mem::take(&mut *running.recorder.messages.lock().unwrap());
    assert_eq!(messages.len(), 1);
    let front = b"from=<a@client.example> to=<ana@sync.example.test> body=";
    messages[0].strip_prefix(front).expect("nothing is wrong with it").to_vec()
}

#[tokio::test]
async fn c19_a_hundred_recipients_are_taken_and_one_more_is_put_off() {
    let running = start();
    assert_eq!(config().max_recipients, 100, "as RFC 5321 section 4.5.3.1.8 asks for at least");
    let mut peer = greeted(&running).await;
    let mut group = "MAIL FROM:<a@client.example>\r\n".to_owned();
    for number in 1..=101 {
        group.push_str(&format!("RCPT TO:<r{number}@sync.example.test>\r\n"));
    }
    group.push_str("RCPT TO:<r100@sync.example.test>\r\nDATA\r\n");
    peer.send(group.as_bytes(), Cut::Whole).await;
    assert!(peer.reply().await.starts_with("250 2.1.0 "));
    for number in 1..=100 {
        assert!(peer.reply().await.starts_with("250 2.1.5 "), "{number}");
    }
    assert!(peer.reply().await.starts_with("452 4.5.3 "));
    assert!(peer.reply().await.starts_with("250 2.1.5 "), "who is on the list already is no more than that");
    assert!(peer.reply().await.starts_with("354 "));
    assert!(peer.ask("x\r\n.").await.starts_with("250 2.0.0 "));
    let message = running.recorder.messages.lock().unwrap().pop().unwrap();
    let to: Vec<String> = (1..=100).map(|number| format!("<r{number}@sync.example.test>")).collect();
    let expected = format!("from=<a@client.example> to={} body=x\r\n", to.join(","));
    assert!(message == expected.as_bytes(), "the first hundred are served");
    stop(running).await;
}

#[tokio::test]
async fn s1_b5_what_follows_starttls_in_another_segment_is_answered_nothing_either() {
    let running = start();
    let tail = [&b"NOOP\r\n"[..], b"EHLO x\r\nMAIL FROM:<s@evil.example>\r\n", &[b'x'; 65_536]].concat();
    for (first, second) in [(0, 3), (0, tail.len()), (3, 6), (6, 30_000)] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut said = [0; 4096];
        assert!(stream.read(&mut said).await.unwrap() > 0);
        stream.write_all(b"EHLO c\r\n").await.unwrap();
        assert!(stream.read(&mut said).await.unwrap() > 0);
        stream.write_all(&[b"STARTTLS\r\n", &tail[..first]].concat()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        // It may have closed already.
        let _sent = stream.write_all(&tail[first..second]).await;
        let mut answer = Vec::new();
        let _end = stream.read_to_end(&mut answer).await;
        let label = answer.escape_ascii().to_string();
        if answer.starts_with(b"220 ") {
            // Then it was no ClientHello: an alert at most, and no line in clear.
            let line = answer.iter().position(|octet| *octet == b'\n').unwrap();
            assert!(!answer[line + 1..].contains(&b'\n') && answer.len() < line + 20, "{label}");
        } else {
            assert!(answer.starts_with(b"554 5.5.0 ") && answer.ends_with(b"\r\n"), "{label}");
            assert_eq!(answer.iter().filter(|octet| **octet == b'\n').count(), 1, "{label}");
        }
    }
    assert!(running.recorder.messages.lock().unwrap().is_empty());
    stop(running).await;
}

#[tokio::test]
async fn x8_over_the_cap_everybody_is_turned_away_at_once_and_those_inside_are_served() {
    let config = config::Smtp { max_connections: 100, max_connections_per_ip: OF_ONE_ADDRESS, ..config() };
    let running = serve(&config, TlsPolicy::Offered, Patience::default());
    let mut inside = Vec::new();
    for _ in 0..100 {
        inside.push(greeted(&running).await);
    }
    // They never read, which holds up nobody who comes behind them.
    let mut deaf = Vec::new();
    for _ in 0..50 {
        deaf.push(TcpStream::connect(running.address).await.unwrap());
    }
    let mut late = Peer::connect(running.address).await;
    assert!(late.reply().await.starts_with("421 4.7.0 "));
    assert_eq!(late.line().await, None);
    for peer in &mut inside {
        assert!(peer.ask("NOOP").await.starts_with("250 "));
    }
    for stream in &mut deaf {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert!(said.starts_with(b"421 4.7.0 "), "{}", said.escape_ascii());
    }
    drop(inside);
    seats_come_back(&running, 100).await;
    stop(running).await;
}

/// Until so many are served side by side: every seat has been given back.
async fn seats_come_back(running: &Running, seats: usize) {
    let mut served = Vec::new();
    for _ in 0..30_000 {
        let mut peer = Peer::connect(running.address).await;
        if peer.reply().await.starts_with("220 ") {
            served.push(peer);
        } else {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if served.len() == seats {
            return;
        }
    }
    panic!("{} of {seats} seats come back", served.len());
}

#[tokio::test]
async fn x10_peers_that_go_without_a_word_keep_no_seat_and_do_not_end_the_listener() {
    let config = config::Smtp { max_connections: 8, max_connections_per_ip: OF_ONE_ADDRESS, ..config() };
    let running = serve(&config, TlsPolicy::Offered, Patience { handshake: SHORT, ..Patience::default() });
    let mut silent = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let mut word = [0; 512];
        let is_served = async |stream: &mut TcpStream, word: &mut [u8]| {
            stream.read(word).await.is_ok_and(|read| read > 0 && word.starts_with(b"220 "))
        };
        match number % 5 {
            // RST, before or after it is accepted.
            0 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            // FIN before the banner is read, and behind it.
            1 => stream.shutdown().await.unwrap(),
            2 => {
                is_served(&mut stream, &mut word).await;
            }
            3 => {
                is_served(&mut stream, &mut word).await;
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            // Half a ClientHello, and silence.
            _ => {
                if is_served(&mut stream, &mut word).await
                    && stream.write_all(b"STARTTLS\r\n").await.is_ok()
                    && is_served(&mut stream, &mut word).await
                {
                    let _sent = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
                    silent.push(stream);
                }
            }
        }
    }
    assert!(!silent.is_empty());
    seats_come_back(&running, 8).await;
    for mut stream in silent {
        let mut said = Vec::new();
        let _end = stream.read_to_end(&mut said).await;
        assert!(!said.contains(&b' '), "no word in clear: {}", said.escape_ascii());
    }
    stop(running).await;
}

/// Every octet but CR and LF, in lines, and of a length that is no multiple of anything.
fn every_octet(lines: usize) -> Vec<u8> {
    let values: Vec<u8> = (0..=255).filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    let mut text = Vec::new();
    for number in 0..lines {
        text.extend_from_slice(&values[number % 254..]);
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// RFC 5321 section 4.5.2.
fn stuffed(text: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::new();
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed
}

#[tokio::test]
async fn x13_every_octet_arrives_as_it_was_sent_however_it_is_cut() {
    let running = start();
    let (short, long) = (every_octet(10), every_octet(2_000));
    assert!(long.len() > 3 * 65_536);
    for uses_tls in [false, true] {
        for (text, piece) in [(&short, 1), (&long, 65_536), (&long, 65_535), (&long, 4096), (&long, 997)] {
            let mut peer = greeted_by(&running, uses_tls).await;
            envelope(&mut peer).await;
            assert!(peer.ask("DATA").await.starts_with("354 "));
            for piece in [&stuffed(text)[..], b".\r\n"].concat().chunks(piece) {
                peer.send(piece, Cut::Whole).await;
            }
            assert!(peer.reply().await.starts_with("250 2.0.0 "), "{piece}");
            assert!(body_of_the_only_message(&running) == *text, "DATA, {piece}");
            // In chunks nothing is a line: bare CR and LF are octets like all others.
            let text = [&text[..], b"\r\n.\r\n\n.\n\r.\r\0"].concat();
            envelope(&mut peer).await;
            for piece in text.chunks(piece.max(500)) {
                peer.send(&[format!("BDAT {}\r\n", piece.len()).as_bytes(), piece].concat(), Cut::Whole)
                    .await;
                assert!(peer.reply().await.starts_with("250 2.0.0 Chunk "));
            }
            assert!(peer.ask("BDAT 0 LAST").await.starts_with("250 2.0.0 Message "));
            assert!(body_of_the_only_message(&running) == text, "BDAT, {piece}");
        }
    }
    stop(running).await;
}

#[tokio::test]
async fn x13_m31_the_true_end_ends_the_message_once_wherever_it_is_cut() {
    let running = start();
    let end = b"\r\n.\r\n";
    for uses_tls in [false, true] {
        for cut in 0..=end.len() {
            let mut peer = greeted_by(&running, uses_tls).await;
            envelope(&mut peer).await;
            assert!(peer.ask("DATA").await.starts_with("354 "));
            peer.send(&[b"x", &end[..cut]].concat(), Cut::Whole).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            peer.send(&[&end[cut..], b"NOOP\r\n"].concat(), Cut::Whole).await;
            assert!(peer.reply().await.starts_with("250 2.0.0 Message "), "{cut}");
            assert!(peer.reply().await.starts_with("250 2.0.0 Ok"), "{cut}");
            assert_eq!(body_of_the_only_message(&running), b"x\r\n", "{cut}");
        }
    }
    stop(running).await;
}
