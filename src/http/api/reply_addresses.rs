//! `/accounts/{account}/reply-addresses`. Scope `addresses`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::extract::{Ids, Input};
use crate::http::idempotency::Once;
use crate::http::problem::Answer;
use crate::id::{AccountId, ContactId, ConversationId, UserId};
use crate::store::directory::{self, Principal, Scope};

/// Where an answer comes back.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ReplyAddress {
    address: String,
    conversation_id: Uuid,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewReplyAddress {
    contact_id: Uuid,
    user_id: Option<Uuid>,
    /// A conversation on file; without one a new one begins.
    conversation_id: Option<Uuid>,
    subject: Option<String>,
}

/// Mints a reply address.
#[utoipa::path(post, path = "/accounts/{account}/reply-addresses", tag = "reply addresses",
    params(("account" = Uuid, Path)), request_body = NewReplyAddress,
    responses((status = 201, description = "Minted", body = ReplyAddress)))]
pub(in crate::http) async fn create_reply_address(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    once: Once,
    Input(new): Input<NewReplyAddress>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let new = directory::NewReplyAddress {
        contact: ContactId::from_uuid(new.contact_id),
        user: new.user_id.map(UserId::from_uuid),
        conversation: new.conversation_id.map(ConversationId::from_uuid),
        subject: new.subject,
    };
    let mut change = app.store.change().await?;
    let made = change.create_reply_address(account, &new).await?;
    let shown = ReplyAddress { address: made.address, conversation_id: made.conversation.uuid() };
    once.answer(change, StatusCode::CREATED, &shown).await
}
