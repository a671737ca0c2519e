//! Marks for future sync (R29–R35). Scope `contacts`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::api::contacts;
use crate::http::extract::{Ids, ListParams, Listed, Params, id, slice, time};
use crate::http::idempotency::Once;
use crate::http::problem::Answer;
use crate::id::{AccountId, ContactId, UserId};
use crate::store::directory::{self, MarkFilter, MarkState, Principal, Scope};

/// A mark as its contact shows it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ContactMark {
    user_id: Uuid,
    /// `on` or `off`.
    state: &'static str,
    #[schema(format = DateTime)]
    since: String,
    /// `api`, or the id of the message that set it.
    because: String,
}

/// A mark as a mailbox connector needs it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SyncMark {
    user_id: Uuid,
    contact_id: Uuid,
    contact_email: String,
    /// `on` or `off`.
    state: &'static str,
    #[schema(format = DateTime)]
    since: String,
    /// `api`, or the id of the message that set it.
    because: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct MarkParams {
    /// Of this user.
    #[param(value_type = Option<Uuid>)]
    user: Option<String>,
    /// Changed at or after this time.
    #[param(format = DateTime)]
    since: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

impl From<directory::Mark> for ContactMark {
    fn from(mark: directory::Mark) -> Self {
        Self {
            user_id: mark.user.uuid(),
            state: mark.state.as_str(),
            since: mark.since.to_rfc3339(),
            because: mark.because,
        }
    }
}

impl From<directory::Mark> for SyncMark {
    fn from(mark: directory::Mark) -> Self {
        Self {
            user_id: mark.user.uuid(),
            contact_id: mark.contact.uuid(),
            contact_email: mark.contact_email,
            state: mark.state.as_str(),
            since: mark.since.to_rfc3339(),
            because: mark.because,
        }
    }
}

/// The marks of one contact.
#[utoipa::path(get, path = "/accounts/{account}/contacts/{contact}/sync", tag = "marks",
    params(("account" = Uuid, Path), ("contact" = Uuid, Path), ListParams),
    responses((status = 200, description = "In order of time", body = Listed<ContactMark>)))]
pub(in crate::http) async fn list_contact_marks(
    State(app): State<App>,
    principal: Principal,
    Ids((account, contact)): Ids<(AccountId, ContactId)>,
    Params(params): Params<ListParams>,
) -> Answer<Json<Listed<ContactMark>>> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let slice = params.slice()?;
    contacts::demand(&app, account, contact).await?;
    let filter = MarkFilter { contact: Some(contact), ..MarkFilter::default() };
    Ok(Listed::json(app.store.marks(account, filter, slice).await?, ContactMark::from))
}

/// Marks a contact for a user.
#[utoipa::path(put, path = "/accounts/{account}/contacts/{contact}/sync/{user}", tag = "marks",
    params(("account" = Uuid, Path), ("contact" = Uuid, Path), ("user" = Uuid, Path)),
    responses((status = 200, description = "On", body = ContactMark)))]
pub(in crate::http) async fn turn_mark_on(
    State(app): State<App>,
    principal: Principal,
    Ids((account, contact, user)): Ids<(AccountId, ContactId, UserId)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let mut change = app.store.change().await?;
    let mark = change.set_mark(account, contact, user, MarkState::On).await?;
    once.answer(change, StatusCode::OK, &ContactMark::from(mark)).await
}

/// Turns a contact off for a user; filing does not turn it on again.
#[utoipa::path(delete, path = "/accounts/{account}/contacts/{contact}/sync/{user}", tag = "marks",
    params(("account" = Uuid, Path), ("contact" = Uuid, Path), ("user" = Uuid, Path)),
    responses((status = 204, description = "Off")))]
pub(in crate::http) async fn turn_mark_off(
    State(app): State<App>,
    principal: Principal,
    Ids((account, contact, user)): Ids<(AccountId, ContactId, UserId)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let mut change = app.store.change().await?;
    change.set_mark(account, contact, user, MarkState::Off).await?;
    once.answer_nothing(change).await
}

/// Every mark of an account, those turned off included.
#[utoipa::path(get, path = "/accounts/{account}/sync-marks", tag = "marks",
    params(("account" = Uuid, Path), MarkParams),
    responses((status = 200, description = "In order of time", body = Listed<SyncMark>)))]
pub(in crate::http) async fn list_marks(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<MarkParams>,
) -> Answer<Json<Listed<SyncMark>>> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    let filter = MarkFilter {
        user: id("user", params.user.as_deref())?,
        contact: None,
        since: time("since", params.since.as_deref())?,
    };
    Ok(Listed::json(app.store.marks(account, filter, slice).await?, SyncMark::from))
}
