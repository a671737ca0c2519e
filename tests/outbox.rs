//! What the store promises the outbox, on either engine: one process at a time, nothing settled by whoever lost its
//! lease, no event ended that somebody waits for.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]
#![expect(clippy::cognitive_complexity, reason = "a test asserts much, one thing after another")]

#[path = "support/store_world.rs"]
mod store_world;

use store_world::*;
use syncmx::id::{AccountId, AttemptId, EventId, WebhookId};
use syncmx::outbox::EndpointUrl;
use syncmx::store::Store;
use syncmx::store::directory::{Detail, NewWebhook, WebhookChange, WebhookState};
use syncmx::store::outbox::{AttemptRecord, KeptDelivery, Settlement, Then, WebhookKey};
use syncmx::store::views::{AttemptFilter, Slice};
use syncmx::time::Timestamp;
use uuid::Uuid;

async fn webhook(store: &Store, account: AccountId) -> WebhookKey {
    let url = EndpointUrl::parse("https://crm.example/").unwrap();
    let new = NewWebhook { url, events: vec!["*".to_owned()], detail: Detail::Headers };
    let mut change = store.change().await.unwrap();
    let (made, _) = change.create_webhook(account, &new).await.unwrap();
    change.commit().await.unwrap();
    WebhookKey { account, webhook: made.id }
}

/// Files a mail; gives its newest event.
async fn event(world: &mut World, id: &str) -> EventId {
    world.file(email(id, USER, &["ana@patient.test"])).await.unwrap();
    let events = world.store.events(world.account, Slice::first(200)).await.unwrap();
    events.items.last().unwrap().id
}

fn settlement(key: WebhookKey, owner: Uuid, passed: EventId, until: Option<Timestamp>) -> Settlement {
    Settlement {
        key,
        owner,
        passed,
        leased_until: until,
        done: Vec::new(),
        kept: Vec::new(),
        attempts: Vec::new(),
        then: Then::Nothing,
    }
}

fn attempt(event: EventId, at: Timestamp) -> AttemptRecord {
    AttemptRecord {
        id: AttemptId::generate(),
        event,
        event_type: "message.filed".to_owned(),
        at,
        outcome: "delivered",
        status: Some(200),
        error: None,
        duration_ms: 3,
        next_at: None,
    }
}

fn dead(event: EventId) -> KeptDelivery {
    KeptDelivery { event, conversation: None, due_at: None, failed: 14, begun_at: Some(Timestamp::now()) }
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_millis(now.as_millis() + seconds * 1000)
}

async fn a_webhook_is_one_processs_until_its_lease_ends(engine: Engine) {
    let mut world = World::on(engine).await;
    let store = world.store.clone();
    world.add_contact("ana@patient.test").await;
    let key = webhook(&store, world.account).await;
    let now = Timestamp::now();
    assert_eq!(store.webhooks_with_work(None, now).await.unwrap(), [], "there is nothing to send");
    let newest = event(&mut world, "1@praxis.test").await;
    assert_eq!(store.webhooks_with_work(Some(world.account), now).await.unwrap(), [key]);
    assert_eq!(store.webhooks_with_work(Some(AccountId::generate()), now).await.unwrap(), []);

    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let until = later(now, 30);
    assert_eq!(store.claim_webhooks(first, &[key], now, until).await.unwrap(), [key]);
    assert_eq!(store.claim_webhooks(second, &[key], now, until).await.unwrap(), []);
    assert_eq!(store.webhooks_with_work(None, later(now, 29)).await.unwrap(), []);
    assert!(store.leased_endpoint(first, key, now).await.unwrap().is_some());
    assert!(store.leased_endpoint(second, key, now).await.unwrap().is_none());

    // Its lease has ended; whoever held it settles too late.
    assert_eq!(store.claim_webhooks(second, &[key], until, later(until, 30)).await.unwrap(), [key]);
    let mut late = settlement(key, first, newest, Some(later(until, 60)));
    late.attempts.push(attempt(newest, now));
    late.kept.push(dead(newest));
    let mut gone = settlement(WebhookKey { webhook: WebhookId::generate(), ..key }, second, newest, None);
    gone.attempts.push(attempt(newest, now));
    let mut ours = settlement(key, second, newest, None);
    ours.attempts.push(attempt(newest, now));
    assert_eq!(store.settle(vec![late, gone, ours.clone()]).await.unwrap(), [false, false, true]);
    let attempts = store.attempts(key.account, key.webhook, &AttemptFilter::default(), Slice::first(9)).await;
    assert_eq!(attempts.unwrap().items.len(), 1);
    assert_eq!(store.dead_letters(key.account, key.webhook, Slice::first(9)).await.unwrap().items, []);
    // All is passed, and the lease given back.
    assert_eq!(store.webhooks_with_work(None, now).await.unwrap(), []);
    event(&mut world, "2@praxis.test").await;
    assert_eq!(store.webhooks_with_work(None, now).await.unwrap(), [key]);
    // A commit whose answer was lost is settled again: once is enough.
    store.claim_webhooks(second, &[key], now, until).await.unwrap();
    assert_eq!(store.settle(vec![ours]).await.unwrap(), [true]);
    let attempts = store.attempts(key.account, key.webhook, &AttemptFilter::default(), Slice::first(9)).await;
    assert_eq!(attempts.unwrap().items.len(), 1);
}

async fn at_the_start_of_the_only_process_all_leases_end(engine: Engine) {
    let mut world = World::on(engine).await;
    let store = world.store.clone();
    world.add_contact("ana@patient.test").await;
    let key = webhook(&store, world.account).await;
    event(&mut world, "1@praxis.test").await;
    let now = Timestamp::now();
    store.claim_webhooks(Uuid::now_v7(), &[key], now, later(now, 3600)).await.unwrap();
    store.end_leases().await.unwrap();
    assert_eq!(store.webhooks_with_work(None, now).await.unwrap(), [key]);
}

async fn what_waits_is_due_in_its_order_within_a_conversation(engine: Engine) {
    let mut world = World::on(engine).await;
    let store = world.store.clone();
    world.add_contact("ana@patient.test").await;
    let key = webhook(&store, world.account).await;
    event(&mut world, "1@praxis.test").await;
    let newest = event(&mut world, "2@praxis.test").await;
    let events = store.events_to_send(world.account, EventId::from_uuid(Uuid::nil()), 200).await.unwrap();
    let filed: Vec<_> = events
        .into_iter()
        .filter_map(|(_, event)| event)
        .filter(|event| event.kind == "message.filed")
        .collect();
    let (owner, now) = (Uuid::now_v7(), Timestamp::now());
    store.claim_webhooks(owner, &[key], now, later(now, 30)).await.unwrap();
    let mut kept = settlement(key, owner, newest, Some(later(now, 30)));
    let keep = |n: usize, due_at| KeptDelivery {
        event: filed[n].id,
        conversation: filed[0].conversation,
        due_at: Some(due_at),
        failed: 1,
        begun_at: Some(now),
    };
    kept.kept = vec![keep(0, later(now, 100)), keep(1, now)];
    store.settle(vec![kept]).await.unwrap();
    assert_eq!(store.waiting(key).await.unwrap().count, 2);
    assert_eq!(store.due_deliveries(key, now, 9).await.unwrap().len(), 0, "the first one is not due");
    let due = store.due_deliveries(key, later(now, 100), 9).await.unwrap();
    assert_eq!(due.iter().map(|one| one.event_id).collect::<Vec<_>>(), [filed[0].id]);
    assert_eq!(due[0].event.as_ref().unwrap(), &filed[0]);
    let mut first = settlement(key, owner, newest, Some(later(now, 30)));
    first.done = vec![filed[0].id];
    store.settle(vec![first]).await.unwrap();
    let due = store.due_deliveries(key, now, 9).await.unwrap();
    assert_eq!(due.iter().map(|one| one.event_id).collect::<Vec<_>>(), [filed[1].id]);

    // R60: an event that was erased is due without its content.
    world.run("DELETE FROM events").await;
    assert!(store.due_deliveries(key, now, 9).await.unwrap()[0].event.is_none());
}

async fn events_end_after_30_days_unless_a_webhook_waits_and_after_90_in_any_case(engine: Engine) {
    let mut world = World::on(engine).await;
    let store = world.store.clone();
    world.add_contact("ana@patient.test").await;
    let key = webhook(&store, world.account).await;
    let newest = event(&mut world, "1@praxis.test").await;
    let now = Timestamp::now();
    let count = async || store.events(key.account, Slice::first(9)).await.unwrap().items.len();
    let all = count().await;
    let (young, old, ancient) = (now.plus_days(29), now.plus_days(31), now.plus_days(91));
    assert_eq!(store.tidy_outbox(old).await.unwrap(), 0, "the webhook has not got them");
    let turn = async |state| {
        let mut change = store.change().await.unwrap();
        let patch = WebhookChange { state: Some(state), ..WebhookChange::default() };
        change.update_webhook(key.account, key.webhook, &patch).await.unwrap();
        change.commit().await.unwrap();
    };
    let owner = Uuid::now_v7();
    store.claim_webhooks(owner, &[key], now, later(now, 30)).await.unwrap();
    let mut passed = settlement(key, owner, newest, Some(later(now, 30)));
    passed.kept = vec![KeptDelivery { due_at: Some(now), ..dead(newest) }];
    passed.attempts = vec![attempt(newest, now)];
    store.settle(vec![passed]).await.unwrap();
    assert_eq!(store.tidy_outbox(young).await.unwrap(), 0);
    assert_eq!(store.tidy_outbox(old).await.unwrap(), all as u64 - 1, "all but the one that waits");
    let mut given_up = settlement(key, owner, newest, Some(later(now, 30)));
    given_up.kept = vec![dead(newest)];
    store.settle(vec![given_up]).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM webhook_deliveries WHERE state = 'dead'").await, 1);
    assert_eq!(store.tidy_outbox(old).await.unwrap(), 1);
    assert_eq!(world.count("SELECT count(*) FROM webhook_deliveries").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM webhook_attempts").await, 0);

    event(&mut world, "2@praxis.test").await;
    assert_eq!(store.tidy_outbox(old).await.unwrap(), 0);
    turn(WebhookState::Off).await;
    assert!(store.tidy_outbox(old).await.unwrap() > 0, "one that is off does not wait");
    event(&mut world, "3@praxis.test").await;
    turn(WebhookState::On).await;
    assert_eq!(store.tidy_outbox(old).await.unwrap(), 0);
    assert!(store.tidy_outbox(ancient).await.unwrap() > 0);
    assert_eq!(count().await, 0);
}

async fn the_newest_ten_thousand_attempts_are_kept(engine: Engine) {
    let mut world = World::on(engine).await;
    let store = world.store.clone();
    let key = webhook(&store, world.account).await;
    let (owner, now) = (Uuid::now_v7(), Timestamp::now());
    // A webhook without work is nobody's: claimed all the same.
    store.claim_webhooks(owner, &[key], now, later(now, 30)).await.unwrap();
    let event = EventId::generate();
    let mut many = settlement(key, owner, event, Some(later(now, 30)));
    many.attempts = (0..10_001).map(|_| attempt(event, now)).collect();
    let (oldest, next) = (many.attempts[0].id, many.attempts[1].id);
    store.settle(vec![many]).await.unwrap();
    store.tidy_outbox(now).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM webhook_attempts").await, 10_000);
    let last = Slice { limit: 1, after: Some(syncmx::store::views::Key::of_id(next.uuid())) };
    let page = store.attempts(key.account, key.webhook, &AttemptFilter::default(), last).await.unwrap();
    assert_eq!(page.items, [], "{oldest} is gone");
}

on_both_engines! {
    a_webhook_is_one_processs_until_its_lease_ends,
    at_the_start_of_the_only_process_all_leases_end,
    what_waits_is_due_in_its_order_within_a_conversation,
    events_end_after_30_days_unless_a_webhook_waits_and_after_90_in_any_case,
    the_newest_ten_thousand_attempts_are_kept,
}
