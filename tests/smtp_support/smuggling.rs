//! The end-of-data matrix of SMTP.md section 3.1: no forged end lets a second message in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use syncmx::config;
use syncmx::smtp::listener::Patience;
use syncmx::smtp::session::TlsPolicy;

use crate::script::Script;
use crate::wire::{Cut, Memory, Peer, serve, smtp_config};

const OPENING: &[u8] =
    b"EHLO c.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<ana@sync.example.test>\r\nDATA\r\n";
const SMUGGLED: &[u8] =
    b"MAIL FROM:<s@evil.example>\r\nRCPT TO:<v@sync.example.test>\r\nDATA\r\nFrom: x\r\n\r\nx\r\n.\r\n";

/// What the matrix names; the last four are honest texts that must not be refused.
const ENDINGS: [&[u8]; 18] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r.\n",
    b"\r\0\n.\r\n",
    b"\n\n.\n\n",
    b"\r\n.\n\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n..\r\n",
];

/// The texts before the forged end: short, at buffer edges, over the size limit, after a first-line dot.
fn leads() -> Vec<Vec<u8>> {
    let edge = |octets: usize| vec![b'h'; octets];
    vec![
        b"hello".to_vec(),
        b"..\r\nhello".to_vec(),
        edge(8191),
        edge(16_383),
        edge(65_535),
        edge(65_536),
        edge(100_001),
    ]
}

fn config() -> config::Smtp {
    config::Smtp { max_message_size: 100_000, ..smtp_config(&Script::default()) }
}

/// One reply to DATA, none to anything else, at most one message, nothing of the smuggled sender.
#[track_caller]
fn judge(said: &str, messages: &[Vec<u8>], label: &str) {
    let after_354 = said.split_once("354 ").unwrap().1.split_once("\r\n").unwrap().1;
    assert_eq!(after_354.lines().count(), 1, "{label}: {said}");
    assert_eq!(messages.len(), 1, "{label}");
    let message = String::from_utf8_lossy(&messages[0]);
    assert!(message.starts_with("from=<a@client.example> to=<ana@sync.example.test>"), "{label}: {message}");
    assert!(!message.contains("to=<v@"), "{label}: {message}");
}

/// Whole, or the last 300 octets, which hold the ending and more, one by one.
fn in_memory(stream: &[u8], cut: Cut, label: &str) -> String {
    let mut memory = Memory::new(&config(), TlsPolicy::Offered);
    match cut {
        Cut::Single => {
            let (head, tail) = stream.split_at(stream.len().saturating_sub(300));
            memory.send(head);
            tail.chunks(1).for_each(|octet| memory.send(octet));
        }
        Cut::Whole => memory.send(stream),
    }
    let said = String::from_utf8(memory.said()).unwrap();
    judge(&said, &memory.recorder.messages.lock().unwrap(), label);
    said
}

fn check_everywhere(ending: &[u8], label: &str) {
    for lead in leads() {
        let stream = [OPENING, &lead, ending, SMUGGLED].concat();
        let whole = in_memory(&stream, Cut::Whole, label);
        assert_eq!(in_memory(&stream, Cut::Single, label), whole, "{label}");
    }
}

#[test]
fn m31_no_ending_of_the_matrix_lets_a_second_message_in() {
    for ending in ENDINGS {
        check_everywhere(ending, &ending.escape_ascii().to_string());
    }
}

#[test]
fn m31_bare_newlines_are_550_and_honest_odd_lines_are_250() {
    for (number, ending) in ENDINGS.iter().enumerate() {
        let said = in_memory(&[OPENING, b"hello", ending, SMUGGLED].concat(), Cut::Whole, "");
        let expected = if number < 13 { "550 5.6.0" } else { "250 2.0.0" };
        assert!(said.contains(&format!("\r\n{expected}")), "{}: {said}", ending.escape_ascii());
    }
}

/// The one sequence of the matrix that ends in a true end: what follows it is the client's own next command.
#[test]
fn m31_a_bare_cr_before_the_true_end_is_refused_there() {
    for lead in leads() {
        let stream = [OPENING, &lead, b"\r\r\n.\r\nNOOP\r\n"].concat();
        for cut in [stream.len(), 1] {
            let mut memory = Memory::new(&config(), TlsPolicy::Offered);
            stream.chunks(cut).for_each(|piece| memory.send(piece));
            let said = String::from_utf8(memory.said()).unwrap();
            let last: Vec<&str> = said.lines().rev().take(2).collect();
            assert!(last[0] == "250 2.0.0 Ok" && last[1].starts_with("550 5.6.0 "), "{last:?}");
            assert_eq!(memory.recorder.messages.lock().unwrap().len(), 1);
        }
    }
}

/// The same on sockets: whole, and for short leads the ending octet by octet.
async fn check_on_sockets(endings: &[(Vec<u8>, String)]) {
    let running = serve(&config(), TlsPolicy::Offered, Patience::default());
    for (ending, label) in endings {
        for (lead, uses_tls) in leads().iter().flat_map(|lead| [(lead, false), (lead, true)]) {
            for cut in [Cut::Whole, Cut::Single] {
                if cut == Cut::Single && lead.len() > 100 {
                    continue;
                }
                let mut peer = Peer::connect(running.address).await;
                peer.reply().await;
                if uses_tls {
                    peer.ask("STARTTLS").await;
                    peer = peer.handshake().await;
                }
                peer.send(&[OPENING, lead].concat(), Cut::Whole).await;
                peer.send(ending, cut).await;
                peer.send(&[SMUGGLED, b"QUIT\r\n"].concat(), cut).await;
                let mut said = String::new();
                while let Some(line) = peer.line().await {
                    said.push_str(&line);
                    said.push_str("\r\n");
                }
                let said = said.strip_suffix("221 2.0.0 Bye\r\n").unwrap();
                let messages = std::mem::take(&mut *running.recorder.messages.lock().unwrap());
                judge(said, &messages, label);
            }
        }
    }
    running.shutdown.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn m31_the_same_over_tcp_and_tls() {
    let endings = ENDINGS.map(|ending| (ending.to_vec(), ending.escape_ascii().to_string()));
    check_on_sockets(&endings).await;
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/smtp")
}

#[tokio::test]
async fn m31_the_endings_of_public_scanners_let_nothing_in() {
    let path = corpora().join("smuggling-endings.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} absent", path.display());
        return;
    };
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let endings = parsed["endings"].as_array().unwrap();
    assert!(!endings.is_empty());
    let octets = |hex: &str| -> Vec<u8> {
        let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(octet).collect()
    };
    let endings = endings.iter().map(|ending| ending["hex"].as_str().unwrap());
    let endings: Vec<_> = endings.map(|hex| (octets(hex), hex.to_owned())).collect();
    for (octets, hex) in &endings {
        check_everywhere(octets, hex);
    }
    check_on_sockets(&endings).await;
}

/// Feeds a stream in pieces; what was said and what the handler was asked.
fn replay(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<String>, Vec<Vec<u8>>) {
    let mut memory = Memory::new(&config::Smtp { max_message_size: 300, ..config() }, TlsPolicy::Unavailable);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(stream.len())).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        memory.send(&stream[pair[0]..pair[1]]);
    }
    let recorder = Arc::clone(&memory.recorder);
    let recipients = recorder.recipients.lock().unwrap().clone();
    let messages = recorder.messages.lock().unwrap().clone();
    (memory.said(), recipients, messages)
}

#[test]
fn random_inputs_of_a_public_fuzzer_never_panic() {
    let folder = corpora().join("chasquid-fuzz");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} absent", folder.display());
        return;
    };
    for entry in entries {
        let stream = std::fs::read(entry.unwrap().path()).unwrap();
        let single: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(replay(&stream, &single), replay(&stream, &[]));
        let canonical = String::from_utf8_lossy(&stream).replace('\n', "\r\n").into_bytes();
        let single: Vec<usize> = (0..canonical.len()).collect();
        assert_eq!(replay(&canonical, &single), replay(&canonical, &[]));
    }
}

/// Pieces that random streams are made of: commands, half commands, newlines, dots, long runs.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed: Vec<&'static [u8]> = vec![
        b"EHLO c.example\r\n",
        b"HELO c\r\n",
        b"MAIL FROM:<a@c.example>\r\n",
        b"MAIL FROM:<> SIZE=301\r\n",
        b"RCPT TO:<ana@sync.example.test>\r\n",
        b"RCPT TO:<unknown@sync.example.test>\r\n",
        b"DATA\r\n",
        b"BDAT 7\r\n",
        b"BDAT 9 LAST\r\n",
        b"BDAT 299\r\n",
        b"BDAT 1201\r\n",
        b"BDAT x\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"STARTTLS\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r",
        b"\n",
        b".",
        b"\0",
        b"0123456789",
    ];
    prop_oneof![
        8 => proptest::sample::select(fixed).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => (250_usize..310).prop_map(|count| vec![b'x'; count]),
        1 => (1990_usize..2060).prop_map(|count| vec![b'y'; count]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn however_the_input_is_cut_replies_questions_and_bodies_are_the_same(
        transaction in any::<bool>(),
        pieces in proptest::collection::vec(piece(), 0..25),
        cuts in proptest::collection::vec(0_usize..2500, 0..8),
    ) {
        let mut stream = if transaction { OPENING.to_vec() } else { Vec::new() };
        stream.extend(pieces.concat());
        let whole = replay(&stream, &[]);
        prop_assert_eq!(&replay(&stream, &cuts), &whole);
        let single: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(&replay(&stream, &single), &whole);
    }
}
