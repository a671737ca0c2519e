//! R3, R60, R61: what is over ends until nothing is left, however much there is, and is reported.

use std::time::Duration;

use serde_json::{Value, json};
use syncmx::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::postgres;
use crate::purge::{Scene, mail};

impl Scene {
    /// Rows of long ago, `n` up to a number: their text for SQLite and for PostgreSQL.
    pub(crate) async fn fill(&self, sqlite: &str, postgres: &str) {
        self.server.change_by_hand(if postgres::is_wanted() { postgres } else { sqlite }).await;
    }

    /// What was reported for this setting: the count of this name, report by report. The trail has it piece by piece.
    async fn reported(&self, setting: &str, count: &str) -> Vec<u64> {
        let events = self.get("/events?limit=200").await;
        let of_setting = |event: &&Value| event["data"]["because"] == setting;
        let items = events["items"].as_array().unwrap().iter().filter(of_setting);
        let counts: Vec<u64> = items.map(|event| event["data"][count].as_u64().unwrap()).collect();
        let (mut noted, mut more) = (0, String::new());
        loop {
            let trail = self.get(&format!("/audit?actor=system&limit=200{more}")).await;
            let rows = trail["items"].as_array().unwrap().iter().filter(|row| row["object"] == setting);
            noted += rows.map(|row| row["detail"][count].as_u64().unwrap()).sum::<u64>();
            let Some(next) = trail["next"].as_str() else { break };
            more = format!("&cursor={next}");
        }
        assert_eq!(noted, counts.iter().sum::<u64>());
        counts
    }
}

#[tokio::test]
async fn r61_content_is_reported_once_a_run_however_many_pieces_it_took() {
    let scene = Scene::set().await;
    scene.server.patch(&scene.account, json!({"settings": {"content_days": 40}})).await.expect(200);
    for n in 0..MESSAGES {
        scene.file(&scene.bo, &mail("bo@practice.test", &format!("m{n}"), "")).await;
    }
    let over = Timestamp::now().plus_days(41);
    assert_eq!(scene.server.store.expire(over).await.unwrap().messages, MESSAGES);
    assert_eq!(scene.reported("content_days", "messages").await, [MESSAGES]);
}

#[tokio::test]
async fn r03_r61_more_traces_than_a_turn_takes_end_in_one_run_and_a_drain_reports_what_it_did() {
    let scene = Scene::set().await;
    scene
        .fill(
            "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 110201)
             INSERT INTO deliveries (account_id, delivery_id, at, peer, helo, size_bytes, outcome, reason, smtp, steps)
             SELECT (SELECT account_id FROM users LIMIT 1), unhex(printf('018f0000000070008000%012x', n)), 1, '', '', 0,
             'filed', 'filed', '', '[]' FROM many",
            "INSERT INTO deliveries (account_id, delivery_id, at, peer, helo, size_bytes, outcome, reason, smtp, steps)
             SELECT (SELECT account_id FROM users LIMIT 1),
             CAST('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS UUID), 1, '', '', 0,
             'filed', 'filed', '', '[]' FROM generate_series(1, 110201) n",
        )
        .await;
    let (store, now, draining) = (&scene.server.store, Timestamp::now(), CancellationToken::new());
    let first = format!("{}/deliveries/018f0000-0000-7000-8000-000000000001", scene.account);
    let is_gone = async {
        while scene.server.get(&first).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let drain = async {
        // The oldest go first, and the pauses of such a backlog alone take seconds.
        tokio::time::timeout(Duration::from_secs(120), is_gone).await.expect("the first end");
        draining.cancel();
    };
    let (cut, ()) = tokio::join!(store.expire_until(now, &draining), drain);
    let cut = cut.unwrap().traces;
    assert!((1..TRACES).contains(&cut), "{cut}");
    let reported = scene.reported("trace_days", "deliveries").await;
    assert_eq!(reported.iter().sum::<u64>(), cut);
    assert_eq!(store.expire_until(now, &draining).await.unwrap().traces, 0, "it drains already");

    assert_eq!(store.expire(now).await.unwrap().traces, TRACES - cut);
    assert_eq!(scene.count("/deliveries").await, 0);
    let reported = scene.reported("trace_days", "deliveries").await;
    assert_eq!(reported.iter().sum::<u64>(), TRACES);
}

#[tokio::test]
async fn r60_hashes_of_what_was_erased_end_in_one_run() {
    let scene = Scene::set().await;
    scene
        .fill(
            "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 12345)
             INSERT INTO tombstones (account_id, hash, erased_at)
             SELECT (SELECT account_id FROM users LIMIT 1), unhex(printf('%032x', n)), 1 FROM many",
            "INSERT INTO tombstones (account_id, hash, erased_at)
             SELECT (SELECT account_id FROM users LIMIT 1), decode(lpad(to_hex(n), 32, '0'), 'hex'), 1
             FROM generate_series(1, 12345) n",
        )
        .await;
    assert_eq!(scene.server.store.expire(Timestamp::now()).await.unwrap().tombstones, 12_345);
}

#[tokio::test]
async fn more_events_than_an_hour_once_took_end_in_one_run() {
    let scene = Scene::set().await;
    scene
        .fill(
            "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 501000)
             INSERT INTO events (account_id, event_id, type, at, data)
             SELECT (SELECT account_id FROM users LIMIT 1), unhex(printf('018f0000000070008000%012x', n)), 'x', 1, '{}'
             FROM many",
            "INSERT INTO events (account_id, event_id, type, at, data)
             SELECT (SELECT account_id FROM users LIMIT 1),
             CAST('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS UUID), 'x', 1, '{}'
             FROM generate_series(1, 501000) n",
        )
        .await;
    assert_eq!(scene.server.store.tidy_outbox(Timestamp::now()).await.unwrap(), 501_000);
}

/// More than one transaction takes.
const MESSAGES: u64 = 201;
/// More than the 500 transactions of a turn take.
const TRACES: u64 = 110_201;
