//! Delivers to one webhook while its lease lasts: in order within a conversation, otherwise side by side.
//!
//! Promises that an event is passed only when it is delivered, not wanted, or stored to be tried again, all by one
//! settlement; that what fails holds back its own conversation and nothing else; that at most [`IN_FLIGHT_MAX`] calls
//! are under way and [`WINDOW`] events in memory; and that nothing is sent that could outlast the lease. Whoever is
//! killed has settled less than was sent: the next courier sends that again, with the same ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::id::{ConversationId, EventId};
use crate::outbox::ledger::{Item, Meaning, Stage, Unsettled};
use crate::outbox::settler::{Settled, Settler};
use crate::outbox::webhook::{Attempt, Sender};
use crate::outbox::{OutEvent, TEST_EVENT};
use crate::store::outbox::{Endpoint, Settlement, StoredDelivery, Then, WebhookKey};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// One webhook's sender.
pub(super) struct Courier {
    key: WebhookKey,
    owner: Uuid,
    store: Store,
    sender: Arc<Sender>,
    settler: Settler,
    bell: Arc<Notify>,
    /// As last read; none before the first look.
    endpoint: Option<Arc<Endpoint>>,
    /// What is taken up and not settled, in order.
    items: BTreeMap<EventId, Item>,
    /// How far the events have been read.
    read_up_to: EventId,
    /// Conversations with stored deliveries that wait.
    held_back: BTreeSet<ConversationId>,
    waiting: usize,
    calls: JoinSet<(EventId, Option<Attempt>)>,
    done: Unsettled,
    settling: Option<Settling>,
    lease_ends: Instant,
    failures_in_a_row: u32,
    last_work: Instant,
    phase: Phase,
}

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Calls under way are waited for and settled; nothing new is sent.
    Ending,
    /// All.
    Serving,
}

struct Settling {
    answer: JoinHandle<Settled>,
    /// Those of the items that it settles.
    items: Vec<EventId>,
    lease_ends: Instant,
    is_last: bool,
}

/// Why a courier goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// The webhook is off, deleted, or another process's; or the store fails. What was not settled is sent again.
    AtOnce,
    /// All is written down.
    Finished,
}

impl Courier {
    pub(super) fn new(
        key: WebhookKey,
        owner: Uuid,
        store: Store,
        sender: Arc<Sender>,
        settler: Settler,
        bell: Arc<Notify>,
    ) -> Self {
        Self {
            key,
            owner,
            store,
            sender,
            settler,
            bell,
            endpoint: None,
            items: BTreeMap::new(),
            read_up_to: EventId::from_uuid(Uuid::nil()),
            held_back: BTreeSet::new(),
            waiting: 0,
            calls: JoinSet::new(),
            done: Unsettled::default(),
            settling: None,
            lease_ends: Instant::now() + LEASE,
            failures_in_a_row: 0,
            last_work: Instant::now(),
            phase: Phase::Serving,
        }
    }

    /// Until there is nothing left to do, the lease is lost, or `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = true;
        loop {
            if look && self.phase == Phase::Serving {
                match self.look().await {
                    Ok(more) => look = more,
                    Err(Leave::AtOnce | Leave::Finished) => return,
                }
            }
            self.dispatch();
            self.settle();
            let settled = async {
                match &mut self.settling {
                    Some(settling) => (&mut settling.answer).await.unwrap_or(Settled::Failed),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled(), if self.phase == Phase::Serving => self.phase = Phase::Ending,
                () = self.bell.notified() => look = true,
                Some(Ok((event, attempt))) = self.calls.join_next() => self.take(event, attempt),
                settled = settled => match self.settled(settled) {
                    Ok(more) => look |= more,
                    Err(Leave::AtOnce | Leave::Finished) => return,
                },
                _ = ticks.tick() => look = true,
                // There is more to take up: on, once the others have had their turn.
                () = tokio::task::yield_now(), if look && self.phase == Phase::Serving => {}
            }
            if self.is_idle() {
                self.phase = Phase::Ending;
            }
        }
    }

    /// Takes up what is new and what is due. Says whether there may be more.
    async fn look(&mut self) -> Result<bool, Leave> {
        match self.read().await {
            Ok(Some(more)) => Ok(more),
            Ok(None) => Err(Leave::AtOnce),
            Err(error) => {
                tracing::warn!(error = error.one_line(), "webhook.not_read");
                Err(Leave::AtOnce)
            }
        }
    }

    async fn read(&mut self) -> Result<Option<bool>, StoreError> {
        let now = Timestamp::now();
        let endpoint = self.store.leased_endpoint(self.owner, self.key, now).await?;
        let Some(endpoint) = endpoint.map(Arc::new) else { return Ok(None) };
        if self.endpoint.replace(endpoint.clone()).is_none() {
            self.read_up_to = endpoint.passed;
        }
        let waiting = self.store.waiting(self.key).await?;
        (self.waiting, self.held_back) = (waiting.count, waiting.conversations.into_iter().collect());
        if self.waiting > 0 {
            for delivery in self.store.due_deliveries(self.key, now, STORED_IN_WINDOW).await? {
                self.take_up(delivery);
            }
        }
        let room = WINDOW.saturating_sub(self.items.len());
        if room == 0 || self.waiting >= WAITING_MAX {
            return Ok(Some(false));
        }
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let events = self.store.events_to_send(self.key.account, self.read_up_to, limit).await?;
        let is_full = events.len() >= room;
        for (id, event) in events {
            self.read_up_to = id;
            let Some(event) = event else { continue };
            if self.is_wanted(&endpoint, &event) {
                let event = Arc::new(event);
                let item = Item { event, failed: 0, begun_at: None, is_stored: false, stage: Stage::Ready };
                self.items.insert(item.event.id, item);
            }
        }
        Ok(Some(is_full && self.items.len() < WINDOW))
    }

    fn take_up(&mut self, delivery: StoredDelivery) {
        match delivery.event {
            // Erased (R60): nothing is left to be told.
            None => self.done.gone.push(delivery.event_id),
            Some(event) => {
                self.items.entry(event.id).or_insert_with(|| Item {
                    event: Arc::new(event),
                    failed: delivery.failed,
                    begun_at: delivery.begun_at,
                    is_stored: true,
                    stage: Stage::Ready,
                });
            }
        }
    }

    fn is_wanted(&self, endpoint: &Endpoint, event: &OutEvent) -> bool {
        if event.kind == TEST_EVENT {
            let tested = event.data.get("webhook_id").and_then(serde_json::Value::as_str);
            return tested == Some(self.key.webhook.to_string().as_str());
        }
        endpoint.wanted.iter().any(|wanted| wanted == "*" || *wanted == event.kind)
    }

    /// Sends what may be sent now, the oldest first.
    fn dispatch(&mut self) {
        let Some(endpoint) = self.endpoint.clone() else { return };
        let until = self.lease_ends.checked_sub(CALL_MARGIN).unwrap_or(self.lease_ends);
        if self.phase == Phase::Ending || Instant::now() > until {
            return;
        }
        let mut busy = BTreeSet::new();
        for item in self.items.values_mut() {
            let conversation = item.event.conversation;
            if item.stage == Stage::Ready && !conversation.is_some_and(|it| busy.contains(&it)) {
                if !item.is_stored && conversation.is_some_and(|it| self.held_back.contains(&it)) {
                    item.stage = Stage::Kept;
                    self.done.kept.push(item.kept(Some(Timestamp::now())));
                } else if self.calls.len() < IN_FLIGHT_MAX {
                    item.stage = Stage::Sending;
                    let (sender, endpoint, event) =
                        (self.sender.clone(), endpoint.clone(), item.event.clone());
                    self.calls.spawn(async move { (event.id, sender.send(&endpoint, &event, until).await) });
                }
            }
            if item.stage != Stage::Delivered {
                busy.extend(conversation);
            }
        }
    }

    /// What an attempt means; none was made where there was no place for it while the lease was sure to last.
    fn take(&mut self, event: EventId, attempt: Option<Attempt>) {
        self.last_work = Instant::now();
        let Some(item) = self.items.get_mut(&event) else { return };
        let Some(attempt) = attempt else {
            item.stage = Stage::Ready;
            return;
        };
        let was_down = self.failures_in_a_row >= DOWN_AFTER;
        let meaning = self.done.note(item, attempt, was_down);
        self.failures_in_a_row = match meaning {
            Meaning::Delivered => 0,
            Meaning::Dead | Meaning::Failed | Meaning::Gone => self.failures_in_a_row.saturating_add(1),
        };
        match meaning {
            Meaning::Dead => {
                tracing::warn!(webhook.id = %self.key.webhook, event.id = %event, "webhook.given_up");
            }
            Meaning::Delivered | Meaning::Failed => {}
            Meaning::Gone => {
                tracing::warn!(webhook.id = %self.key.webhook, "webhook.gone");
                self.phase = Phase::Ending;
            }
        }
    }

    /// Hands over what is done, one settlement at a time; also where only the lease is to be renewed, or given back.
    fn settle(&mut self) {
        if self.settling.is_some() {
            return;
        }
        let is_last = self.phase == Phase::Ending && self.calls.is_empty();
        let is_late = self.lease_ends.saturating_duration_since(Instant::now()) < LEASE - RENEW_AFTER;
        if self.done.is_empty() && !is_last && !is_late {
            return;
        }
        let is_settled = |item: &Item| matches!(item.stage, Stage::Delivered | Stage::Kept);
        // What is stored needs no event behind `passed`.
        let first_open = self.items.iter().find(|(_, item)| !item.is_stored && !is_settled(item));
        let passed = first_open.map_or(self.read_up_to, |(id, _)| id.just_before());
        let items = self.items.iter().filter(|(_, item)| is_settled(item)).map(|(id, _)| *id).collect();
        let done = std::mem::take(&mut self.done);
        let until = Timestamp::from_millis(Timestamp::now().as_millis().saturating_add(LEASE_MILLIS));
        let settlement = Settlement {
            key: self.key,
            owner: self.owner,
            passed,
            leased_until: Some(until).filter(|_| !is_last),
            done: done.gone,
            kept: done.kept,
            attempts: done.attempts,
            then: done.then.unwrap_or(Then::Nothing),
        };
        let lease_ends = Instant::now() + LEASE;
        let settler = self.settler.clone();
        let answer = tokio::spawn(async move { settler.settle(settlement).await });
        self.settling = Some(Settling { answer, items, lease_ends, is_last });
    }

    /// What the settler said. Says whether there may be more to take up now.
    fn settled(&mut self, settled: Settled) -> Result<bool, Leave> {
        let Some(settling) = self.settling.take() else { return Ok(false) };
        match settled {
            Settled::Failed | Settled::Lost => return Err(Leave::AtOnce),
            Settled::Done if settling.is_last => return Err(Leave::Finished),
            Settled::Done => self.lease_ends = settling.lease_ends,
        }
        let was_full = self.items.len() >= WINDOW;
        let mut is_news = was_full;
        for id in settling.items {
            let Some(item) = self.items.remove(&id) else { continue };
            is_news |= item.is_stored;
            if item.stage == Stage::Kept {
                self.held_back.extend(item.event.conversation);
            }
        }
        Ok(is_news)
    }

    fn is_idle(&self) -> bool {
        self.items.is_empty() && self.settling.is_none() && self.last_work.elapsed() > LINGER
    }
}

/// Calls under way to one endpoint.
const IN_FLIGHT_MAX: usize = 8;
/// Events in memory for one webhook, and at most as many sent twice after a kill.
const WINDOW: usize = 64;
/// Of those, such as were stored: the new ones keep their share.
const STORED_IN_WINDOW: u32 = 32;
/// Stored deliveries beyond which a webhook takes up nothing new: its events wait where they are.
const WAITING_MAX: usize = 1000;
/// So many failures in a row are an endpoint that is down: the first success makes all that waits due.
const DOWN_AFTER: u32 = 8;
/// For how long a webhook is a process's; renewed after a third of it.
pub(super) const LEASE_MILLIS: i64 = 30_000;
const LEASE: Duration = Duration::from_secs(30);
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// A call begun now ends before the lease does: it takes 10 seconds at most.
const CALL_MARGIN: Duration = Duration::from_secs(12);
/// For what another process has committed, and what is due again.
const TICK: Duration = Duration::from_secs(1);
/// How long an idle courier stays.
const LINGER: Duration = Duration::from_secs(5);
