//! Actions on a conversation: its reply addresses are revoked. Scope `addresses`.

use axum::extract::State;
use axum::response::Response;

use crate::http::App;
use crate::http::extract::Ids;
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, ConversationId};
use crate::store::directory::{Principal, Scope};

/// `POST …/conversations/{conversation}:<action>`: tells the action apart from the id.
pub(in crate::http) async fn act(
    State(app): State<App>,
    principal: Principal,
    Ids((account, asked)): Ids<(AccountId, String)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let (conversation, action) = asked.split_once(':').ok_or_else(|| Problem::not_found("action"))?;
    let conversation = conversation.parse().map_err(|_| Problem::not_found("conversation"))?;
    match action {
        "revoke-reply-addresses" => revoke_reply_addresses(&app, account, conversation, once).await,
        _ => Err(Problem::not_found("action")),
    }
}

/// Revokes the reply addresses of a conversation, whenever and wherever they were minted: mail to them is answered
/// 550 5.2.1 from now on. There is no way back.
#[utoipa::path(post, path = "/accounts/{account}/conversations/{conversation}:revoke-reply-addresses",
    tag = "reply addresses", params(("account" = Uuid, Path), ("conversation" = Uuid, Path)),
    responses((status = 204, description = "Revoked")))]
pub(in crate::http) async fn revoke_reply_addresses(
    app: &App,
    account: AccountId,
    conversation: ConversationId,
    once: Once,
) -> Answer<Response> {
    let mut change = app.store.change().await?;
    change.revoke_reply_addresses(account, conversation).await?;
    once.answer_nothing(change).await
}
