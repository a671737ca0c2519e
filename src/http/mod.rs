//! The HTTP side: `/api/v1` (CONTRACT, "HTTP API"), its OpenAPI document, health and metrics.
//!
//! The router on one page. Promises: every error is a problem document, a token sees its own account only (R4),
//! bodies and waits are bounded. Decides nothing about mail: it reads views and writes through the directory.

mod api;
mod audit;
mod auth;
mod confirm;
mod extract;
mod idempotency;
mod openapi;
mod ops;
mod page;
mod problem;
mod rate;
mod serve;
mod undo;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use serve::serve;

use crate::address::ServedDomains;
use crate::http::api::event_stream::Streams;
use crate::http::api::{
    accounts, audit as audit_trail, contacts, content, conversations, deliveries, events, held, import,
    marks, messages, purge, relay_jobs, reply_addresses, search, tokens, users, webhooks,
};
use crate::http::problem::Problem;
use crate::http::rate::RateLimit;
use crate::keys::Keys;
use crate::mta_sts;
use crate::store::Store;

/// What the HTTP side works with.
#[derive(Clone)]
pub struct AppState {
    /// Database and blobs.
    pub store: Store,
    /// Keys of address hashes and reply tokens.
    pub keys: Arc<Keys>,
    /// The domains of sync and reply addresses.
    pub served: ServedDomains,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Cancelled once the process drains: `/readyz` says so.
    pub draining: CancellationToken,
    /// How the world reaches this server, without a slash at the end.
    pub public_url: String,
    /// What senders learn about TLS with us; none where nothing is published.
    pub mta_sts: Option<mta_sts::Policy>,
}

/// What handlers share.
#[derive(Clone)]
struct App(Arc<Shared>);

struct Shared {
    state: AppState,
    rate: RateLimit,
    streams: Streams,
    openapi: String,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for Shared {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.state
    }
}

/// All routes.
pub fn router(state: AppState) -> Router {
    let (_, document) = api(None).split_for_parts();
    let openapi = openapi::document(document, &state.public_url);
    let app =
        App(Arc::new(Shared { state, rate: RateLimit::default(), streams: Streams::default(), openapi }));
    let (api, _) = api(Some(&app)).split_for_parts();
    api.route("/api/v1/openapi.json", get(ops::openapi_json))
        .route("/confirm/{token}", get(confirm::show).post(confirm::confirm))
        .route("/undo/{token}", get(undo::show).post(undo::undo))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route(mta_sts::PATH, get(ops::mta_sts_policy))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_path)
        .layer(middleware::from_fn(ops::count))
        .with_state(app)
}

/// The API, guarded if there is an app to guard it with; without one it only describes itself.
fn api(app: Option<&App>) -> OpenApiRouter<App> {
    let mut routes = people().merge(record()).merge(operation());
    routes = routes.layer(DefaultBodyLimit::max(extract::BODY_MAX_OCTETS));
    let mut imports =
        OpenApiRouter::new().routes(routes!(import::import_contacts)).layer(DefaultBodyLimit::disable());
    if let Some(app) = app {
        routes = routes
            .route_layer(middleware::from_fn_with_state(app.clone(), idempotency::remember_answers))
            .route_layer(middleware::from_fn_with_state(app.clone(), auth::authenticate))
            .route_layer(middleware::from_fn(in_time));
        imports = imports.route_layer(middleware::from_fn_with_state(app.clone(), auth::authenticate));
    }
    let mut all = OpenApiRouter::with_openapi(openapi::base()).nest("/api/v1", routes.merge(imports));
    openapi::add_actions(all.get_openapi_mut());
    all
}

/// Accounts and who is in them.
fn people() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(accounts::create_account, accounts::list_accounts))
        .routes(routes!(accounts::read_account, accounts::update_account))
        .routes(routes!(users::create_user, users::list_users))
        .routes(routes!(users::read_user))
        .routes(routes!(users::add_user_email))
        .routes(routes!(users::forget_signer))
        .routes(routes!(users::rotate_sync_address))
        .routes(routes!(users::disconnect_sync))
        .routes(routes!(users::connect_sync))
        .routes(routes!(contacts::create_contact, contacts::list_contacts))
        .routes(routes!(contacts::read_contact, contacts::update_contact, contacts::delete_contact))
}

/// What is on a record, and what gets there.
fn record() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(messages::timeline))
        .routes(routes!(search::search))
        .routes(routes!(marks::list_contact_marks))
        .routes(routes!(marks::turn_mark_on, marks::turn_mark_off))
        .routes(routes!(marks::list_marks))
        .routes(routes!(reply_addresses::create_reply_address))
        .routes(routes!(messages::register_message))
        // The router knows no suffix behind a parameter: actions are told apart in the handler.
        .route(
            "/accounts/{account}/conversations/{conversation}",
            get(messages::conversation).post(conversations::act),
        )
        .routes(routes!(messages::read_message))
        // The router knows no suffix behind a parameter: `{message}:undo` is told apart in the handler.
        .route("/accounts/{account}/messages/{message}", post(messages::act_on_message))
        .routes(routes!(content::raw_message))
        .routes(routes!(content::message_html))
        .routes(routes!(content::attachment))
}

/// What staff and machines watch over.
fn operation() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(held::list_held))
        .route("/accounts/{account}/held/{delivery}", get(held::read_held).post(held::decide_held))
        .routes(routes!(held::raw_held))
        .routes(routes!(deliveries::list_deliveries))
        .routes(routes!(deliveries::read_delivery))
        .routes(routes!(events::list_events))
        .routes(routes!(webhooks::create_webhook, webhooks::list_webhooks))
        .route(
            "/accounts/{account}/webhooks/{webhook}",
            get(webhooks::read_webhook)
                .patch(webhooks::update_webhook)
                .delete(webhooks::delete_webhook)
                .post(webhooks::act),
        )
        .routes(routes!(webhooks::list_attempts))
        .routes(routes!(webhooks::list_dead_letters))
        .routes(routes!(relay_jobs::list_relay_jobs))
        .routes(routes!(relay_jobs::retry_relay_job))
        .routes(routes!(audit_trail::list_audit))
        .routes(routes!(purge::purge))
        .routes(routes!(tokens::create_token, tokens::list_tokens))
        .routes(routes!(tokens::delete_token))
}

/// Ends a request that takes too long, its body included.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("the request took too long").into_response(),
    }
}

async fn no_such_path() -> Problem {
    Problem::not_found("path")
}

async fn method_not_allowed() -> Problem {
    Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method")
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
