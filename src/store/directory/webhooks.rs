//! Webhooks as the API makes, shows and changes them. Their secrets are sealed with the account's key.

use aws_lc_rs::rand;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::id::{AccountId, EventId, WebhookId};
use crate::outbox::{EVENT_TYPES, EndpointUrl, TEST_EVENT, WebhookSecret};
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::keyring;
use crate::store::seal::{AccountKeys, SealError};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// An endpoint that events are pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Where it is.
    pub url: String,
    /// The types of events that it wants; `*` is all of them.
    pub events: Vec<String>,
    /// How much of them it is told.
    pub detail: Detail,
    /// Whether it is served.
    pub state: WebhookState,
    /// Why it is off.
    pub off_because: Option<String>,
    /// Events that could not be delivered yet.
    pub waiting: u64,
    /// Events that were given up.
    pub dead: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How much of an event an endpoint is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Ids, headers, and the text of the message.
    Content,
    /// Ids and headers.
    Headers,
    /// The same without subjects and file names: its maker may not read messages.
    Meta,
}

impl Detail {
    /// The word of the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Headers => "headers",
            Self::Meta => "meta",
        }
    }

    /// The least is what an unknown word means.
    pub(in crate::store) fn read(word: &str) -> Self {
        match word {
            "content" => Self::Content,
            "headers" => Self::Headers,
            _ => Self::Meta,
        }
    }
}

/// Whether a webhook is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookState {
    /// By a person, or because the endpoint said that it is gone.
    Off,
    /// Events are sent.
    On,
}

impl WebhookState {
    /// The word of API and store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

/// What makes a webhook.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Where it is.
    pub url: EndpointUrl,
    /// The types of events that it wants; `*` is all of them.
    pub events: Vec<String>,
    /// How much of them it is told.
    pub detail: Detail,
}

/// What changes; what is none stays.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// Where it is.
    pub url: Option<EndpointUrl>,
    /// The types of events that it wants.
    pub events: Option<Vec<String>>,
    /// How much of them it is told.
    pub detail: Option<Detail>,
    /// Whether it is served. What came while it was off is delivered when it is on again.
    pub state: Option<WebhookState>,
}

type Row = (Uuid, String, String, String, String, Option<String>, i64, i64, i64);

const SELECT: &str = "SELECT w.webhook_id, w.url, w.events, w.detail, w.state, w.off_because, w.created_at,
     (SELECT COUNT(*) FROM webhook_deliveries d WHERE d.account_id = w.account_id AND d.webhook_id = w.webhook_id
     AND d.state = 'waiting'),
     (SELECT COUNT(*) FROM webhook_deliveries d WHERE d.account_id = w.account_id AND d.webhook_id = w.webhook_id
     AND d.state = 'dead') FROM webhooks w WHERE w.account_id = $1 AND w.webhook_id >= $2 AND w.webhook_id <= $3
     ORDER BY w.webhook_id LIMIT 100";

impl Store {
    /// The webhooks of an account, oldest first: at most [`WEBHOOKS_MAX`].
    ///
    /// # Errors
    /// If the database fails.
    pub async fn webhooks(&self, account: AccountId) -> Result<Vec<Webhook>, StoreError> {
        self.webhooks_between(account, Uuid::nil(), Uuid::max()).await
    }

    /// One webhook; none if there is no such in this account.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn webhook(&self, account: AccountId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        Ok(self.webhooks_between(account, id.uuid(), id.uuid()).await?.pop())
    }

    async fn webhooks_between(
        &self,
        account: AccountId,
        first: Uuid,
        last: Uuid,
    ) -> Result<Vec<Webhook>, StoreError> {
        let rows: Vec<Row> =
            query_as(SELECT).bind(account.uuid()).bind(first).bind(last).fetch_all(self.reader()).await?;
        Ok(rows.into_iter().map(webhook_of).collect())
    }
}

impl Change {
    /// Makes a webhook, which gets what happens from now on. Its secret is shown this once.
    ///
    /// # Errors
    /// `NotFound` for the account, `Invalid`, or `Conflict` if the account has as many as it may have.
    pub async fn create_webhook(
        &mut self,
        account: AccountId,
        new: &NewWebhook,
    ) -> Result<(Webhook, WebhookSecret), DirectoryError> {
        self.require_account(account).await?;
        let events = checked_events(&new.events)?;
        let others: i64 = query_scalar("SELECT COUNT(*) FROM webhooks WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_one(self.on(account).await?)
            .await?;
        if others >= WEBHOOKS_MAX {
            return Err(DirectoryError::Conflict(format!("an account has at most {WEBHOOKS_MAX} webhooks")));
        }
        let (id, last) = (WebhookId::generate(), self.last_event(account).await?);
        let secret = fresh_secret()?;
        let sealed = self.keys_of(account).await?.seal(id.uuid(), secret.expose());
        let sealed = sealed.map_err(StoreError::from)?;
        query(
            "INSERT INTO webhooks (account_id, webhook_id, url, events, detail, state, secret_key, secret, passed,
             leased_until, created_at) VALUES ($1, $2, $3, $4, $5, 'on', $6, $7, $8, 0, $9)",
        )
        .bind(account.uuid())
        .bind(id.uuid())
        .bind(new.url.as_str())
        .bind(serde_json::Value::from(events).to_string())
        .bind(new.detail.as_str())
        .bind(sealed.content_key)
        .bind(sealed.bytes)
        // Made while the account is ours, as the ids of events are: what is behind it, happens after this.
        .bind(EventId::generate().behind(last).uuid())
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        Ok((self.webhook(account, id).await?, secret))
    }

    /// Changes what is given.
    ///
    /// # Errors
    /// `NotFound` or `Invalid`.
    pub async fn update_webhook(
        &mut self,
        account: AccountId,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Webhook, DirectoryError> {
        let old = self.webhook(account, id).await?;
        let events = change.events.as_deref().map(checked_events).transpose()?.unwrap_or(old.events);
        let state = change.state.unwrap_or(old.state);
        let off_because = match (old.state, state) {
            (_, WebhookState::On) => None,
            (WebhookState::On, WebhookState::Off) => Some("turned off".to_owned()),
            (WebhookState::Off, WebhookState::Off) => old.off_because,
        };
        query(
            "UPDATE webhooks SET url = $3, events = $4, detail = $5, state = $6, off_because = $7
             WHERE account_id = $1 AND webhook_id = $2",
        )
        .bind(account.uuid())
        .bind(id.uuid())
        .bind(change.url.as_ref().map_or(old.url.as_str(), EndpointUrl::as_str))
        .bind(serde_json::Value::from(events).to_string())
        .bind(change.detail.unwrap_or(old.detail).as_str())
        .bind(state.as_str())
        .bind(off_because)
        .execute(self.on(account).await?)
        .await?;
        self.rung.push(account);
        self.webhook(account, id).await
    }

    /// Deletes a webhook with its attempts and what it has not got.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_webhook(&mut self, account: AccountId, id: WebhookId) -> Result<(), DirectoryError> {
        self.webhook(account, id).await?;
        for statement in [
            "DELETE FROM webhook_attempts WHERE account_id = $1 AND webhook_id = $2",
            "DELETE FROM webhook_deliveries WHERE account_id = $1 AND webhook_id = $2",
            "DELETE FROM webhooks WHERE account_id = $1 AND webhook_id = $2",
        ] {
            query(statement).bind(account.uuid()).bind(id.uuid()).execute(self.on(account).await?).await?;
        }
        self.rung.push(account);
        Ok(())
    }

    /// Makes a new secret; the one before signs beside it for [`SECRETS_OVERLAP_MILLIS`].
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn rotate_webhook_secret(
        &mut self,
        account: AccountId,
        id: WebhookId,
    ) -> Result<WebhookSecret, DirectoryError> {
        self.webhook(account, id).await?;
        let secret = fresh_secret()?;
        let sealed = self.keys_of(account).await?.seal(id.uuid(), secret.expose());
        let sealed = sealed.map_err(StoreError::from)?;
        query(
            "UPDATE webhooks SET old_secret_key = secret_key, old_secret = secret, old_secret_until = $5,
             secret_key = $3, secret = $4 WHERE account_id = $1 AND webhook_id = $2",
        )
        .bind(account.uuid())
        .bind(id.uuid())
        .bind(sealed.content_key)
        .bind(sealed.bytes)
        .bind(self.now.as_millis().saturating_add(SECRETS_OVERLAP_MILLIS))
        .execute(self.on(account).await?)
        .await?;
        self.rung.push(account);
        Ok(secret)
    }

    /// Puts an event into the outbox that only this webhook gets, whatever it wants otherwise.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it is off.
    pub async fn test_webhook(
        &mut self,
        account: AccountId,
        id: WebhookId,
    ) -> Result<EventId, DirectoryError> {
        if self.webhook(account, id).await?.state == WebhookState::Off {
            return Err(DirectoryError::Conflict("the webhook is off".to_owned()));
        }
        Ok(self.emit(account, TEST_EVENT, None, &json!({ "webhook_id": id })).await?)
    }

    /// Sends everything that this webhook has not got now, given up or not; or one event, delivered or not. Says how
    /// many that are.
    ///
    /// # Errors
    /// `NotFound` for webhook or event, or `Conflict` if the webhook is off.
    pub async fn replay_webhook(
        &mut self,
        account: AccountId,
        id: WebhookId,
        event: Option<EventId>,
    ) -> Result<u64, DirectoryError> {
        if self.webhook(account, id).await?.state == WebhookState::Off {
            return Err(DirectoryError::Conflict("the webhook is off".to_owned()));
        }
        let replayed = match event {
            Some(event) => self.replay_event(account, id, event).await?,
            None => query(
                "UPDATE webhook_deliveries SET begun_at = CASE WHEN state = 'dead' THEN NULL ELSE begun_at END,
                 failed = CASE WHEN state = 'dead' THEN 0 ELSE failed END, state = 'waiting', due_at = $3
                 WHERE account_id = $1 AND webhook_id = $2",
            )
            .bind(account.uuid())
            .bind(id.uuid())
            .bind(self.now.as_millis())
            .execute(self.on(account).await?)
            .await?,
        };
        self.rung.push(account);
        Ok(replayed)
    }

    async fn replay_event(
        &mut self,
        account: AccountId,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<u64, DirectoryError> {
        let replayed = query(
            "INSERT INTO webhook_deliveries (account_id, webhook_id, event_id, conversation_id, state, failed, begun_at, due_at)
             SELECT e.account_id, w.webhook_id, e.event_id, e.conversation_id, 'waiting', 0, NULL, $4 FROM events e
             JOIN webhooks w ON w.account_id = e.account_id AND w.webhook_id = $2 AND w.passed >= e.event_id
             WHERE e.account_id = $1 AND e.event_id = $3
             ON CONFLICT (account_id, webhook_id, event_id)
             DO UPDATE SET state = 'waiting', failed = 0, begun_at = NULL, due_at = excluded.due_at",
        )
        .bind(account.uuid())
        .bind(webhook.uuid())
        .bind(event.uuid())
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        if replayed > 0 {
            return Ok(replayed);
        }
        let found: Option<i64> =
            query_scalar("SELECT at FROM events WHERE account_id = $1 AND event_id = $2")
                .bind(account.uuid())
                .bind(event.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        // One that is there and not passed yet is on its way.
        found.map(|_| 0).ok_or(DirectoryError::NotFound("event"))
    }

    async fn webhook(&mut self, account: AccountId, id: WebhookId) -> Result<Webhook, DirectoryError> {
        let row: Option<Row> = query_as(SELECT)
            .bind(account.uuid())
            .bind(id.uuid())
            .bind(id.uuid())
            .fetch_optional(self.on(account).await?)
            .await?;
        row.map(webhook_of).ok_or(DirectoryError::NotFound("webhook"))
    }

    /// The account's keys as this transaction sees them: what it seals, the newest has sealed.
    pub(in crate::store) async fn keys_of(&mut self, account: AccountId) -> Result<AccountKeys, StoreError> {
        let rows = keyring::wrapped_keys(account).fetch_all(self.on(account).await?).await?;
        keyring::open(self.store.vault(), account, rows).await
    }
}

fn fresh_secret() -> Result<WebhookSecret, DirectoryError> {
    let mut random = Zeroizing::new([0; 32]);
    rand::fill(random.as_mut()).map_err(|_| StoreError::from(SealError::Failed))?;
    Ok(WebhookSecret::from_bytes(random.to_vec()))
}

/// Each once, and none that does not exist.
fn checked_events(events: &[String]) -> Result<Vec<String>, DirectoryError> {
    if events.is_empty() {
        return Err(DirectoryError::invalid("events", "must not be empty; [\"*\"] is all of them"));
    }
    for (n, event) in events.iter().enumerate() {
        if event != "*" && !EVENT_TYPES.contains(&event.as_str()) {
            return Err(DirectoryError::invalid(format!("events[{n}]"), "is none of the events of this API"));
        }
    }
    let mut events = events.to_vec();
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn webhook_of((id, url, events, detail, state, off_because, created_at, waiting, dead): Row) -> Webhook {
    Webhook {
        id: WebhookId::from_uuid(id),
        url,
        events: serde_json::from_str(&events).unwrap_or_default(),
        detail: Detail::read(&detail),
        state: if state == "on" { WebhookState::On } else { WebhookState::Off },
        off_because,
        waiting: u64::try_from(waiting).unwrap_or_default(),
        dead: u64::try_from(dead).unwrap_or_default(),
        created_at: Timestamp::from_millis(created_at),
    }
}

/// Webhooks of one account.
pub const WEBHOOKS_MAX: i64 = 20;
/// Both secrets sign for so long after a rotation.
pub const SECRETS_OVERLAP_MILLIS: i64 = 24 * 60 * 60 * 1000;
