//! R40, R41: however the mails of a conversation arrive, they end in the same conversations.
//!
//! The sets are the shared ones of an IMAP threading test, and one of our own. Each mail gets a subject of its own:
//! what a subject alone joins (R40, its last resort) depends on which mail was there first, by the rule.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "support/store_world.rs"]
mod store_world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use store_world::{USER, World};
use syncmx::filing::Decision;
use syncmx::message::{self, Email};
use uuid::Uuid;

/// Which mails, by number, share a conversation.
type Conversations = BTreeSet<BTreeSet<usize>>;

async fn conversations(mails: &[Email], order: &[usize]) -> Conversations {
    let mut world = World::new().await;
    world.add_contact("ana@patient.test").await;
    let mut numbers = BTreeMap::new();
    for &number in order {
        let filed = world.file(mails[number].clone()).await.unwrap();
        let (delivery, decision) = &filed.decided[0];
        assert!(matches!(decision, Decision::Filed(_)), "mail {number}: {decision:?}");
        numbers.insert(delivery.uuid(), number);
    }
    let rows: Vec<(Uuid, Uuid)> = world.rows("SELECT conversation_id, message_id FROM messages").await;
    let mut sets: BTreeMap<Uuid, BTreeSet<usize>> = BTreeMap::new();
    for (conversation, message) in rows {
        sets.entry(conversation).or_default().insert(numbers[&message]);
    }
    sets.into_values().collect()
}

/// In order, in reverse, and shuffled in ways that are the same in every run.
async fn check(name: &str, mails: &[Email]) -> Conversations {
    let in_order: Vec<usize> = (0..mails.len()).collect();
    let expected = conversations(mails, &in_order).await;
    let reverse: Vec<usize> = in_order.iter().rev().copied().collect();
    assert_eq!(conversations(mails, &reverse).await, expected, "{name} in reverse");
    for seed in 1..=4 {
        let order = shuffled(in_order.clone(), seed);
        assert_eq!(conversations(mails, &order).await, expected, "{name} as {order:?}");
    }
    expected
}

fn shuffled(mut order: Vec<usize>, seed: u64) -> Vec<usize> {
    let mut state = seed;
    for last in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, usize::try_from(state >> 33).unwrap() % (last + 1));
    }
    order
}

fn mail(number: usize, fields: &str) -> Email {
    let raw = format!(
        "From: {USER}\r\nTo: ana@patient.test\r\n{}\r\n\r\nbody {number}\r\n",
        fields.trim_end().replace('\n', "\r\n")
    );
    let email = message::parse(raw.as_bytes()).unwrap();
    Email { subject: format!("Number {number}"), ..email }
}

#[tokio::test]
async fn r41_a_tree_of_answers_is_one_conversation_in_any_order() {
    let fields = [
        "Message-ID: <1@x>",
        "Message-ID: <2@x>\nIn-Reply-To: <1@x>\nReferences: <1@x>",
        "Message-ID: <3@x>\nReferences: <1@x> <2@x>",
        "Message-ID: <4@x>\nIn-Reply-To: <2@x>",
        "Message-ID: <5@x>\nReferences: <1@x> <2@x> <3@x>",
        "Message-ID: <other@x>",
        "Message-ID: <6@x>\nIn-Reply-To: <lost@x>",
        "Message-ID: <7@x>\nIn-Reply-To: <lost@x>",
    ];
    let mails: Vec<Email> = fields.iter().enumerate().map(|(number, fields)| mail(number, fields)).collect();
    let found = check("a tree", &mails).await;
    let expected = [vec![0, 1, 2, 3, 4], vec![5], vec![6, 7]];
    assert_eq!(found, expected.into_iter().map(|set| set.into_iter().collect()).collect());
}

#[tokio::test]
async fn r41_shared_mailboxes_end_in_the_same_conversations_in_any_order() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/threading/imaptest");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: threading/imaptest absent");
        return;
    };
    let mut checked = 0;
    for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some()) {
        if path.extension().is_none_or(|extension| extension != "mbox") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        let headers = format!("\n{text}");
        let headers: Vec<&str> = headers.split("\nFrom ").skip(1).collect();
        let mails: Vec<Email> = headers
            .iter()
            .enumerate()
            .map(|(number, mail_text)| {
                let header = mail_text.split_once('\n').unwrap().1.split("\n\n").next().unwrap();
                let kept = ["message-id:", "in-reply-to:", "references:", " ", "\t"];
                let is_kept = |line: &&str| kept.iter().any(|k| line.to_lowercase().starts_with(k));
                mail(number, &header.lines().filter(is_kept).collect::<Vec<_>>().join("\n"))
            })
            .collect();
        check(&path.display().to_string(), &mails).await;
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}
