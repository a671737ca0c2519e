//! `/accounts/{account}/held`: the review queue. Scope `review`; subject and raw message are shown with
//! `messages:content` too.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::Outcome;
use crate::http::App;
use crate::http::api::content;
use crate::http::auth::Shown;
use crate::http::extract::{Ids, Input, Listed, Params, id, slice};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, ContactId, DeliveryId, MessageId, UserId};
use crate::store::directory::{self, Erasing, HeldTarget, Principal, Scope};
use crate::store::views::{HeldFilter, HeldMail};
use crate::wire::PersonView;

/// A message that waits for a person.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct HeldItem {
    /// The delivery's.
    id: Uuid,
    #[schema(format = DateTime)]
    at: String,
    reason: String,
    why: String,
    #[schema(value_type = PersonView)]
    from: Value,
    #[schema(value_type = Vec<PersonView>)]
    to: Value,
    /// Null without scope `messages:content`.
    subject: Option<String>,
    user_id: Option<Uuid>,
    contact_id: Option<Uuid>,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Whose record it goes on: one of the two. Neither is needed for a `new_identity`: it says "yes, this is me", and
/// the rules decide.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct FileHeld {
    contact_id: Option<Uuid>,
    create_contact: Option<HeldContact>,
    /// For an `unverified_sender` in a user's name: later mail from this address that the same domain has signed counts
    /// as the user's.
    remember_signer: Option<bool>,
}

/// A contact to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HeldContact {
    name: String,
    email: String,
}

/// What became of held mail.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct HeldFiled {
    /// The delivery's.
    id: Uuid,
    /// `filed`, `duplicate`; for a `new_identity` also `held` or `discarded`, as the rules say.
    outcome: &'static str,
    reason: &'static str,
    /// The message on the record; null if it is on none.
    message_id: Option<Uuid>,
    contact_id: Option<Uuid>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct HeldParams {
    /// A reason code.
    reason: Option<String>,
    /// What waits for this contact.
    #[param(value_type = Option<Uuid>)]
    contact: Option<String>,
    /// What waits for this user.
    #[param(value_type = Option<Uuid>)]
    user: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

impl HeldItem {
    fn show(held: HeldMail, shown: Shown) -> Self {
        let mut headers = held.headers;
        let mut take = |field: &str| headers.get_mut(field).map(Value::take).unwrap_or_default();
        let (from, to, subject) = (take("from"), take("to"), take("subject"));
        Self {
            id: held.id.uuid(),
            at: held.at.to_rfc3339(),
            reason: held.reason,
            why: held.why,
            from,
            to: if to.is_array() { to } else { Value::Array(Vec::new()) },
            subject: shown.content(subject.as_str().unwrap_or_default().to_owned()),
            user_id: held.user.map(UserId::uuid),
            contact_id: held.contact.map(ContactId::uuid),
            expires_at: held.expires_at.to_rfc3339(),
        }
    }
}

/// The review queue.
#[utoipa::path(get, path = "/accounts/{account}/held", tag = "held", params(("account" = Uuid, Path), HeldParams),
    responses((status = 200, description = "Newest first", body = Listed<HeldItem>)))]
pub(in crate::http) async fn list_held(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<HeldParams>,
) -> Answer<Json<Listed<HeldItem>>> {
    app.enter_to_look(&principal, account, &[Scope::Review]).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    let filter = HeldFilter {
        contact: id("contact", params.contact.as_deref())?,
        user: id("user", params.user.as_deref())?,
        reason: params.reason,
    };
    let shown = Shown::to(&principal);
    let page = app.store.held_mails(account, &filter, slice).await?;
    if shown != Shown::Meta && !page.items.is_empty() {
        let ids: Vec<DeliveryId> = page.items.iter().map(|held| held.id).collect();
        let detail = Some(serde_json::json!({ "held": ids }));
        app.note_read(&principal, account, "held".to_owned(), detail).await?;
    }
    Ok(Listed::json(page, |held| HeldItem::show(held, shown)))
}

/// One held message.
#[utoipa::path(get, path = "/accounts/{account}/held/{delivery}", tag = "held",
    params(("account" = Uuid, Path), ("delivery" = Uuid, Path)),
    responses((status = 200, description = "Found", body = HeldItem)))]
pub(in crate::http) async fn read_held(
    State(app): State<App>,
    principal: Principal,
    Ids((account, delivery)): Ids<(AccountId, DeliveryId)>,
) -> Answer<Json<HeldItem>> {
    app.enter_to_look(&principal, account, &[Scope::Review]).await?;
    let held = app.store.held_mail(account, delivery).await?;
    let held = held.ok_or_else(|| Problem::not_found("held message"))?;
    let shown = Shown::to(&principal);
    if shown != Shown::Meta {
        app.note_read(&principal, account, format!("held/{delivery}"), None).await?;
    }
    Ok(Json(HeldItem::show(held, shown)))
}

/// A held message, byte for byte. Scopes `review` and `messages:content`.
#[utoipa::path(get, path = "/accounts/{account}/held/{delivery}/raw", tag = "held",
    params(("account" = Uuid, Path), ("delivery" = Uuid, Path)),
    responses((status = 200, description = "As received", body = Vec<u8>, content_type = "message/rfc822")))]
pub(in crate::http) async fn raw_held(
    State(app): State<App>,
    principal: Principal,
    Ids((account, delivery)): Ids<(AccountId, DeliveryId)>,
) -> Answer<Response> {
    app.enter_to_look(&principal, account, &[Scope::Review]).await?;
    if Shown::to(&principal) != Shown::Review {
        return Err(Problem::forbidden("messages:content"));
    }
    let raw = app.store.raw_held(account, delivery).await?;
    let raw = raw.ok_or_else(|| Problem::not_found("held message"))?;
    app.note_read(&principal, account, format!("held/{delivery}/raw"), None).await?;
    Ok(content::file("message/rfc822", &content::disposition("message.eml"), raw))
}

/// `POST …/held/{delivery}:<action>`: tells the action apart from the id.
pub(in crate::http) async fn decide_held(
    State(app): State<App>,
    principal: Principal,
    Ids((account, asked)): Ids<(AccountId, String)>,
    once: Once,
    Input(body): Input<FileHeld>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Review]).await?;
    let (delivery, action) = asked.split_once(':').ok_or_else(|| Problem::not_found("action"))?;
    let delivery = delivery.parse().map_err(|_| Problem::not_found("held message"))?;
    match action {
        "discard" => discard_held(&app, account, delivery, once).await,
        "file" => file_held(&app, &principal, account, delivery, once, body).await,
        _ => Err(Problem::not_found("action")),
    }
}

/// Files a held message on a contact's record.
#[utoipa::path(post, path = "/accounts/{account}/held/{delivery}:file", tag = "held",
    params(("account" = Uuid, Path), ("delivery" = Uuid, Path)), request_body = FileHeld,
    responses((status = 200, description = "Decided", body = HeldFiled)))]
pub(in crate::http) async fn file_held(
    app: &App,
    principal: &Principal,
    account: AccountId,
    delivery: DeliveryId,
    once: Once,
    body: FileHeld,
) -> Answer<Response> {
    let target = match (body.contact_id, body.create_contact) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("create_contact", "not together with contact_id"));
        }
        (Some(contact), None) => HeldTarget::Contact(ContactId::from_uuid(contact)),
        (None, Some(new)) => HeldTarget::Create(directory::NewContact {
            name: new.name,
            email: new.email,
            ..directory::NewContact::default()
        }),
        (None, None) => HeldTarget::AsTheRulesSay,
    };
    let held = app.store.open_held(account, delivery).await?;
    let held = held.ok_or_else(|| Problem::not_found("held message"))?;
    let by = principal.described();
    let mut change = app.store.change().await?;
    if body.remember_signer == Some(true) {
        change.remember_signer(&held).await?;
    }
    let filed = change.file_held(&held, target, &by).await?;
    let shown = HeldFiled {
        id: filed.delivery.uuid(),
        outcome: filed.outcome,
        reason: filed.reason,
        message_id: filed.message.map(MessageId::uuid),
        contact_id: filed.contact.map(ContactId::uuid),
    };
    let answer = once.answer(change, StatusCode::OK, &shown).await?;
    if filed.outcome == Outcome::Discarded.as_str() {
        app.store.finish_discarding(account, delivery).await?;
    }
    if let Some((user, address)) = &filed.accepted {
        release(app, account, *user, address, &by).await;
    }
    Ok(answer)
}

/// R12, R36: an address that is proven now sets free whatever else waits for it. What fails waits for the hourly
/// look: the request itself is done.
pub(in crate::http) async fn release(
    app: &App,
    account: AccountId,
    user: UserId,
    address: &EmailAddress,
    by: &str,
) {
    if let Err(error) = app.store.release_identity(account, user, address, by).await {
        warn!(error = &error as &dyn std::error::Error, "held.not_released");
    }
}

/// Erases a held message; its delivery stays.
#[utoipa::path(post, path = "/accounts/{account}/held/{delivery}:discard", tag = "held",
    params(("account" = Uuid, Path), ("delivery" = Uuid, Path)),
    responses((status = 204, description = "Discarded")))]
pub(in crate::http) async fn discard_held(
    app: &App,
    account: AccountId,
    delivery: DeliveryId,
    once: Once,
) -> Answer<Response> {
    let mut change = app.store.change().await?;
    while change.discard_held(account, delivery).await? == Erasing::Begun {
        change.commit().await?;
        change = app.store.change().await?;
    }
    once.answer_nothing(change).await
}
