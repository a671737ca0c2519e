//! `/accounts/{account}/deliveries`: why did this mail (not) arrive? Scope `messages:meta`, `messages:content` or
//! `review`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::Outcome;
use crate::http::App;
use crate::http::extract::{Ids, Listed, Params, id, slice, time};
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, DeliveryId, MessageId};
use crate::store::directory::{Principal, Scope};
use crate::store::views::{self, DeliveryFilter};
use crate::wire::{AuthView, StepView};

/// One recipient of one transaction, and the trace that explains what became of it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Delivery {
    id: Uuid,
    #[schema(format = DateTime)]
    at: String,
    peer: String,
    helo: String,
    tls: Option<String>,
    /// Null for a discarded message, like the other addresses.
    mail_from: Option<String>,
    rcpt: Option<String>,
    message_id_header: Option<String>,
    from: Option<String>,
    size: i64,
    #[schema(value_type = Option<AuthView>)]
    auth: Option<Value>,
    /// `filed`, `duplicate`, `held`, `discarded`, `rejected` or `deferred`.
    outcome: String,
    reason: String,
    smtp: String,
    message_id: Option<Uuid>,
    #[schema(value_type = Vec<StepView>)]
    steps: Value,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DeliveryParams {
    /// Exactly this author or envelope sender.
    from: Option<String>,
    /// Exactly this recipient.
    to: Option<String>,
    /// The Message-ID header, or the id of a message.
    message_id: Option<String>,
    /// On this contact's record.
    #[param(value_type = Option<Uuid>)]
    contact: Option<String>,
    /// With this outcome.
    outcome: Option<String>,
    /// At or after.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before.
    #[param(format = DateTime)]
    until: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

impl From<views::Delivery> for Delivery {
    fn from(delivery: views::Delivery) -> Self {
        Self {
            id: delivery.id.uuid(),
            at: delivery.at.to_rfc3339(),
            peer: delivery.peer,
            helo: delivery.helo,
            tls: delivery.tls,
            mail_from: delivery.mail_from,
            rcpt: delivery.rcpt,
            message_id_header: delivery.message_id_header,
            from: delivery.from,
            size: delivery.size_bytes,
            auth: delivery.auth,
            outcome: delivery.outcome,
            reason: delivery.reason,
            smtp: delivery.smtp,
            message_id: delivery.message.map(MessageId::uuid),
            steps: delivery.steps,
        }
    }
}

/// Deliveries of an account.
#[utoipa::path(get, path = "/accounts/{account}/deliveries", tag = "deliveries",
    params(("account" = Uuid, Path), DeliveryParams),
    responses((status = 200, description = "Newest first", body = Listed<Delivery>)))]
pub(in crate::http) async fn list_deliveries(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<DeliveryParams>,
) -> Answer<Json<Listed<Delivery>>> {
    app.enter_to_look(&principal, account, READ).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    let filter = DeliveryFilter {
        from: address("from", params.from.as_deref())?,
        to: address("to", params.to.as_deref())?,
        message_id: params.message_id,
        contact: id("contact", params.contact.as_deref())?,
        outcome: params.outcome.map(known_outcome).transpose()?,
        since: time("since", params.since.as_deref())?,
        until: time("until", params.until.as_deref())?,
    };
    Ok(Listed::json(app.store.deliveries(account, &filter, slice).await?, Delivery::from))
}

/// One delivery.
#[utoipa::path(get, path = "/accounts/{account}/deliveries/{delivery}", tag = "deliveries",
    params(("account" = Uuid, Path), ("delivery" = Uuid, Path)),
    responses((status = 200, description = "Found", body = Delivery)))]
pub(in crate::http) async fn read_delivery(
    State(app): State<App>,
    principal: Principal,
    Ids((account, delivery)): Ids<(AccountId, DeliveryId)>,
) -> Answer<Json<Delivery>> {
    app.enter_to_look(&principal, account, READ).await?;
    let found = app.store.delivery(account, delivery).await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("delivery"))?.into()))
}

const READ: &[Scope] = &[Scope::MessagesMeta, Scope::MessagesContent, Scope::Review];

fn address(field: &str, text: Option<&str>) -> Answer<Option<EmailAddress>> {
    let read = |text: &str| {
        EmailAddress::parse(text.trim())
            .ok_or_else(|| Problem::bad_request(format!("{field}: must be an address")))
    };
    text.map(read).transpose()
}

fn known_outcome(word: String) -> Answer<String> {
    if Outcome::ALL.iter().any(|outcome| outcome.as_str() == word) {
        Ok(word)
    } else {
        Err(Problem::bad_request("outcome: is none of filed, duplicate, held, discarded, rejected, deferred"))
    }
}
