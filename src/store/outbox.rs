//! What the outbox worker asks of the store: which webhooks have work, a lease on one, what it is to send, and what
//! became of it.
//!
//! Promises that a webhook is one process's at a time, until its lease ends, and that nothing is settled by whoever
//! has lost it. Costs the filing path nothing: it reads events beside it, and settles many attempts in one transaction.

use serde_json::Value;
use tracing::warn;
use uuid::Uuid;

use crate::id::{AccountId, AttemptId, ConversationId, EventId, WebhookId};
use crate::outbox::{EndpointUrl, OutEvent, WebhookSecret};
use crate::store::directory::Detail;
use crate::store::engine::{Connection, query, query_as, query_scalar};
use crate::store::row_keys::RowKeys;
use crate::store::statement::{insert, row};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// A webhook of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookKey {
    /// The account.
    pub account: AccountId,
    /// The webhook.
    pub webhook: WebhookId,
}

/// A webhook as its sender needs it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Which.
    pub key: WebhookKey,
    /// Where it is.
    pub url: EndpointUrl,
    /// The types of events that it wants; `*` is all of them.
    pub wanted: Vec<String>,
    /// How much of them it is told.
    pub detail: Detail,
    /// The one in force first, then the one before while both are live.
    pub secrets: Vec<WebhookSecret>,
    /// Every event up to this one is delivered, not wanted, or among the stored deliveries.
    pub passed: EventId,
}

/// A delivery that could not be done at once, now due; none of its conversation is before it.
#[derive(Clone, Debug)]
pub struct StoredDelivery {
    /// The event; none if it has been erased meanwhile.
    pub event: Option<OutEvent>,
    /// Its id.
    pub event_id: EventId,
    /// Attempts so far.
    pub failed: u32,
    /// The first of them.
    pub begun_at: Option<Timestamp>,
}

/// What waits for a webhook beside the due.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// How many deliveries.
    pub count: usize,
    /// The conversations that they hold back.
    pub conversations: Vec<ConversationId>,
}

/// What a process has done for one webhook since it settled last.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Which.
    pub key: WebhookKey,
    /// Who did it.
    pub owner: Uuid,
    /// How far it has come in the events.
    pub passed: EventId,
    /// Until when it goes on; none if it ends here.
    pub leased_until: Option<Timestamp>,
    /// Stored deliveries that are done.
    pub done: Vec<EventId>,
    /// Deliveries that are to be tried again, or given up.
    pub kept: Vec<KeptDelivery>,
    /// What was tried.
    pub attempts: Vec<AttemptRecord>,
    /// What else there is to change.
    pub then: Then,
}

/// What a settlement changes beside the deliveries it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The endpoint answers again: what waits is due now.
    MakeDue,
    /// Nothing.
    Nothing,
    /// The endpoint says that it is gone (410).
    TurnOff,
}

/// A delivery to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDelivery {
    /// Of this event.
    pub event: EventId,
    /// Which belongs to this conversation.
    pub conversation: Option<ConversationId>,
    /// When it is to be tried again; never, if it is a dead letter.
    pub due_at: Option<Timestamp>,
    /// Attempts so far.
    pub failed: u32,
    /// The first of them.
    pub begun_at: Option<Timestamp>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its id.
    pub id: AttemptId,
    /// The event.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// When it began.
    pub at: Timestamp,
    /// `delivered`, `failed`, or `dead`: failed for the last time.
    pub outcome: &'static str,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The class of what went wrong.
    pub error: Option<&'static str>,
    /// How long it took.
    pub duration_ms: u64,
    /// When the next one is due.
    pub next_at: Option<Timestamp>,
}

type EventColumns = (Uuid, String, i64, Option<Uuid>, String);

impl Store {
    /// Webhooks, of one account or of all, that nobody serves and that have something to send at `now`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn webhooks_with_work(
        &self,
        account: Option<AccountId>,
        now: Timestamp,
    ) -> Result<Vec<WebhookKey>, StoreError> {
        let text = if account.is_some() { WITH_WORK_OF_ONE } else { WITH_WORK };
        let rows: Vec<(Uuid, Uuid)> = query_as(text)
            .bind(account.map_or(Uuid::nil(), AccountId::uuid))
            .bind(now.as_millis())
            .bind(CLAIMS)
            .fetch_all(self.reader())
            .await?;
        Ok(rows.into_iter().map(key_of).collect())
    }

    /// Takes a lease on these webhooks; returns those that nobody was faster with.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claim_webhooks(
        &self,
        owner: Uuid,
        keys: &[WebhookKey],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<WebhookKey>, StoreError> {
        let mut transaction = self.begin().await?;
        let mut claimed = Vec::new();
        for key in keys {
            let taken = query(
                "UPDATE webhooks SET leased_by = $3, leased_until = $4
                 WHERE account_id = $1 AND webhook_id = $2 AND state = 'on' AND leased_until <= $5",
            )
            .bind(key.account.uuid())
            .bind(key.webhook.uuid())
            .bind(owner)
            .bind(until.as_millis())
            .bind(now.as_millis())
            .execute(&mut *transaction)
            .await?;
            if taken > 0 {
                claimed.push(*key);
            }
        }
        transaction.commit().await?;
        Ok(claimed)
    }

    /// Ends every lease. For the start of the only process that serves this database: whoever holds one is dead.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_leases(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        query("UPDATE webhooks SET leased_by = NULL, leased_until = 0 WHERE leased_until > 0")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// The webhook as it is now; none if it is off, deleted, or not `owner`'s any more.
    ///
    /// # Errors
    /// If the database fails, or its secret does not open.
    pub async fn leased_endpoint(
        &self,
        owner: Uuid,
        key: WebhookKey,
        now: Timestamp,
    ) -> Result<Option<Endpoint>, StoreError> {
        let row: Option<EndpointRow> = query_as(
            "SELECT url, events, detail, secret_key, secret, old_secret_key, old_secret, old_secret_until, passed
             FROM webhooks WHERE account_id = $1 AND webhook_id = $2 AND state = 'on' AND leased_by = $3",
        )
        .bind(key.account.uuid())
        .bind(key.webhook.uuid())
        .bind(owner)
        .fetch_optional(self.reader())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let account_keys = self.account_keys_for(key.account, &row.secret_key).await?;
        let open = |content_key: &[u8], sealed: &[u8]| {
            account_keys.open(key.webhook.uuid(), content_key, sealed).map(WebhookSecret::from_bytes)
        };
        let mut secrets = vec![open(&row.secret_key, &row.secret)?];
        let old = row.old_secret_key.as_deref().zip(row.old_secret.as_deref());
        let is_live = row.old_secret_until.is_some_and(|until| until > now.as_millis());
        if let Some((content_key, sealed)) = old.filter(|_| is_live) {
            secrets.push(open(content_key, sealed)?);
        }
        let damaged = || StoreError::Damaged { name: key.webhook.to_string(), detail: "its URL".to_owned() };
        Ok(Some(Endpoint {
            key,
            url: EndpointUrl::parse(&row.url).map_err(|_| damaged())?,
            wanted: serde_json::from_str(&row.events).unwrap_or_default(),
            detail: Detail::read(&row.detail),
            secrets,
            passed: EventId::from_uuid(row.passed),
        }))
    }

    /// Events of an account behind the one given, oldest first, as they are sent; of one that does not open, only that
    /// it was there: it holds up none behind it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn events_to_send(
        &self,
        account: AccountId,
        after: EventId,
        limit: u32,
    ) -> Result<Vec<(EventId, Option<OutEvent>)>, StoreError> {
        let rows: Vec<EventColumns> = query_as(
            "SELECT event_id, type, at, conversation_id, data FROM events
             WHERE account_id = $1 AND event_id > $2 ORDER BY event_id LIMIT $3",
        )
        .bind(account.uuid())
        .bind(after.uuid())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await?;
        let keys = self.row_keys(account).await?;
        let event = |row: EventColumns| (EventId::from_uuid(row.0), event_of(account, row, &keys));
        Ok(rows.into_iter().map(event).collect())
    }

    /// Stored deliveries that are due at `now` and stand first in their conversation, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn due_deliveries(
        &self,
        key: WebhookKey,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let rows: Vec<DueRow> = query_as(DUE)
            .bind(key.account.uuid())
            .bind(key.webhook.uuid())
            .bind(now.as_millis())
            .bind(i64::from(limit))
            .fetch_all(self.reader())
            .await?;
        let keys = self.row_keys(key.account).await?;
        Ok(rows.into_iter().map(|row| row.delivery(key.account, &keys)).collect())
    }

    /// What waits for a webhook.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn waiting(&self, key: WebhookKey) -> Result<Waiting, StoreError> {
        let conversations: Vec<Option<Uuid>> = query_scalar(
            "SELECT conversation_id FROM webhook_deliveries
             WHERE account_id = $1 AND webhook_id = $2 AND state = 'waiting' LIMIT $3",
        )
        .bind(key.account.uuid())
        .bind(key.webhook.uuid())
        .bind(WAITING_READ)
        .fetch_all(self.reader())
        .await?;
        let count = conversations.len();
        let mut conversations: Vec<_> =
            conversations.into_iter().flatten().map(ConversationId::from_uuid).collect();
        conversations.sort_unstable();
        conversations.dedup();
        Ok(Waiting { count, conversations })
    }

    /// Writes down what has been done, all in one transaction; says of each whether the webhook was still its owner's.
    /// Of one that was not, nothing is written.
    ///
    /// # Errors
    /// If the database fails: then nothing is written.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, StoreError> {
        let mut transaction = self.begin().await?;
        let mut answers = Vec::with_capacity(settlements.len());
        let (mut attempts, mut kept) = (Vec::new(), Vec::new());
        for settlement in settlements {
            let is_ours = settlement.write(&mut transaction).await?;
            answers.push(is_ours);
            if is_ours {
                let key = settlement.key;
                attempts.extend(settlement.attempts.into_iter().map(|attempt| AttemptRow::of(key, attempt)));
                kept.extend(settlement.kept.into_iter().map(|delivery| KeptRow::of(key, &delivery)));
            }
        }
        insert(&mut transaction, kept).await?;
        insert(&mut transaction, attempts).await?;
        transaction.commit().await?;
        Ok(answers)
    }
}

impl Settlement {
    async fn write(&self, transaction: &mut Connection) -> Result<bool, StoreError> {
        let (account, webhook) = (self.key.account.uuid(), self.key.webhook.uuid());
        let ours = query(
            "UPDATE webhooks SET passed = $4, leased_until = $5, leased_by = $6
             WHERE account_id = $1 AND webhook_id = $2 AND leased_by = $3",
        )
        .bind(account)
        .bind(webhook)
        .bind(self.owner)
        .bind(self.passed.uuid())
        .bind(self.leased_until.map_or(0, Timestamp::as_millis))
        .bind(self.leased_until.map(|_| self.owner))
        .execute(&mut *transaction)
        .await?;
        if ours == 0 {
            return Ok(false);
        }
        for event in &self.done {
            query(
                "DELETE FROM webhook_deliveries WHERE account_id = $1 AND webhook_id = $2 AND event_id = $3",
            )
            .bind(account)
            .bind(webhook)
            .bind(event.uuid())
            .execute(&mut *transaction)
            .await?;
        }
        let (text, at) = match self.then {
            Then::Nothing => return Ok(true),
            Then::MakeDue => (
                "UPDATE webhook_deliveries SET due_at = $3 WHERE account_id = $1 AND webhook_id = $2
                 AND state = 'waiting' AND due_at > $3",
                Timestamp::now().as_millis(),
            ),
            Then::TurnOff => (
                "UPDATE webhooks SET state = 'off', leased_until = $3,
                 off_because = 'the endpoint answered 410 Gone' WHERE account_id = $1 AND webhook_id = $2",
                0,
            ),
        };
        query(text).bind(account).bind(webhook).bind(at).execute(&mut *transaction).await?;
        Ok(true)
    }
}

#[derive(sqlx::FromRow)]
struct EndpointRow {
    url: String,
    events: String,
    detail: String,
    secret_key: Vec<u8>,
    secret: Vec<u8>,
    old_secret_key: Option<Vec<u8>>,
    old_secret: Option<Vec<u8>>,
    old_secret_until: Option<i64>,
    passed: Uuid,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    delivery_event_id: Uuid,
    failed: i64,
    begun_at: Option<i64>,
    event_type: Option<String>,
    at: Option<i64>,
    conversation_id: Option<Uuid>,
    data: Option<String>,
}

impl DueRow {
    fn delivery(self, account: AccountId, keys: &RowKeys) -> StoredDelivery {
        let id = self.delivery_event_id;
        let event = match (self.event_type, self.at, self.data) {
            (Some(kind), Some(at), Some(data)) => {
                event_of(account, (id, kind, at, self.conversation_id, data), keys)
            }
            _ => None,
        };
        StoredDelivery {
            event,
            event_id: EventId::from_uuid(id),
            failed: u32::try_from(self.failed).unwrap_or(u32::MAX),
            begun_at: self.begun_at.map(Timestamp::from_millis),
        }
    }
}

row! {
    /// A delivery that waits, or was given up.
    KeptRow into "webhook_deliveries",
    then "ON CONFLICT (account_id, webhook_id, event_id) DO UPDATE SET state = excluded.state, failed = excluded.failed, begun_at = excluded.begun_at, due_at = excluded.due_at" {
        account_id: Uuid,
        webhook_id: Uuid,
        event_id: Uuid,
        conversation_id: Option<Uuid>,
        state: &'static str,
        failed: i64,
        begun_at: Option<i64>,
        due_at: i64,
    }
}

row! {
    /// One attempt.
    AttemptRow into "webhook_attempts",
    then "ON CONFLICT (account_id, webhook_id, attempt_id) DO NOTHING" {
        account_id: Uuid,
        webhook_id: Uuid,
        attempt_id: Uuid,
        event_id: Uuid,
        event_type: String,
        at: i64,
        outcome: &'static str,
        status: Option<i64>,
        error: Option<&'static str>,
        duration_ms: i64,
        next_at: Option<i64>,
    }
}

impl KeptRow {
    fn of(key: WebhookKey, delivery: &KeptDelivery) -> Self {
        Self {
            account_id: key.account.uuid(),
            webhook_id: key.webhook.uuid(),
            event_id: delivery.event.uuid(),
            conversation_id: delivery.conversation.map(ConversationId::uuid),
            state: if delivery.due_at.is_some() { "waiting" } else { "dead" },
            failed: i64::from(delivery.failed),
            begun_at: delivery.begun_at.map(Timestamp::as_millis),
            due_at: delivery.due_at.map_or(0, Timestamp::as_millis),
        }
    }
}

impl AttemptRow {
    fn of(key: WebhookKey, attempt: AttemptRecord) -> Self {
        Self {
            account_id: key.account.uuid(),
            webhook_id: key.webhook.uuid(),
            attempt_id: attempt.id.uuid(),
            event_id: attempt.event.uuid(),
            event_type: attempt.event_type,
            at: attempt.at.as_millis(),
            outcome: attempt.outcome,
            status: attempt.status.map(i64::from),
            error: attempt.error,
            duration_ms: i64::try_from(attempt.duration_ms).unwrap_or(i64::MAX),
            next_at: attempt.next_at.map(Timestamp::as_millis),
        }
    }
}

fn key_of((account, webhook): (Uuid, Uuid)) -> WebhookKey {
    WebhookKey { account: AccountId::from_uuid(account), webhook: WebhookId::from_uuid(webhook) }
}

/// None if it does not open.
fn event_of(
    account: AccountId,
    (id, kind, at, conversation, data): EventColumns,
    keys: &RowKeys,
) -> Option<OutEvent> {
    let data = match keys.show("events.data", id, data) {
        Ok(data) => data,
        Err(error) => {
            warn!(account.id = %account, event.id = %id, error = error.one_line(), "events.left_out");
            return None;
        }
    };
    Some(OutEvent {
        id: EventId::from_uuid(id),
        kind,
        at: Timestamp::from_millis(at),
        conversation: conversation.map(ConversationId::from_uuid),
        data: serde_json::from_str(&data).unwrap_or(Value::Null),
    })
}

macro_rules! with_work {
    ($account:literal) => {
        concat!(
            "SELECT w.account_id, w.webhook_id FROM webhooks w WHERE ",
            $account,
            " AND w.state = 'on' AND w.leased_until <= $2 AND (EXISTS (SELECT 1 FROM events e
             WHERE e.account_id = w.account_id AND e.event_id > w.passed)
             OR EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.account_id = w.account_id
             AND d.webhook_id = w.webhook_id AND d.state = 'waiting' AND d.due_at <= $2))
             ORDER BY w.leased_until, w.account_id, w.webhook_id LIMIT $3"
        )
    };
}

const WITH_WORK_OF_ONE: &str = with_work!("w.account_id = $1");
/// No account is below the nil one.
const WITH_WORK: &str = with_work!("w.account_id >= $1");

const DUE: &str = "SELECT d.event_id AS delivery_event_id, d.failed, d.begun_at, d.conversation_id, e.type AS event_type, e.at, e.data
     FROM webhook_deliveries d LEFT JOIN events e ON e.account_id = d.account_id AND e.event_id = d.event_id
     WHERE d.account_id = $1 AND d.webhook_id = $2 AND d.state = 'waiting' AND d.due_at <= $3
     AND NOT EXISTS (SELECT 1 FROM webhook_deliveries b WHERE b.account_id = d.account_id
     AND b.webhook_id = d.webhook_id AND b.conversation_id = d.conversation_id AND b.event_id < d.event_id
     AND b.state = 'waiting') ORDER BY d.event_id LIMIT $4";

/// Webhooks that are claimed at once.
const CLAIMS: i64 = 256;
/// More than a courier lets wait.
const WAITING_READ: i64 = 4096;
