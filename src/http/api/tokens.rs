//! `/tokens`. Scope `admin`: an administrator of all makes tokens for every account, one of an account for that one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::extract::{Ids, Input, ListParams, Listed, Params};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, TokenId};
use crate::store::directory::{self, Principal, Scope, Scopes};

/// What is kept of a token.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Token {
    id: Uuid,
    /// Null for every account.
    account_id: Option<Uuid>,
    name: String,
    scopes: Vec<&'static str>,
    #[schema(format = DateTime)]
    created_at: String,
}

/// A token that was made. Its text is shown this once.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct MadeToken {
    id: Uuid,
    token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewToken {
    /// None: every account, with these scopes.
    account_id: Option<Uuid>,
    scopes: Vec<String>,
    name: String,
}

impl From<directory::Token> for Token {
    fn from(token: directory::Token) -> Self {
        Self {
            id: token.id.uuid(),
            account_id: token.account.map(AccountId::uuid),
            name: token.name,
            scopes: token.scopes.words(),
            created_at: token.created_at.to_rfc3339(),
        }
    }
}

/// Makes a token.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, description = "Made", body = MadeToken)))]
pub(in crate::http) async fn create_token(
    State(app): State<App>,
    principal: Principal,
    once: Once,
    Input(new): Input<NewToken>,
) -> Answer<Response> {
    let within = reach(&principal)?;
    let account = new.account_id.map(AccountId::from_uuid);
    if within.is_some() && within != account {
        // R4: whether another account exists is not told; a token for all is not an account's to give.
        return Err(account.map_or_else(|| Problem::forbidden("admin"), |_| Problem::not_found("account")));
    }
    let new = directory::NewToken { account, name: new.name, scopes: Scopes::parse(&new.scopes)? };
    let mut change = app.store.change().await?;
    let (token, text) = change.create_token(&new).await?;
    let made = MadeToken { id: token.id.uuid(), token: text };
    let once = once.about(account.unwrap_or(AccountId::OPERATOR));
    once.answer_secret(change, StatusCode::CREATED, &made).await
}

/// The tokens, without their text.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(ListParams),
    responses((status = 200, description = "Oldest first", body = Listed<Token>)))]
pub(in crate::http) async fn list_tokens(
    State(app): State<App>,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Answer<Json<Listed<Token>>> {
    let within = reach(&principal)?;
    Ok(Listed::json(app.store.tokens(within, params.slice()?).await?, Token::from))
}

/// Ends a token at once.
#[utoipa::path(delete, path = "/tokens/{token}", tag = "tokens", params(("token" = Uuid, Path)),
    responses((status = 204, description = "Ended")))]
pub(in crate::http) async fn delete_token(
    State(app): State<App>,
    principal: Principal,
    Ids(token): Ids<TokenId>,
    once: Once,
) -> Answer<Response> {
    let within = reach(&principal)?;
    let mut change = app.store.change().await?;
    let account = change.delete_token(token, within).await?;
    once.about(account).answer_nothing(change).await
}

/// The account whose tokens are the principal's business; none for all.
fn reach(principal: &Principal) -> Answer<Option<AccountId>> {
    if !principal.scopes.allow(Scope::Admin) {
        return Err(Problem::forbidden("admin"));
    }
    Ok(Some(principal.account).filter(|_| !principal.is_operator()))
}
