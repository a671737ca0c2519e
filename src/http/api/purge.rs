//! `/accounts/{account}/purge`: erasing by message, contact, user or account (R60). Scope `purge`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::housekeeping::PURGE_PATIENCE_MILLIS;
use crate::http::App;
use crate::http::extract::{Ids, Input};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, ContactId, MessageId, UserId};
use crate::store::directory::{Change, Erased, Principal, PurgeOf, PurgeStep, Scope};

/// What is to be erased: exactly one of the four.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PurgeRequest {
    message_id: Option<Uuid>,
    contact_id: Option<Uuid>,
    user_id: Option<Uuid>,
    /// `true`: everything in the account.
    all: Option<bool>,
    /// Count only; nothing is erased.
    dry_run: Option<bool>,
}

/// What was erased, or would be.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct PurgeAnswer {
    messages: u64,
    attachments: u64,
    blobs: u64,
    /// Octets of the messages as received.
    bytes: u64,
    held: u64,
    deliveries: u64,
    /// False for a dry run; and where more is left than a request may take: the server goes on, the counts are of
    /// what is gone already, and the event `purge.done` tells the end.
    done: bool,
    /// Of a dry run: true where it would be more than this, and counting it all would take too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

impl PurgeRequest {
    fn of(&self) -> Answer<PurgeOf> {
        let given = [
            self.message_id.map(|id| PurgeOf::Message(MessageId::from_uuid(id))),
            self.contact_id.map(|id| PurgeOf::Contact(ContactId::from_uuid(id))),
            self.user_id.map(|id| PurgeOf::User(UserId::from_uuid(id))),
            self.all.filter(|all| *all).map(|_| PurgeOf::All),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(of), None) => Ok(of),
            _ => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "exactly one of message_id, contact_id, user_id, and all: true is needed",
            )),
        }
    }
}

impl PurgeAnswer {
    const fn show(erased: &Erased, done: bool) -> Self {
        Self {
            messages: erased.messages,
            attachments: erased.attachments,
            blobs: erased.blobs,
            bytes: erased.bytes,
            held: erased.held,
            deliveries: erased.deliveries,
            done,
            more: None,
        }
    }
}

/// Erases messages, contacts, users, or the whole account.
#[utoipa::path(post, path = "/accounts/{account}/purge", tag = "purge", params(("account" = Uuid, Path)),
    request_body = PurgeRequest, responses((status = 200, description = "Erased, counted, or begun", body = PurgeAnswer)))]
pub(in crate::http) async fn purge(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    once: Once,
    Input(asked): Input<PurgeRequest>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Purge]).await?;
    let of = asked.of()?;
    if asked.dry_run == Some(true) {
        let (planned, is_more) = app.store.plan_purge(account, of, Instant::now() + PATIENCE).await?;
        let answer = PurgeAnswer { more: is_more.then_some(true), ..PurgeAnswer::show(&planned, false) };
        return Ok(Json(answer).into_response());
    }
    let (change, erased, done) = carry_out(&app, &principal, account, of).await?;
    // The purge has noted itself.
    once.noted().answer(change, StatusCode::OK, &PurgeAnswer::show(&erased, done)).await
}

/// Begins a purge and works on it for as long as a request may take. The change that comes back holds the last piece,
/// or nothing if the server is to go on.
pub(in crate::http) async fn carry_out(
    app: &App,
    principal: &Principal,
    account: AccountId,
    of: PurgeOf,
) -> Answer<(Change, Erased, bool)> {
    let mut change = app.store.change().await?;
    let purge = change.begin_purge(account, of, &principal.actor().to_string()).await?;
    change.commit().await?;
    match app.store.work_off(purge, Instant::now() + PATIENCE).await? {
        PurgeStep::Last(change, erased) => Ok((change, erased, true)),
        PurgeStep::More(erased) => Ok((app.store.change().await?, erased, false)),
    }
}

/// A caller waits no longer; what is left goes on without them.
const PATIENCE: Duration = Duration::from_millis(PURGE_PATIENCE_MILLIS.unsigned_abs());
