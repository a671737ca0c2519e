//! What the outbox does not need any more: events that had their time, attempts beyond the newest, dead letters whose
//! event is gone.

use tracing::warn;
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::engine::{query, query_scalar};
use crate::store::views::id_floor;
use crate::store::{HOUSEKEEPING_PAUSE, Store, StoreError};
use crate::time::Timestamp;

impl Store {
    /// Events are kept 30 days, and longer, up to 90, while a webhook that is on has not got
    /// them. Goes on until none is left. Returns how many events went. Where it fails in one account, the others are
    /// done all the same, and the next call goes on.
    ///
    /// # Errors
    /// The first, if anything failed; each is logged.
    pub async fn tidy_outbox(&self, now: Timestamp) -> Result<u64, StoreError> {
        let accounts: Vec<Uuid> =
            query_scalar("SELECT account_id FROM accounts").fetch_all(self.reader()).await?;
        let (mut events, mut failed) = (0, None);
        for account in accounts {
            let account = AccountId::from_uuid(account);
            if let Err(error) = self.tidy_account(account, now, &mut events).await {
                warn!(account.id = %account, error = &error as &dyn std::error::Error, "housekeeping.account_failed");
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(events), Err)
    }

    async fn tidy_account(
        &self,
        account: AccountId,
        now: Timestamp,
        events: &mut u64,
    ) -> Result<(), StoreError> {
        loop {
            let gone = self.end_events(account, now).await?;
            *events += gone;
            if gone < BATCH.unsigned_abs() {
                break;
            }
            tokio::time::sleep(HOUSEKEEPING_PAUSE).await;
        }
        self.tidy_webhooks(account, now).await
    }

    async fn end_events(&self, account: AccountId, now: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let gone = query(
            "DELETE FROM events WHERE account_id = $1 AND event_id IN (SELECT e.event_id FROM events e
             WHERE e.account_id = $1 AND e.event_id < $2 AND (e.event_id < $3 OR NOT EXISTS (SELECT 1 FROM webhooks w
             WHERE w.account_id = $1 AND w.state = 'on' AND (w.passed < e.event_id OR EXISTS (SELECT 1
             FROM webhook_deliveries d WHERE d.account_id = $1 AND d.webhook_id = w.webhook_id
             AND d.event_id = e.event_id AND d.state = 'waiting')))) ORDER BY e.event_id LIMIT $4)",
        )
        .bind(account.uuid())
        .bind(id_floor(now.plus_days(-EVENT_DAYS)))
        .bind(id_floor(now.plus_days(-EVENT_DAYS_AT_MOST)))
        .bind(BATCH)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(gone)
    }

    async fn tidy_webhooks(&self, account: AccountId, now: Timestamp) -> Result<(), StoreError> {
        let webhooks: Vec<Uuid> = query_scalar("SELECT webhook_id FROM webhooks WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_all(self.reader())
            .await?;
        for webhook in webhooks {
            let newest: Option<Uuid> = query_scalar(
                "SELECT attempt_id FROM webhook_attempts WHERE account_id = $1 AND webhook_id = $2
                 ORDER BY attempt_id DESC LIMIT 1 OFFSET $3",
            )
            .bind(account.uuid())
            .bind(webhook)
            .bind(ATTEMPTS_MAX)
            .fetch_optional(self.reader())
            .await?;
            let floor = id_floor(now.plus_days(-EVENT_DAYS)).max(newest.unwrap_or(Uuid::nil()));
            let mut transaction = self.begin().await?;
            query(
                "DELETE FROM webhook_attempts WHERE account_id = $1 AND webhook_id = $2 AND attempt_id <= $3",
            )
            .bind(account.uuid())
            .bind(webhook)
            .bind(floor)
            .execute(&mut *transaction)
            .await?;
            query(
                "DELETE FROM webhook_deliveries WHERE account_id = $1 AND webhook_id = $2 AND state = 'dead'
                 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.account_id = webhook_deliveries.account_id
                 AND e.event_id = webhook_deliveries.event_id)",
            )
            .bind(account.uuid())
            .bind(webhook)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// Events can be pulled, and dead letters replayed, for so long.
const EVENT_DAYS: i64 = 30;
/// Three days of attempts end long before; what a webhook that is on has not got by then, it never will.
const EVENT_DAYS_AT_MOST: i64 = 90;
/// Attempts of one webhook that can be looked at.
const ATTEMPTS_MAX: i64 = 10_000;
/// Events of one transaction.
const BATCH: i64 = 1000;
