//! `/accounts`: tenants and their settings. Reading takes any token of the account, changing `admin`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::extract::{Ids, Input, ListParams, Listed, Params};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::AccountId;
use crate::store::directory::{self, Principal, Scope};

/// A tenant.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Account {
    id: Uuid,
    name: String,
    #[schema(value_type = AccountSettings)]
    settings: Value,
    #[schema(format = DateTime)]
    created_at: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewAccount {
    name: String,
    #[serde(default)]
    #[schema(value_type = AccountSettings, required = false)]
    settings: Map<String, Value>,
}

/// What changes; settings that are not given stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct AccountPatch {
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = AccountSettings, required = false)]
    settings: Map<String, Value>,
}

/// The settings of an account; what is not given has its default.
#[derive(ToSchema)]
#[schema(as = AccountSettings)]
#[expect(dead_code, reason = "describes JSON that filing::Settings reads and writes")]
pub(in crate::http) struct AccountSettings {
    internal_domains: Option<Vec<String>>,
    internal_addresses: Option<Vec<String>>,
    /// Addresses and domains that never get a mail.
    never_log: Option<Vec<String>>,
    /// `create` or `hold`.
    unknown_to: Option<String>,
    daily_limit: Option<u32>,
    /// `off`, `user` or an address.
    forward_replies: Option<String>,
    /// `gmail`, `outlook` or own limits.
    #[schema(value_type = Option<Value>)]
    attachments: Option<Value>,
    trusted_arc_sealers: Option<Vec<String>>,
    journal_sources: Option<Vec<JournalSource>>,
    held_days: Option<u32>,
    /// Null for ever.
    content_days: Option<u32>,
    trace_days: Option<u32>,
    /// Null for never.
    mark_idle_months: Option<u32>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes JSON that filing::Settings reads and writes")]
struct JournalSource {
    domain: String,
    /// CIDR.
    networks: Vec<String>,
}

impl From<directory::Account> for Account {
    fn from(account: directory::Account) -> Self {
        Self {
            id: account.id.uuid(),
            name: account.name,
            settings: serde_json::to_value(account.settings).unwrap_or_default(),
            created_at: account.created_at.to_rfc3339(),
        }
    }
}

/// Makes an account.
#[utoipa::path(post, path = "/accounts", tag = "accounts", request_body = NewAccount,
    responses((status = 201, description = "Made", body = Account)))]
pub(in crate::http) async fn create_account(
    State(app): State<App>,
    principal: Principal,
    once: Once,
    Input(new): Input<NewAccount>,
) -> Answer<Response> {
    require_operator(&principal)?;
    let mut change = app.store.change().await?;
    let account = change.create_account(&new.name, &new.settings).await?;
    once.answer(change, StatusCode::CREATED, &Account::from(account)).await
}

/// All accounts, for an administrator of all; otherwise the token's own.
#[utoipa::path(get, path = "/accounts", tag = "accounts", params(ListParams),
    responses((status = 200, description = "Oldest first", body = Listed<Account>)))]
pub(in crate::http) async fn list_accounts(
    State(app): State<App>,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Answer<Json<Listed<Account>>> {
    let slice = params.slice()?;
    let page = if principal.is_operator() {
        app.store.accounts(slice).await?
    } else {
        let own = app.store.account(principal.account).await?;
        crate::store::views::Page { items: own.into_iter().collect(), next: None }
    };
    Ok(Listed::json(page, Account::from))
}

/// One account.
#[utoipa::path(get, path = "/accounts/{account}", tag = "accounts", params(("account" = Uuid, Path)),
    responses((status = 200, description = "Found", body = Account)))]
pub(in crate::http) async fn read_account(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
) -> Answer<Json<Account>> {
    app.enter(&principal, account, Scope::ALL).await?;
    let found = app.store.account(account).await?.ok_or_else(|| Problem::not_found("account"))?;
    Ok(Json(found.into()))
}

/// Renames an account or replaces the settings given.
#[utoipa::path(patch, path = "/accounts/{account}", tag = "accounts", params(("account" = Uuid, Path)),
    request_body = AccountPatch, responses((status = 200, description = "Changed", body = Account)))]
pub(in crate::http) async fn update_account(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    once: Once,
    Input(patch): Input<AccountPatch>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Admin]).await?;
    let mut change = app.store.change().await?;
    let account = change.update_account(account, patch.name.as_deref(), &patch.settings).await?;
    once.answer(change, StatusCode::OK, &Account::from(account)).await
}

pub(super) fn require_operator(principal: &Principal) -> Answer<()> {
    if principal.is_operator() { Ok(()) } else { Err(Problem::forbidden("admin")) }
}
