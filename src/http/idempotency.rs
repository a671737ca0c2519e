//! `Idempotency-Key`: the same write, sent again, is answered again and not done again.
//!
//! The answer is stored in the transaction of the write ([`Once::answer`]). Only what was done is remembered: a
//! refusal changed nothing and is simply decided again.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use aws_lc_rs::digest;

use crate::http::App;
use crate::http::audit::{Write, account_in};
use crate::http::extract::body_problem;
use crate::http::problem::{Answer, Problem};
use crate::id::AccountId;
use crate::store::directory::{self, Change, Principal, Remembered, StoredAnswer};

/// Answers a write that was answered before; lets others pass with what their answer is to be kept under.
pub(super) async fn remember_answers(
    State(app): State<App>,
    principal: Principal,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let is_write = !matches!(*request.method(), Method::GET | Method::HEAD);
    let Some(key) = key_of(request.headers())?.filter(|_| is_write) else {
        return Ok(next.run(request).await);
    };
    let (mut parts, body) = request.into_parts();
    let octets = Bytes::from_request(Request::from_parts(parts.clone(), body), &app)
        .await
        .map_err(|rejection| body_problem(&rejection))?;
    let mut hash = Hash::of(&parts, &principal);
    hash.update(&octets);
    let about = account_in(parts.uri.path()).unwrap_or(principal.account);
    let asked = directory::Request { account: principal.account, key, about, hash: hash.finish() };
    if let Some(answer) = recall(&app, &asked).await? {
        return Ok(answer);
    }
    parts.extensions.insert(Asked(asked));
    Ok(next.run(Request::from_parts(parts, Body::from(octets))).await)
}

/// The answer that was given to this request; a problem if another request had its key.
pub(super) async fn recall(app: &App, asked: &directory::Request) -> Answer<Option<Response>> {
    match app.store.recall(asked).await? {
        Remembered::Answered(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
            Ok(Some(response(status, answer.body)))
        }
        Remembered::Other => Err(Problem::conflict("the Idempotency-Key belongs to another request")),
        Remembered::Unknown => Ok(None),
    }
}

/// The key of a request, if it has one.
pub(super) fn key_of(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_MAX_OCTETS).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        Problem::bad_request(format!("Idempotency-Key: 1 to {KEY_MAX_OCTETS} ASCII characters"))
    })
}

/// What makes two requests the same: token, method, path, content type and body.
pub(super) struct Hash(digest::Context);

impl Hash {
    pub(super) fn of(parts: &Parts, principal: &Principal) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let content_type = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let uri = parts.uri.to_string();
        for part in [
            principal.token.uuid().as_bytes().as_slice(),
            parts.method.as_str().as_bytes(),
            uri.as_bytes(),
            content_type,
        ] {
            context.update(part);
            context.update(b"\n");
        }
        Self(context)
    }

    pub(super) fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    pub(super) fn finish(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }
}

/// A key that came with the request.
#[derive(Clone, Debug)]
struct Asked(directory::Request);

/// What belongs to every write: what its answer is kept under, if it carried a key, and what the audit trail says.
#[derive(Clone, Debug)]
pub(super) struct Once {
    asked: Option<directory::Request>,
    write: Option<Write>,
}

impl FromRequestParts<App> for Once {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Answer<Self> {
        let asked = parts.extensions.remove::<Asked>().map(|Asked(asked)| asked);
        let write = parts.extensions.get::<Principal>().and_then(|principal| Write::of(parts, principal));
        Ok(Self { asked, write })
    }
}

impl Once {
    /// Of a request whose handler reads the body, and has told the audit trail.
    pub(super) const fn new(asked: Option<directory::Request>) -> Self {
        Self { asked, write: None }
    }

    /// What it does is in the audit trail already.
    pub(super) fn noted(self) -> Self {
        Self { write: None, ..self }
    }

    /// The audit trail of this account tells of it.
    pub(super) fn about(self, account: AccountId) -> Self {
        Self { write: self.write.map(|write| write.about(account)), ..self }
    }

    /// R64: in the transaction of the write.
    async fn note(&mut self, change: &mut Change, answer: &str) -> Answer<()> {
        if let Some(act) = self.write.take().and_then(|write| write.act(answer)) {
            change.note_act(act).await?;
        }
        Ok(())
    }

    /// Commits the change together with its answer, and answers.
    pub(super) async fn answer(
        mut self,
        mut change: Change,
        status: StatusCode,
        body: &impl Serialize,
    ) -> Answer<Response> {
        let body = json(body)?;
        self.note(&mut change, &body).await?;
        if let Some(request) = &self.asked {
            let answer = StoredAnswer { status: status.as_u16(), body: body.clone() };
            change.remember(request, &answer).await?;
        }
        change.commit().await?;
        Ok(response(status, body))
    }

    /// The same for an answer that shows a secret: it is kept sealed.
    pub(super) async fn answer_secret(
        mut self,
        mut change: Change,
        status: StatusCode,
        body: &impl Serialize,
    ) -> Answer<Response> {
        let body = json(body)?;
        self.note(&mut change, &body).await?;
        if let Some(request) = &self.asked {
            let answer = StoredAnswer { status: status.as_u16(), body: body.clone() };
            change.remember_sealed(request, &answer).await?;
        }
        change.commit().await?;
        Ok(response(status, body))
    }

    /// Commits the change and answers 204.
    pub(super) async fn answer_nothing(mut self, mut change: Change) -> Answer<Response> {
        self.note(&mut change, "").await?;
        if let Some(request) = &self.asked {
            change.remember(request, &StoredAnswer { status: 204, body: String::new() }).await?;
        }
        change.commit().await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// Long enough for any UUID with a prefix.
const KEY_MAX_OCTETS: usize = 255;

fn json(body: &impl Serialize) -> Answer<String> {
    serde_json::to_string(body)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written"))
}

fn response(status: StatusCode, body: String) -> Response {
    if body.is_empty() {
        return status.into_response();
    }
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
