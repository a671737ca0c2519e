//! What operators ask: is it alive, is it ready, how much does it do; and the description of the API.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::http::problem::{Answer, Problem};

/// 200 while the process runs.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while mail is taken; 503 while the store is away or the process drains.
pub(super) async fn readyz(State(app): State<App>) -> Answer<&'static str> {
    if app.draining.is_cancelled() {
        return Err(Problem::unavailable("draining"));
    }
    app.store.ping().await.map_err(|_| Problem::unavailable("the store is away"))?;
    Ok("ready\n")
}

/// Prometheus text.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    app.metrics.run_upkeep();
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render()).into_response()
}

/// The MTA-STS policy, for the hosts that it is for (RFC 8461 section 3.3): the proxy in front must keep the Host
/// field.
pub(super) async fn mta_sts_policy(State(app): State<App>, request: Request) -> Answer<Response> {
    let field = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = field.or_else(|| request.uri().host()).unwrap_or_default();
    let policy = app.mta_sts.as_ref().filter(|policy| policy.is_for(host));
    let policy = policy.ok_or_else(|| Problem::not_found("path"))?;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], policy.text().to_owned()).into_response())
}

/// The OpenAPI document.
pub(super) async fn openapi_json(State(app): State<App>) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], app.openapi.clone()).into_response()
}

/// Counts and times requests by route, never by path: a path holds ids.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let method = request.method().as_str().to_owned();
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    metrics::histogram!("syncmx_http_request_seconds", "route" => route.clone())
        .record(began.elapsed().as_secs_f64());
    metrics::counter!("syncmx_http_requests_total", "route" => route, "method" => method, "status" => status)
        .increment(1);
    response
}
