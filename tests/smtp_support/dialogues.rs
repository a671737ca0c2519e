//! Every file of `fixtures/smtp` is a test of its name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use syncmx::smtp::listener::Patience;

use crate::script::{Event, Script, Security, Start};
use crate::wire::{Cut, HOST, Memory, MemoryState, Peer, serve, smtp_config, tls_policy};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/smtp")
}

/// Runs one file in every way that it allows; all runs of one security say the same.
async fn check(file: &str) {
    let path = folder().join(file);
    for security in [Security::Clear, Security::Tls] {
        let script = Script::read(&path, security);
        let runs = script.only.is_none_or(|only| only == security)
            && (security == Security::Clear || script.start != Start::Connect);
        if !runs {
            continue;
        }
        let mut transcripts = BTreeSet::new();
        for cut in [Cut::Whole, Cut::Single] {
            if cut == Cut::Single && script.setting("cut") == Some("whole".to_owned()) {
                continue;
            }
            transcripts.insert(in_memory(&script, security, cut));
            transcripts.insert(on_socket(&script, security, cut).await);
        }
        assert_eq!(transcripts.len(), 1, "{} {security:?}: {transcripts:#?}", script.name);
    }
}

fn in_memory(script: &Script, security: Security, cut: Cut) -> Vec<String> {
    let mut memory = Memory::new(&smtp_config(script), tls_policy(script));
    let send = |memory: &mut Memory, bytes: &[u8]| match cut {
        Cut::Single => bytes.chunks(1).for_each(|octet| memory.send(octet)),
        Cut::Whole => memory.send(bytes),
    };
    if script.start != Start::Connect {
        assert!(memory.line().unwrap().starts_with("220 "));
    }
    if security == Security::Tls {
        send(&mut memory, b"STARTTLS\r\n");
        memory.said();
        memory.handshake();
    }
    if script.start == Start::Hello {
        send(&mut memory, b"EHLO client.example\r\n");
        memory.said();
    }
    let mut transcript = Vec::new();
    let mut is_closed = false;
    for event in &script.events {
        match event {
            Event::Client(bytes) => send(&mut memory, bytes),
            Event::Server(expected) => {
                let line = memory.line();
                expect_line(script, line.as_deref(), expected);
                transcript.extend(line);
            }
            Event::Closed => {
                assert_eq!(memory.state, MemoryState::Closed, "{}", script.name);
                is_closed = true;
            }
            Event::Handshake => memory.handshake(),
        }
    }
    if !is_closed {
        send(&mut memory, b"QUIT\r\n");
        expect_line(script, memory.line().as_deref(), "221 2.0.0 Bye");
    }
    assert_eq!(memory.line(), None, "{}", script.name);
    expect_messages(script, &memory.recorder.messages.lock().unwrap());
    transcript
}

async fn on_socket(script: &Script, security: Security, cut: Cut) -> Vec<String> {
    let patience = Patience { error_pause: Duration::from_millis(1), ..Patience::default() };
    let running = serve(&smtp_config(script), tls_policy(script), patience);
    let mut peer = opened(script, security, running.address).await;
    let mut transcript = Vec::new();
    let mut is_closed = false;
    for event in &script.events {
        match event {
            Event::Client(bytes) => peer.send(bytes, cut).await,
            Event::Server(expected) => {
                let line = peer.line().await;
                expect_line(script, line.as_deref(), expected);
                transcript.extend(line);
            }
            Event::Closed => is_closed = true,
            Event::Handshake => peer = peer.handshake().await,
        }
    }
    if !is_closed {
        peer.send(b"QUIT\r\n", cut).await;
        expect_line(script, peer.line().await.as_deref(), "221 2.0.0 Bye");
    }
    assert_eq!(peer.line().await, None, "{}", script.name);
    drop(peer);
    expect_messages(script, &running.recorder.messages.lock().unwrap());
    running.shutdown.cancel();
    running.task.await.unwrap();
    transcript
}

/// Goes as far as the runner goes by itself.
async fn opened(script: &Script, security: Security, address: SocketAddr) -> Peer {
    let mut peer = Peer::connect(address).await;
    if script.start != Start::Connect {
        assert!(peer.reply().await.starts_with(&format!("220 {HOST} ESMTP")));
    }
    if security == Security::Tls {
        assert!(peer.ask("STARTTLS").await.starts_with("220 "));
        peer = peer.handshake().await;
    }
    if script.start == Start::Hello {
        assert!(peer.ask("EHLO client.example").await.starts_with("250-"));
    }
    peer
}

#[track_caller]
fn expect_line(script: &Script, line: Option<&str>, expected: &str) {
    let line = line.unwrap_or("(closed)");
    let is_expected = match expected.strip_suffix('*') {
        Some(prefix) => line.starts_with(prefix),
        None => line == expected,
    };
    assert!(is_expected, "{}: expected {expected:?}, got {line:?}", script.name);
}

#[track_caller]
fn expect_messages(script: &Script, recorded: &[Vec<u8>]) {
    let shown =
        |messages: &[Vec<u8>]| messages.iter().map(|m| m.escape_ascii().to_string()).collect::<Vec<_>>();
    assert_eq!(shown(recorded), shown(&script.messages), "{}", script.name);
}

macro_rules! dialogues {
    ($($test:ident: $file:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                check($file).await;
            }
        )*

        #[test]
        fn every_dialogue_file_is_run() {
            let run: BTreeSet<String> = [$($file,)*].into_iter().map(str::to_owned).collect();
            let there = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
            let there: BTreeSet<String> =
                there.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".txt")).collect();
            assert_eq!(run, there);
        }
    };
}

include!("dialogue_list.rs");
