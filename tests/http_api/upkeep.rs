//! What happens behind the answers: after a client that has gone away, every hour, once a day. One that fails holds up
//! no other.

use serde_json::{Value, json};
use syncmx::id::AccountId;
use syncmx::store::Ring;
use syncmx::store::directory::{CreatedBy, NewContact};
use syncmx::time::Timestamp;

use crate::server::{Server, text};

fn mail(from: &str, id: &str, to: &str) -> String {
    format!(
        "From: {from}\nTo: {to}\nSubject: About {id}\nDate: Sun, 22 Nov 2020 02:44:05 +0000\n\
         Message-ID: <{id}@practice.test>\n\nThe words of {id}\n"
    )
}

async fn held(server: &Server, account: &str) -> Vec<Value> {
    server.get(&format!("{account}/held")).await.expect(200)["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_follows_a_commit_happens_though_nobody_waits_for_it() {
    let server = Server::start().await;
    let path = server.account().await;
    let account: AccountId = path.trim_start_matches("/accounts/").parse().unwrap();
    let mut rings = server.store.listen();
    let mut change = server.store.change().await.unwrap();
    let ana = NewContact { name: "Ana".into(), email: "ana@patient.test".into(), ..NewContact::default() };
    change.create_contact(account, &ana, CreatedBy::Api).await.unwrap();
    tokio::select! {
        biased;
        done = change.commit() => done.unwrap(),
        // As for a client that hangs up at the very moment.
        () = std::future::ready(()) => {}
    }
    let heard = async {
        while !matches!(rings.next().await, Some(Ring::Accounts(accounts)) if accounts.contains(&account)) {}
    };
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, heard).await.expect("somebody is told of the event");
    let contacts = server.get(&format!("{path}/contacts")).await.expect(200);
    assert_eq!(contacts["items"].as_array().unwrap().len(), 1);
}

/// A user with an address to be proven, from which a large mail and a small one wait.
async fn two_wait(server: &Server, account: &str) -> String {
    let user = server.user(account, "bo@practice.test").await;
    server.contact(account, "Ana", "ana@patient.test").await;
    let emails = format!("{account}/users/{}/emails", text(&user["id"]));
    server.post(&emails, json!({"address": "bo@private.test"})).await.expect(201);
    let sync = text(&user["sync"]["sync_address"]);
    // Nothing that could be packed: it is no longer in its row.
    let noise = |n: u64| {
        let mut n = n.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}\n", n ^ (n >> 31))
    };
    let noise: String = (0..16_000).map(noise).collect();
    let large = mail("bo@private.test", "large", "ana@patient.test") + &noise;
    server.deliver(&sync, &large).await;
    server.deliver(&sync, &mail("bo@private.test", "small", "ana@patient.test")).await;
    assert_eq!(held(server, account).await.len(), 2);
    emails
}

#[tokio::test]
async fn r12_a_held_mail_that_is_damaged_holds_up_no_other() {
    let server = Server::start().await;
    let account = server.account().await;
    let emails = two_wait(&server, &account).await;
    assert_eq!(server.lose_blobs(), 1);
    server.post(&emails, json!({"address": "bo@private.test", "verified": true})).await.expect(201);
    let waiting = held(&server, &account).await;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!(waiting[0]["subject"], "About large");
}

#[tokio::test]
async fn r12_a_held_mail_whose_row_does_not_open_holds_up_no_other() {
    let server = Server::start_sealed().await;
    let account = server.account().await;
    let emails = two_wait(&server, &account).await;
    // The first of the two.
    server.change_by_hand("UPDATE held SET headers = '~1~AAAA' WHERE size_bytes > 100000").await;
    server.post(&emails, json!({"address": "bo@private.test", "verified": true})).await.expect(201);
    let waiting = held(&server, &account).await;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(text(&waiting[0]["why"]).contains("damaged"), "{waiting:?}");
}

#[tokio::test]
async fn r36_an_account_that_fails_holds_up_no_other() {
    let server = Server::start().await;
    let broken = server.account().await;
    let emails = two_wait(&server, &broken).await;
    server.lose_blobs();
    server.post(&emails, json!({"address": "bo@private.test", "verified": true})).await.expect(201);
    let account = server.account().await;
    server.patch(&account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let user = server.user(&account, "bo@practice.test").await;
    let sync = text(&user["sync"]["sync_address"]);
    server.deliver(&sync, &mail("bo@practice.test", "old", "nora@patient.test")).await;
    assert_eq!(held(&server, &account).await.len(), 1);
    let at = Timestamp::now().plus_days(31);
    server.store.expire(at).await.expect_err("the damaged one is reported");
    assert_eq!(held(&server, &account).await, [] as [Value; 0]);
}

#[tokio::test]
async fn whoever_has_had_a_digest_today_keeps_nobody_from_theirs() {
    let server = Server::start().await;
    let account = server.account().await;
    server.patch(&account, json!({"settings": {"unknown_to": "hold"}})).await.expect(200);
    let now = Timestamp::now();
    let names = ["bo@practice.test", "eva@practice.test"];
    let mut addresses = Vec::new();
    for name in names {
        addresses.push(text(&server.user(&account, name).await["sync"]["sync_address"]));
    }
    for (n, id) in [(0, "one"), (1, "two"), (0, "three"), (1, "four")] {
        server.deliver(&addresses[n], &mail(names[n], id, "nora@patient.test")).await;
        if id == "one" {
            assert_eq!(server.store.ask_for_digests(now, 1).await.unwrap(), 1, "Bo is told");
        }
    }
    assert_eq!(server.store.ask_for_digests(now, 1).await.unwrap(), 1, "and so is Eva");
    assert_eq!(server.store.ask_for_digests(now, 1).await.unwrap(), 0, "once a day");
    let again = server.store.ask_for_digests(now.plus_days(1), 9).await.unwrap();
    assert_eq!(again, 1, "of Eva's mail she has been told");
}
