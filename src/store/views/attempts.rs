//! What webhooks were sent, what came of it, and what was given up.

use uuid::Uuid;

use crate::id::{AccountId, AttemptId, EventId, WebhookId};
use crate::store::engine::{Builder, query_as};
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// The event.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// When it began.
    pub at: Timestamp,
    /// `delivered`, `failed`, or `dead`: failed for the last time.
    pub outcome: String,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The class of what went wrong.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// When the next one was due.
    pub next_at: Option<Timestamp>,
}

/// Which attempts of a webhook to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptFilter {
    /// With this outcome.
    pub outcome: Option<String>,
    /// Of this event.
    pub event: Option<EventId>,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub event: EventId,
    /// Its type.
    pub event_type: String,
    /// When it happened.
    pub at: Timestamp,
    /// Attempts.
    pub attempts: u64,
    /// The first of them.
    pub begun_at: Option<Timestamp>,
}

type Row = (Uuid, Uuid, String, i64, String, Option<i64>, Option<String>, i64, Option<i64>);

impl Store {
    /// Attempts of a webhook, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn attempts(
        &self,
        account: AccountId,
        webhook: WebhookId,
        filter: &AttemptFilter,
        slice: Slice,
    ) -> Result<Page<Attempt>, StoreError> {
        let mut sql = Builder::new(
            "SELECT attempt_id, event_id, event_type, at, outcome, status, error, duration_ms, next_at
             FROM webhook_attempts WHERE account_id = ",
        );
        sql.push_bind(account.uuid()).push(" AND webhook_id = ").push_bind(webhook.uuid());
        if let Some(outcome) = &filter.outcome {
            sql.push(" AND outcome = ").push_bind(outcome.clone());
        }
        if let Some(event) = filter.event {
            sql.push(" AND event_id = ").push_bind(event.uuid());
        }
        if let Some(after) = slice.after {
            sql.push(" AND attempt_id < ").push_bind(after.id);
        }
        sql.push(" ORDER BY attempt_id DESC LIMIT ").push_bind(slice.fetch_limit());
        let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
        let attempts = rows.into_iter().map(attempt_of).collect();
        Ok(slice.page(attempts, |attempt: &Attempt| Key::of_id(attempt.id.uuid())))
    }

    /// Events that a webhook was not given in 3 days, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn dead_letters(
        &self,
        account: AccountId,
        webhook: WebhookId,
        slice: Slice,
    ) -> Result<Page<DeadLetter>, StoreError> {
        let rows: Vec<(Uuid, String, i64, i64, Option<i64>)> = query_as(
            "SELECT d.event_id, e.type, e.at, d.failed, d.begun_at FROM webhook_deliveries d
             JOIN events e ON e.account_id = d.account_id AND e.event_id = d.event_id
             WHERE d.account_id = $1 AND d.webhook_id = $2 AND d.state = 'dead' AND d.event_id > $3
             ORDER BY d.event_id LIMIT $4",
        )
        .bind(account.uuid())
        .bind(webhook.uuid())
        .bind(slice.after.map_or(Uuid::nil(), |key| key.id))
        .bind(slice.fetch_limit())
        .fetch_all(self.reader())
        .await?;
        let letter =
            |(event, event_type, at, failed, begun_at): (Uuid, String, i64, i64, Option<i64>)| DeadLetter {
                event: EventId::from_uuid(event),
                event_type,
                at: Timestamp::from_millis(at),
                attempts: u64::try_from(failed).unwrap_or_default(),
                begun_at: begun_at.map(Timestamp::from_millis),
            };
        let letters = rows.into_iter().map(letter).collect();
        Ok(slice.page(letters, |letter: &DeadLetter| Key::of_id(letter.event.uuid())))
    }
}

fn attempt_of((id, event, event_type, at, outcome, status, error, duration_ms, next_at): Row) -> Attempt {
    Attempt {
        id: AttemptId::from_uuid(id),
        event: EventId::from_uuid(event),
        event_type,
        at: Timestamp::from_millis(at),
        outcome,
        status: status.and_then(|status| u16::try_from(status).ok()),
        error,
        duration_ms: u64::try_from(duration_ms).unwrap_or_default(),
        next_at: next_at.map(Timestamp::from_millis),
    }
}
