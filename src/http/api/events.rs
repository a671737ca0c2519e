//! `/accounts/{account}/events`: what happened, pulled in order, or streamed. Scope `events`.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::api::event_stream;
use crate::http::auth::Shown;
use crate::http::extract::{Ids, Listed, Params, id, slice};
use crate::http::problem::Answer;
use crate::id::AccountId;
use crate::store::directory::{Principal, Scope};
use crate::store::views::{self, Key};
use crate::wire::hide_content;

/// Something that happened.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Event {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    #[schema(format = DateTime)]
    timestamp: String,
    /// Ids and headers; a subject only with scope `messages:content`.
    #[schema(value_type = Object)]
    data: Value,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct EventParams {
    /// The last event that is known.
    #[param(value_type = Option<Uuid>)]
    after: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before; the same as `after` with its last event.
    cursor: Option<String>,
}

impl Event {
    pub(super) fn show(event: views::Event, shown: Shown) -> Self {
        let mut data = event.data;
        if shown == Shown::Meta {
            hide_content(&mut data);
        }
        Self { id: event.id.uuid(), kind: event.kind, timestamp: event.at.to_rfc3339(), data }
    }
}

/// Events of an account. With `Accept: text/event-stream` they are streamed: first those behind `Last-Event-ID` (or
/// `after`), then each as it happens; `data` of each is the same object.
#[utoipa::path(get, path = "/accounts/{account}/events", tag = "events",
    params(("account" = Uuid, Path), EventParams,
        ("Last-Event-ID" = Option<Uuid>, Header, description = "The last event that is known, of a stream")),
    responses((status = 200, description = "Oldest first", content(
        (Listed<Event> = "application/json"), (String = "text/event-stream")))))]
pub(in crate::http) async fn list_events(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<EventParams>,
    headers: HeaderMap,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let mut slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    if let Some(after) = id("after", params.after.as_deref())? {
        slice.after = slice.after.or(Some(Key::of_id(after)));
    }
    let shown = Shown::to(&principal);
    if wants_stream(&headers) {
        let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
        let last = id("Last-Event-ID", last.filter(|last| !last.is_empty()))?.map(Key::of_id);
        return event_stream::open(&app, &principal, account, last.or(slice.after), shown);
    }
    let page = app.store.events(account, slice).await?;
    note(&app, &principal, account, shown, &page.items).await?;
    Ok(Listed::json(page, |event| Event::show(event, shown)).into_response())
}

/// R64: subjects are content.
pub(super) async fn note(
    app: &App,
    principal: &Principal,
    account: AccountId,
    shown: Shown,
    events: &[views::Event],
) -> Answer<()> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
    if shown == Shown::Meta {
        return Ok(());
    }
    let detail = Some(serde_json::json!({ "first": first.id, "last": last.id }));
    app.note_read(principal, account, "events".to_owned(), detail).await
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    types.any(|range| range.trim().eq_ignore_ascii_case("text/event-stream"))
}
