//! Writes down what the couriers have done: theirs together in one transaction, and with a pause between two, so that
//! the filing of mail does not wait for them.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::store::Store;
use crate::store::outbox::Settlement;

/// The couriers' end.
#[derive(Clone, Debug)]
pub(super) struct Settler {
    asked: mpsc::Sender<Ask>,
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// On disk.
    Done,
    /// Nothing was written: the store fails, or it cannot take this one.
    Failed,
    /// Nothing was written: the webhook is somebody else's, or deleted.
    Lost,
}

#[derive(Debug)]
struct Ask {
    settlement: Settlement,
    answer: oneshot::Sender<Settled>,
}

impl Settler {
    /// Runs until every courier has dropped its end.
    pub(super) fn start(store: Store) -> (Self, JoinHandle<()>) {
        let (asked, asks) = mpsc::channel(ASKS_MAX);
        (Self { asked }, tokio::spawn(run(store, asks)))
    }

    /// Hands a settlement over. The answer may be dropped.
    pub(super) async fn settle(&self, settlement: Settlement) -> Settled {
        let (answer, answered) = oneshot::channel();
        if self.asked.send(Ask { settlement, answer }).await.is_err() {
            return Settled::Failed;
        }
        answered.await.unwrap_or(Settled::Failed)
    }
}

async fn run(store: Store, mut asks: mpsc::Receiver<Ask>) {
    let mut batch = Vec::with_capacity(BATCH);
    while asks.recv_many(&mut batch, BATCH).await > 0 {
        write(&store, std::mem::take(&mut batch)).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn write(store: &Store, asks: Vec<Ask>) {
    let settlements = asks.iter().map(|ask| ask.settlement.clone()).collect();
    match store.settle(settlements).await {
        Ok(ours) => {
            for (ask, is_ours) in asks.into_iter().zip(ours) {
                ask.answer(if is_ours { Settled::Done } else { Settled::Lost });
            }
        }
        Err(error) => {
            tracing::warn!(error = error.one_line(), "webhook.not_settled");
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            one_by_one(store, asks).await;
        }
    }
}

/// One that the store cannot take must not stop the others.
async fn one_by_one(store: &Store, asks: Vec<Ask>) {
    for ask in asks {
        let settled = match store.settle(vec![ask.settlement.clone()]).await.as_deref() {
            Ok([true]) => Settled::Done,
            Ok(_) => Settled::Lost,
            Err(_) => Settled::Failed,
        };
        ask.answer(settled);
    }
}

impl Ask {
    /// The courier may be gone.
    fn answer(self, settled: Settled) {
        let _ = self.answer.send(settled);
    }
}

const ASKS_MAX: usize = 1024;
/// Settlements of one transaction.
const BATCH: usize = 256;
/// Between two transactions: at most twenty a second.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
