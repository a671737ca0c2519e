//! `/accounts/{account}/events`: what happened, pulled in order. Scope `events`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::auth::Shown;
use crate::http::extract::{Ids, Listed, Params, id, slice};
use crate::http::problem::Answer;
use crate::id::AccountId;
use crate::store::directory::{Principal, Scope};
use crate::store::views::{self, Key};

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
    fn show(event: views::Event, shown: Shown) -> Self {
        let mut data = event.data;
        if shown == Shown::Meta {
            hide_content(&mut data);
        }
        Self { id: event.id.uuid(), kind: event.kind, timestamp: event.at.to_rfc3339(), data }
    }
}

/// Events of an account.
#[utoipa::path(get, path = "/accounts/{account}/events", tag = "events",
    params(("account" = Uuid, Path), EventParams),
    responses((status = 200, description = "Oldest first", body = Listed<Event>)))]
pub(in crate::http) async fn list_events(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<EventParams>,
) -> Answer<Json<Listed<Event>>> {
    app.enter(&principal, account, &[Scope::Events]).await?;
    let mut slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    if let Some(after) = id("after", params.after.as_deref())? {
        slice.after = slice.after.or(Some(Key::of_id(after)));
    }
    let shown = Shown::to(&principal);
    let page = app.store.events(account, slice).await?;
    // R64: subjects are content.
    if let (Some(first), Some(last), true) = (page.items.first(), page.items.last(), shown != Shown::Meta) {
        let detail = Some(serde_json::json!({ "first": first.id, "last": last.id }));
        app.note_read(&principal, account, "events".to_owned(), detail).await?;
    }
    Ok(Listed::json(page, |event| Event::show(event, shown)))
}

fn hide_content(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if HIDDEN.contains(&name.as_str()) { *field = Value::Null } else { hide_content(field) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_content),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const HIDDEN: &[&str] = &["subject", "text", "new_text", "filename"];
