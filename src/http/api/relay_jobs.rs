//! `/accounts/{account}/relay-jobs`: what went, goes and did not go through the smarthost. Scope `review`.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::extract::{Ids, Listed, Params, slice};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::AccountId;
use crate::store::RelayJobView;
use crate::store::directory::{Principal, Scope};
use crate::time::Timestamp;

/// Something that is sent through the smarthost.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct RelayJob {
    id: Uuid,
    /// `contact` and `staff` are copies of mail, `digest` and `confirmation` notices to staff.
    kind: String,
    /// `waiting`, `sending`, `sent`, `failed` or `cancelled`.
    state: String,
    /// Of a copy.
    message_id: Option<Uuid>,
    /// Of a copy.
    conversation_id: Option<Uuid>,
    user_id: Option<Uuid>,
    /// Attempts begun.
    attempts: i64,
    /// Of one that waits: the next attempt, not before.
    #[schema(format = DateTime)]
    next_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    settled_at: Option<String>,
    /// What the smarthost said last.
    last_reply: Option<String>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct RelayJobParams {
    /// Those in this state.
    state: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

impl From<RelayJobView> for RelayJob {
    fn from(job: RelayJobView) -> Self {
        let time = |millis| Timestamp::from_millis(millis).to_rfc3339();
        let is_copy = matches!(job.kind.as_str(), "contact" | "staff");
        Self {
            id: job.job_id,
            message_id: is_copy.then_some(job.job_id),
            conversation_id: job.conversation_id,
            user_id: job.user_id,
            attempts: job.attempts,
            next_at: (job.state == "waiting").then(|| time(job.next_at)),
            created_at: time(job.created_at),
            settled_at: job.settled_at.map(time),
            last_reply: job.last_reply,
            kind: job.kind,
            state: job.state,
        }
    }
}

/// The relay's queue and history.
#[utoipa::path(get, path = "/accounts/{account}/relay-jobs", tag = "relay",
    params(("account" = Uuid, Path), RelayJobParams),
    responses((status = 200, description = "Newest first", body = Listed<RelayJob>)))]
pub(in crate::http) async fn list_relay_jobs(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<RelayJobParams>,
) -> Answer<Json<Listed<RelayJob>>> {
    app.enter(&principal, account, &[Scope::Review]).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    if let Some(state) = params.state.as_deref().filter(|state| !STATES.contains(state)) {
        return Err(Problem::bad_request(format!("state: `{state}` is none of {}", STATES.join(", "))));
    }
    let jobs = app.store.relay_jobs(account, params.state.as_deref(), slice).await?;
    Ok(Listed::json(jobs, RelayJob::from))
}

/// Sends a failed or cancelled job again.
#[utoipa::path(post, path = "/accounts/{account}/relay-jobs/{job}/retry", tag = "relay",
    params(("account" = Uuid, Path), ("job" = Uuid, Path)),
    responses((status = 204, description = "It waits again")))]
pub(in crate::http) async fn retry_relay_job(
    State(app): State<App>,
    principal: Principal,
    Ids((account, job)): Ids<(AccountId, Uuid)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Review]).await?;
    let mut change = app.store.change().await?;
    change.retry_relay_job(account, job).await?;
    once.answer_nothing(change).await
}

const STATES: [&str; 5] = ["cancelled", "failed", "sending", "sent", "waiting"];
