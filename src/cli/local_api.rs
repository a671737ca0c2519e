//! The API in this process, for the administration commands: the router without a socket.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::app;
use crate::cli::Failure;
use crate::config::Config;
use crate::http::{self, AppState};
use crate::mta_sts::Policy;
use crate::store::Store;
use crate::store::directory::Principal;
use crate::time::Timestamp;

/// The router and the store behind it.
pub(super) struct LocalApi {
    router: Router,
    store: Store,
}

impl LocalApi {
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let (keys, store) = app::open_store(config).await?;
        let state = AppState {
            store: store.clone(),
            keys,
            served: app::served_domains(config),
            metrics: app::metrics_handle(),
            draining: CancellationToken::new(),
            public_url: config.http.public_url.clone(),
            mta_sts: Policy::of(config),
        };
        Ok(Self { router: http::router(state), store })
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, path, "application/json", body).await
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Result<Value, Failure> {
        let octets = self.exchange(method, path, content_type, body.into()).await?;
        Ok(serde_json::from_slice(&octets).unwrap_or(Value::Null))
    }

    /// What is no JSON: a message as it was received.
    pub(super) async fn octets(&self, path: &str) -> Result<Bytes, Failure> {
        self.exchange("GET", path, "application/json", Body::empty()).await
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Body,
    ) -> Result<Bytes, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("content-type", content_type)
            .extension(Principal::operator())
            .body(body)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let answer = match self.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), MAX_ANSWER_OCTETS)
            .await
            .map_err(|error| Failure::unreachable(&error))?;
        let detail = || {
            let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            problem.get("detail").and_then(Value::as_str).unwrap_or("no detail").to_owned()
        };
        match status.as_u16() {
            200..300 => Ok(bytes),
            500.. => Err(Failure::Unreachable(detail())),
            _ => Err(Failure::No(format!("{status}: {}", detail()))),
        }
    }

    /// Goes on with what a request has only begun.
    pub(super) async fn finish_purges(&self) -> Result<(), Failure> {
        let finished = self.store.finish_purges(Timestamp::now()).await;
        finished.map(|_| ()).map_err(|error| Failure::unreachable(&error))
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

const MAX_ANSWER_OCTETS: usize = 64 * 1024 * 1024;
