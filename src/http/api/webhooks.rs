//! `/accounts/{account}/webhooks`: endpoints that events are pushed to. Scope `events`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::auth::Shown;
use crate::http::extract::{Ids, Input, ListParams, Listed, Params, id, slice};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, EventId, WebhookId};
use crate::outbox::EndpointUrl;
use crate::store::directory::{self, Detail, Principal, Scope, WebhookChange, WebhookState};
use crate::store::views::{self, AttemptFilter, Page};

/// A webhook.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Webhook {
    id: Uuid,
    url: String,
    /// `["*"]` is all of them.
    events: Vec<String>,
    include_content: bool,
    /// `on` or `off`.
    state: &'static str,
    /// Why it is off.
    off_because: Option<String>,
    /// Events that could not be delivered yet.
    waiting: u64,
    /// Events that were given up after 3 days.
    dead: u64,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A webhook that was made. The secret is shown this once.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct MadeWebhook {
    id: Uuid,
    /// `whsec_` and base64, as Standard Webhooks has it.
    secret: String,
}

/// A secret that was made. It is shown this once.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct MadeSecret {
    /// `whsec_` and base64, as Standard Webhooks has it.
    secret: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewWebhook {
    /// http or https, without credentials, at most 2048 octets.
    url: String,
    /// Types of events; `["*"]` is all of them.
    events: Vec<String>,
    /// Whether the text of messages is sent along; needs scope `messages:content`.
    #[serde(default)]
    include_content: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct WebhookPatch {
    url: Option<String>,
    events: Option<Vec<String>>,
    include_content: Option<bool>,
    /// `on` or `off`. What comes while it is off is delivered when it is on again.
    state: Option<String>,
}

/// What was put on its way.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Tested {
    event_id: Uuid,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Replay {
    /// This event, delivered or not; without it everything that was not delivered.
    event_id: Option<Uuid>,
}

/// What is sent again.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Replayed {
    events: u64,
}

/// One attempt.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Attempt {
    id: Uuid,
    event_id: Uuid,
    event_type: String,
    #[schema(format = DateTime)]
    at: String,
    /// `delivered`, `failed`, or `dead`: failed for the last time.
    outcome: String,
    /// The HTTP status, if there was an answer.
    status: Option<u16>,
    /// `address_refused`, `closed`, `connect`, `dns`, `gone`, `local`, `redirect`, `status`, `timeout` or `tls`.
    error: Option<String>,
    duration_ms: u64,
    /// When the next attempt was due.
    #[schema(format = DateTime)]
    next_at: Option<String>,
}

/// An event that was given up.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct DeadLetter {
    event_id: Uuid,
    event_type: String,
    #[schema(format = DateTime)]
    timestamp: String,
    attempts: u64,
    #[schema(format = DateTime)]
    first_attempt_at: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AttemptParams {
    /// `delivered`, `failed` or `dead`.
    outcome: Option<String>,
    /// Of this event.
    #[param(value_type = Option<Uuid>)]
    event: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

impl From<directory::Webhook> for Webhook {
    fn from(webhook: directory::Webhook) -> Self {
        Self {
            id: webhook.id.uuid(),
            url: webhook.url,
            events: webhook.events,
            include_content: webhook.detail == Detail::Content,
            state: webhook.state.as_str(),
            off_because: webhook.off_because,
            waiting: webhook.waiting,
            dead: webhook.dead,
            created_at: webhook.created_at.to_rfc3339(),
        }
    }
}

impl From<views::Attempt> for Attempt {
    fn from(attempt: views::Attempt) -> Self {
        Self {
            id: attempt.id.uuid(),
            event_id: attempt.event.uuid(),
            event_type: attempt.event_type,
            at: attempt.at.to_rfc3339(),
            outcome: attempt.outcome,
            status: attempt.status,
            error: attempt.error,
            duration_ms: attempt.duration_ms,
            next_at: attempt.next_at.map(crate::time::Timestamp::to_rfc3339),
        }
    }
}

impl From<views::DeadLetter> for DeadLetter {
    fn from(letter: views::DeadLetter) -> Self {
        Self {
            event_id: letter.event.uuid(),
            event_type: letter.event_type,
            timestamp: letter.at.to_rfc3339(),
            attempts: letter.attempts,
            first_attempt_at: letter.begun_at.map(crate::time::Timestamp::to_rfc3339),
        }
    }
}

/// Makes a webhook; it gets what happens from now on.
#[utoipa::path(post, path = "/accounts/{account}/webhooks", tag = "webhooks", params(("account" = Uuid, Path)),
    request_body = NewWebhook, responses((status = 201, description = "Made", body = MadeWebhook)))]
pub(in crate::http) async fn create_webhook(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    once: Once,
    Input(new): Input<NewWebhook>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let new = directory::NewWebhook {
        url: url(&new.url)?,
        events: new.events,
        detail: detail(&principal, new.include_content)?,
    };
    let mut change = app.store.change().await?;
    let (webhook, secret) = change.create_webhook(account, &new).await?;
    let made = MadeWebhook { id: webhook.id.uuid(), secret: secret.text() };
    once.answer_secret(change, StatusCode::CREATED, &made).await
}

/// The webhooks of an account.
#[utoipa::path(get, path = "/accounts/{account}/webhooks", tag = "webhooks",
    params(("account" = Uuid, Path), ListParams),
    responses((status = 200, description = "Oldest first; these are all", body = Listed<Webhook>)))]
pub(in crate::http) async fn list_webhooks(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<ListParams>,
) -> Answer<Json<Listed<Webhook>>> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    params.slice()?;
    let items = app.store.webhooks(account).await?;
    Ok(Listed::json(Page { items, next: None }, Webhook::from))
}

/// One webhook.
#[utoipa::path(get, path = "/accounts/{account}/webhooks/{webhook}", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path)),
    responses((status = 200, description = "Found", body = Webhook)))]
pub(in crate::http) async fn read_webhook(
    State(app): State<App>,
    principal: Principal,
    Ids((account, webhook)): Ids<(AccountId, WebhookId)>,
) -> Answer<Json<Webhook>> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    Ok(Json(found(&app, account, webhook).await?.into()))
}

/// Changes a webhook, or turns it on or off.
#[utoipa::path(patch, path = "/accounts/{account}/webhooks/{webhook}", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path)), request_body = WebhookPatch,
    responses((status = 200, description = "Changed", body = Webhook)))]
pub(in crate::http) async fn update_webhook(
    State(app): State<App>,
    principal: Principal,
    Ids((account, webhook)): Ids<(AccountId, WebhookId)>,
    once: Once,
    Input(patch): Input<WebhookPatch>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let old = found(&app, account, webhook).await?;
    let url = patch.url.as_deref().map(url).transpose()?;
    // Whoever moves a webhook sends what it tells there: no more than they may read themselves.
    let wanted = patch.include_content.unwrap_or(old.detail == Detail::Content);
    let is_touched = patch.include_content.is_some() || url.is_some();
    let change = WebhookChange {
        url,
        events: patch.events,
        detail: if is_touched { Some(detail(&principal, wanted)?) } else { None },
        state: patch.state.as_deref().map(state).transpose()?,
    };
    let mut writing = app.store.change().await?;
    let changed = writing.update_webhook(account, webhook, &change).await?;
    once.answer(writing, StatusCode::OK, &Webhook::from(changed)).await
}

/// Deletes a webhook with its attempts and whatever it has not got.
#[utoipa::path(delete, path = "/accounts/{account}/webhooks/{webhook}", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path)),
    responses((status = 204, description = "Deleted")))]
pub(in crate::http) async fn delete_webhook(
    State(app): State<App>,
    principal: Principal,
    Ids((account, webhook)): Ids<(AccountId, WebhookId)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let mut change = app.store.change().await?;
    change.delete_webhook(account, webhook).await?;
    once.answer_nothing(change).await
}

/// `POST …/webhooks/{webhook}:<action>`: tells the action apart from the id.
pub(in crate::http) async fn act(
    State(app): State<App>,
    principal: Principal,
    Ids((account, asked)): Ids<(AccountId, String)>,
    once: Once,
    Input(body): Input<Replay>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let (webhook, action) = asked.split_once(':').ok_or_else(|| Problem::not_found("action"))?;
    let webhook = webhook.parse().map_err(|_| Problem::not_found("webhook"))?;
    match action {
        "replay" => replay_webhook(&app, account, webhook, once, body).await,
        "rotate-secret" => rotate_webhook_secret(&app, account, webhook, once).await,
        "test" => test_webhook(&app, account, webhook, once).await,
        _ => Err(Problem::not_found("action")),
    }
}

/// Sends a `webhook.test` event to this webhook alone, whatever types it wants.
#[utoipa::path(post, path = "/accounts/{account}/webhooks/{webhook}:test", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path)),
    responses((status = 202, description = "On its way", body = Tested)))]
pub(in crate::http) async fn test_webhook(
    app: &App,
    account: AccountId,
    webhook: WebhookId,
    once: Once,
) -> Answer<Response> {
    let mut change = app.store.change().await?;
    let event = change.test_webhook(account, webhook).await?;
    once.answer(change, StatusCode::ACCEPTED, &Tested { event_id: event.uuid() }).await
}

/// Sends what was not delivered now, dead letters included; or one event again.
#[utoipa::path(post, path = "/accounts/{account}/webhooks/{webhook}:replay", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path)), request_body = Replay,
    responses((status = 202, description = "On their way", body = Replayed)))]
pub(in crate::http) async fn replay_webhook(
    app: &App,
    account: AccountId,
    webhook: WebhookId,
    once: Once,
    body: Replay,
) -> Answer<Response> {
    let mut change = app.store.change().await?;
    let event = body.event_id.map(EventId::from_uuid);
    let events = change.replay_webhook(account, webhook, event).await?;
    once.answer(change, StatusCode::ACCEPTED, &Replayed { events }).await
}

/// Makes a new secret. For 24 hours the one before signs, too: the header holds two signatures.
#[utoipa::path(post, path = "/accounts/{account}/webhooks/{webhook}:rotate-secret", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path)),
    responses((status = 200, description = "Made", body = MadeSecret)))]
pub(in crate::http) async fn rotate_webhook_secret(
    app: &App,
    account: AccountId,
    webhook: WebhookId,
    once: Once,
) -> Answer<Response> {
    let mut change = app.store.change().await?;
    let secret = change.rotate_webhook_secret(account, webhook).await?;
    once.answer_secret(change, StatusCode::OK, &MadeSecret { secret: secret.text() }).await
}

/// What was tried: the newest 10,000 attempts of 30 days.
#[utoipa::path(get, path = "/accounts/{account}/webhooks/{webhook}/attempts", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path), AttemptParams),
    responses((status = 200, description = "Newest first", body = Listed<Attempt>)))]
pub(in crate::http) async fn list_attempts(
    State(app): State<App>,
    principal: Principal,
    Ids((account, webhook)): Ids<(AccountId, WebhookId)>,
    Params(params): Params<AttemptParams>,
) -> Answer<Json<Listed<Attempt>>> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    let filter = AttemptFilter { event: id("event", params.event.as_deref())?, outcome: params.outcome };
    found(&app, account, webhook).await?;
    Ok(Listed::json(app.store.attempts(account, webhook, &filter, slice).await?, Attempt::from))
}

/// Events that were given up after 3 days. `:replay` sends them again.
#[utoipa::path(get, path = "/accounts/{account}/webhooks/{webhook}/dead-letters", tag = "webhooks",
    params(("account" = Uuid, Path), ("webhook" = Uuid, Path), ListParams),
    responses((status = 200, description = "Oldest first", body = Listed<DeadLetter>)))]
pub(in crate::http) async fn list_dead_letters(
    State(app): State<App>,
    principal: Principal,
    Ids((account, webhook)): Ids<(AccountId, WebhookId)>,
    Params(params): Params<ListParams>,
) -> Answer<Json<Listed<DeadLetter>>> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let slice = params.slice()?;
    found(&app, account, webhook).await?;
    Ok(Listed::json(app.store.dead_letters(account, webhook, slice).await?, DeadLetter::from))
}

async fn found(app: &App, account: AccountId, webhook: WebhookId) -> Answer<directory::Webhook> {
    app.store.webhook(account, webhook).await?.ok_or_else(|| Problem::not_found("webhook"))
}

fn url(text: &str) -> Answer<EndpointUrl> {
    EndpointUrl::parse(text).map_err(|bad| Problem::invalid("url", &bad.to_string()))
}

fn state(word: &str) -> Answer<WebhookState> {
    match word {
        "off" => Ok(WebhookState::Off),
        "on" => Ok(WebhookState::On),
        _ => Err(Problem::invalid("state", "must be on or off")),
    }
}

/// A webhook tells no more than whoever made it may read.
fn detail(principal: &Principal, include_content: bool) -> Answer<Detail> {
    match (Shown::to(principal), include_content) {
        (Shown::Meta, true) => Err(Problem::forbidden(Scope::MessagesContent.as_str())),
        (Shown::Meta, false) => Ok(Detail::Meta),
        (Shown::Content | Shown::Review, true) => Ok(Detail::Content),
        (Shown::Content | Shown::Review, false) => Ok(Detail::Headers),
    }
}
