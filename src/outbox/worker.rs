//! Watches for events, claims the webhooks that have something to send, and gives each a courier.
//!
//! Wakes at once when this process commits events; looks by itself every [`LOOK`] for what another process has
//! committed, what is due again, and what a dead process has left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Config;
use crate::id::AccountId;
use crate::outbox::courier::{Courier, LEASE_MILLIS};
use crate::outbox::settler::Settler;
use crate::outbox::webhook::Sender;
use crate::store::outbox::WebhookKey;
use crate::store::{Ring, Store, StoreError};
use crate::time::Timestamp;

/// The running deliveries of this process.
#[derive(Debug)]
pub struct Worker {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts to deliver.
    ///
    /// # Errors
    /// If the resolver cannot be set up.
    pub fn start(config: &Config, store: &Store) -> std::io::Result<Self> {
        let sender = Arc::new(Sender::new(config, store.clone())?);
        let (settler, settling) = Settler::start(store.clone());
        let stop = CancellationToken::new();
        let office = Office {
            store: store.clone(),
            sender,
            settler,
            owner: Uuid::now_v7(),
            stop: stop.clone(),
            couriers: HashMap::new(),
            tasks: JoinSet::new(),
        };
        let task = tokio::spawn(async move {
            office.run().await;
            // Its queue has closed with the last courier.
            let _ = settling.await;
        });
        Ok(Self { stop, task })
    }

    /// Sends nothing more, waits for calls under way and writes down what became of them. To be called before the
    /// store is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(GRACE, self.task).await.is_err() {
            tracing::warn!("webhook calls were still under way at the end of the grace period");
        }
    }
}

struct Office {
    store: Store,
    sender: Arc<Sender>,
    settler: Settler,
    owner: Uuid,
    stop: CancellationToken,
    couriers: HashMap<task::Id, (WebhookKey, Arc<Notify>)>,
    tasks: JoinSet<()>,
}

impl Office {
    async fn run(mut self) {
        let mut rings = self.store.listen();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                ring = rings.next() => match ring {
                    Some(ring) => self.wake(&ring).await,
                    None => break,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.release(ended).await,
                _ = looks.tick() => self.employ(None).await,
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn release(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(failed) => {
                tracing::error!(error = %failed, "webhook.courier_failed");
                failed.id()
            }
        };
        if let Some((key, _)) = self.couriers.remove(&id) {
            // What came while it ended.
            self.employ(Some(key.account)).await;
        }
    }

    async fn wake(&mut self, ring: &Ring) {
        for (key, bell) in self.couriers.values() {
            if ring.is_for(key.account) {
                bell.notify_one();
            }
        }
        match ring {
            Ring::Accounts(accounts) => {
                for account in accounts.iter() {
                    self.employ(Some(*account)).await;
                }
            }
            Ring::All => self.employ(None).await,
        }
    }

    /// A courier for each webhook, of one account or of all, that has work and nobody who does it.
    async fn employ(&mut self, account: Option<AccountId>) {
        let room = COURIERS_MAX.saturating_sub(self.couriers.len());
        if room == 0 {
            return;
        }
        match self.claim(account, room).await {
            Ok(claimed) => claimed.into_iter().for_each(|key| self.start(key)),
            Err(error) => tracing::warn!(error = error.one_line(), "webhook.not_claimed"),
        }
    }

    async fn claim(&self, account: Option<AccountId>, room: usize) -> Result<Vec<WebhookKey>, StoreError> {
        let now = Timestamp::now();
        let mut keys = self.store.webhooks_with_work(account, now).await?;
        keys.truncate(room);
        if keys.is_empty() {
            return Ok(keys);
        }
        let now = Timestamp::now();
        let until = Timestamp::from_millis(now.as_millis().saturating_add(LEASE_MILLIS));
        self.store.claim_webhooks(self.owner, &keys, now, until).await
    }

    fn start(&mut self, key: WebhookKey) {
        let bell = Arc::new(Notify::new());
        let courier = Courier::new(
            key,
            self.owner,
            self.store.clone(),
            self.sender.clone(),
            self.settler.clone(),
            bell.clone(),
        );
        let task = self.tasks.spawn(courier.run(self.stop.clone()));
        self.couriers.insert(task.id(), (key, bell));
    }
}

/// Webhooks that one process serves at once; more wait their turn, or for another process.
const COURIERS_MAX: usize = 1000;
const LOOK: Duration = Duration::from_secs(2);
/// A call takes 10 seconds at most.
const GRACE: Duration = Duration::from_secs(15);
