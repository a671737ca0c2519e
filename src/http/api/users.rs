//! `/accounts/{account}/users`: staff, their identities and sync addresses. Reading takes `addresses` or `contacts`
//! (the latter is not shown the sync addresses), changing `addresses`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::address::{EmailAddress, ServedDomains};
use crate::http::App;
use crate::http::api::held;
use crate::http::api::purge::carry_out;
use crate::http::extract::{Ids, Input, ListParams, Listed, Params};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, UserId};
use crate::store::directory::{self, Principal, PurgeOf, Scope, Verification};

/// A person of the practice's staff.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct User {
    id: Uuid,
    name: String,
    role: String,
    emails: Vec<UserEmail>,
    sync: Sync,
    #[schema(format = DateTime)]
    created_at: String,
    feeds: Feeds,
    /// Domains whose signatures count for an address of the user's, because a person has accepted it.
    remembered_signers: Vec<RememberedSigner>,
    /// Null if none was asked, and for a token without scope `addresses`.
    forwarding_confirmation: Option<ForwardingConfirmation>,
}

#[derive(Serialize, ToSchema)]
struct UserEmail {
    address: String,
    /// Null until it is proven to be theirs.
    #[schema(format = DateTime)]
    verified_at: Option<String>,
}

/// An address of the user's and a domain that may sign for it.
#[derive(Serialize, ToSchema)]
struct RememberedSigner {
    address: String,
    domain: String,
    #[schema(format = DateTime)]
    at: String,
}

/// What is to be forgotten.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ForgetSigner {
    address: String,
    domain: String,
}

/// When mail was last seen through each feed; null for one that is not live.
#[derive(Serialize, ToSchema)]
struct Feeds {
    #[schema(format = DateTime)]
    sync_address: Option<String>,
    #[schema(format = DateTime)]
    auto_forward: Option<String>,
    #[schema(format = DateTime)]
    journal: Option<String>,
    #[schema(format = DateTime)]
    routed_replies: Option<String>,
}

/// What Gmail asks to be confirmed before it forwards to the sync or auto address.
#[derive(Serialize, ToSchema)]
struct ForwardingConfirmation {
    code: Option<String>,
    link: Option<String>,
    #[schema(format = DateTime)]
    at: String,
}

#[derive(Serialize, ToSchema)]
struct Sync {
    /// `on` or `off`.
    state: &'static str,
    /// Null for a token without scope `addresses`, and of a user who is erased.
    sync_address: Option<String>,
    /// Null for a token without scope `addresses`, and of a user who is erased.
    auto_address: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewUser {
    name: String,
    #[serde(default)]
    #[schema(required = false)]
    emails: Vec<String>,
    role: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewUserEmail {
    address: String,
    /// With scope `admin` only.
    verified: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Disconnect {
    /// `none` (default) or `mine`.
    purge: Option<PurgeWord>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PurgeWord {
    Mine,
    None,
}

impl User {
    fn show(user: directory::User, served: &ServedDomains, principal: &Principal) -> Self {
        let shows = principal.scopes.allow(Scope::Addresses);
        let email = |email: directory::UserEmail| UserEmail {
            address: email.address,
            verified_at: email.verified_at.map(crate::time::Timestamp::to_rfc3339),
        };
        let seen = |at: Option<crate::time::Timestamp>| at.map(crate::time::Timestamp::to_rfc3339);
        let (feeds, confirmation) = (user.profile.feeds, user.profile.confirmation.clone());
        Self {
            id: user.id.uuid(),
            feeds: Feeds {
                sync_address: seen(feeds.sync_address),
                auto_forward: seen(feeds.auto_forward),
                journal: seen(feeds.journal),
                routed_replies: seen(feeds.routed_replies),
            },
            remembered_signers: user
                .signers
                .iter()
                .map(|signer| RememberedSigner {
                    address: signer.address.clone(),
                    domain: signer.domain.clone(),
                    at: signer.at.to_rfc3339(),
                })
                .collect(),
            forwarding_confirmation: confirmation.filter(|_| shows).map(|asked| ForwardingConfirmation {
                code: asked.code,
                link: asked.link,
                at: asked.at.to_rfc3339(),
            }),
            sync: Sync {
                state: user.sync.as_str(),
                sync_address: user.sync_address(served).filter(|_| shows),
                auto_address: user.auto_address(served).filter(|_| shows),
            },
            name: user.name,
            role: user.role,
            emails: user.emails.into_iter().map(email).collect(),
            created_at: user.created_at.to_rfc3339(),
        }
    }
}

/// Makes a user with a fresh sync address. Its addresses count as verified if the token has scope `admin`.
#[utoipa::path(post, path = "/accounts/{account}/users", tag = "users", params(("account" = Uuid, Path)),
    request_body = NewUser, responses((status = 201, description = "Made", body = User)))]
pub(in crate::http) async fn create_user(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    once: Once,
    Input(new): Input<NewUser>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let new = directory::NewUser { name: new.name, emails: new.emails, role: new.role };
    let mut change = app.store.change().await?;
    let user = change.create_user(account, &new, vouched_by(&principal)).await?;
    once.answer(change, StatusCode::CREATED, &User::show(user, &app.served, &principal)).await
}

/// The users of an account.
#[utoipa::path(get, path = "/accounts/{account}/users", tag = "users",
    params(("account" = Uuid, Path), ListParams),
    responses((status = 200, description = "Oldest first", body = Listed<User>)))]
pub(in crate::http) async fn list_users(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<ListParams>,
) -> Answer<Json<Listed<User>>> {
    app.enter(&principal, account, READ).await?;
    let page = app.store.users(account, params.slice()?).await?;
    Ok(Listed::json(page, |user| User::show(user, &app.served, &principal)))
}

/// One user.
#[utoipa::path(get, path = "/accounts/{account}/users/{user}", tag = "users",
    params(("account" = Uuid, Path), ("user" = Uuid, Path)),
    responses((status = 200, description = "Found", body = User)))]
pub(in crate::http) async fn read_user(
    State(app): State<App>,
    principal: Principal,
    Ids((account, user)): Ids<(AccountId, UserId)>,
) -> Answer<Json<User>> {
    app.enter(&principal, account, READ).await?;
    let user = app.store.user(account, user).await?.ok_or_else(|| Problem::not_found("user"))?;
    Ok(Json(User::show(user, &app.served, &principal)))
}

/// Adds an address to a user's profile.
#[utoipa::path(post, path = "/accounts/{account}/users/{user}/emails", tag = "users",
    params(("account" = Uuid, Path), ("user" = Uuid, Path)), request_body = NewUserEmail,
    responses((status = 201, description = "Added", body = User)))]
pub(in crate::http) async fn add_user_email(
    State(app): State<App>,
    principal: Principal,
    Ids((account, user)): Ids<(AccountId, UserId)>,
    once: Once,
    Input(new): Input<NewUserEmail>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let verification = match (new.verified, vouched_by(&principal)) {
        (Some(true), Verification::Wanted) => {
            return Err(Problem::forbidden("admin, which `verified` needs"));
        }
        (Some(true), Verification::Trusted) => Verification::Trusted,
        (Some(false) | None, _) => Verification::Wanted,
    };
    let mut change = app.store.change().await?;
    let user = change.add_user_email(account, user, &new.address, verification).await?;
    let id = user.id;
    let shown = User::show(user, &app.served, &principal);
    let answer = once.answer(change, StatusCode::CREATED, &shown).await?;
    if verification == Verification::Trusted
        && let Some(address) = EmailAddress::parse(new.address.trim())
    {
        held::release(&app, account, id, &address, &principal.described()).await;
    }
    Ok(answer)
}

/// Forgets a domain that was accepted as signer of a user's address.
#[utoipa::path(post, path = "/accounts/{account}/users/{user}/signers:forget", tag = "users",
    params(("account" = Uuid, Path), ("user" = Uuid, Path)), request_body = ForgetSigner,
    responses((status = 200, description = "Forgotten", body = User)))]
pub(in crate::http) async fn forget_signer(
    State(app): State<App>,
    principal: Principal,
    Ids((account, user)): Ids<(AccountId, UserId)>,
    once: Once,
    Input(signer): Input<ForgetSigner>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let mut change = app.store.change().await?;
    let user = change.forget_signer(account, user, &signer.address, &signer.domain).await?;
    once.answer(change, StatusCode::OK, &User::show(user, &app.served, &principal)).await
}

/// Gives a user a new sync address; the old one is refused from now on.
#[utoipa::path(post, path = "/accounts/{account}/users/{user}/sync:rotate", tag = "users",
    params(("account" = Uuid, Path), ("user" = Uuid, Path)),
    responses((status = 200, description = "Rotated", body = User)))]
pub(in crate::http) async fn rotate_sync_address(
    State(app): State<App>,
    principal: Principal,
    Ids((account, user)): Ids<(AccountId, UserId)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let mut change = app.store.change().await?;
    let user = change.rotate_sync_address(account, user).await?;
    once.answer(change, StatusCode::OK, &User::show(user, &app.served, &principal)).await
}

/// Stops filing at once.
#[utoipa::path(post, path = "/accounts/{account}/users/{user}/sync:disconnect", tag = "users",
    params(("account" = Uuid, Path), ("user" = Uuid, Path)), request_body = Disconnect,
    responses((status = 200, description = "Disconnected", body = User)))]
pub(in crate::http) async fn disconnect_sync(
    State(app): State<App>,
    principal: Principal,
    Ids((account, user)): Ids<(AccountId, UserId)>,
    once: Once,
    Input(disconnect): Input<Disconnect>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let mut change = app.store.change().await?;
    let shown = change.disconnect_sync(account, user).await?;
    if let Some(PurgeWord::Mine) = disconnect.purge {
        change.commit().await?;
        // What is more than a request may take goes on by itself; `purge.done` tells the end.
        (change, ..) = carry_out(&app, &principal, account, PurgeOf::Mine(user)).await?;
    }
    let user = shown;
    once.answer(change, StatusCode::OK, &User::show(user, &app.served, &principal)).await
}

/// Files again, under the same address.
#[utoipa::path(post, path = "/accounts/{account}/users/{user}/sync:connect", tag = "users",
    params(("account" = Uuid, Path), ("user" = Uuid, Path)),
    responses((status = 200, description = "Connected", body = User)))]
pub(in crate::http) async fn connect_sync(
    State(app): State<App>,
    principal: Principal,
    Ids((account, user)): Ids<(AccountId, UserId)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Addresses]).await?;
    let mut change = app.store.change().await?;
    let user = change.connect_sync(account, user).await?;
    once.answer(change, StatusCode::OK, &User::show(user, &app.served, &principal)).await
}

const READ: &[Scope] = &[Scope::Addresses, Scope::Contacts];

/// R10: the administrator's word makes an address an identity; anybody else's waits for proof.
fn vouched_by(principal: &Principal) -> Verification {
    if principal.scopes.allow(Scope::Admin) { Verification::Trusted } else { Verification::Wanted }
}
