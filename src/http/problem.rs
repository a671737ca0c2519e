//! Every error of the API: a problem document (RFC 9457).
//!
//! Promises that it never shows inner details: what our own failures are about stands in the log.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::StoreError;
use crate::store::directory::DirectoryError;

/// A problem document.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says what sort of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was wrong, for a person.
    detail: String,
}

/// What a handler gives.
pub(crate) type Answer<T> = Result<T, Problem>;

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "a valid token is needed: Authorization: Bearer smx_…")
    }

    pub(crate) fn forbidden(scope: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("the token has not the scope {scope}"))
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no such {what}"))
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub(crate) fn too_large(limit_octets: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {limit_octets} octets here"))
    }

    pub(crate) fn invalid(field: &str, why: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: {why}"))
    }

    pub(crate) fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer realm=\"syncmx\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = error.one_line(), "the store failed a request");
        match error {
            StoreError::Away { .. }
            | StoreError::Closed
            | StoreError::Commit(_)
            | StoreError::Database(_)
            | StoreError::Locked { .. }
            | StoreError::Importing
            | StoreError::TimedOut => Self::unavailable("the store cannot be used now"),
            StoreError::NoSuchAccount => Self::not_found("account"),
            StoreError::Corrupt { .. } | StoreError::Damaged { .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the stored content is damaged and cannot be read; the operator finds out more with `syncmx check --blobs`",
            ),
            StoreError::Defect(_)
            | StoreError::Migration(_)
            | StoreError::RowsBetween { .. }
            | StoreError::RowsClear { .. }
            | StoreError::RowsSealed { .. }
            | StoreError::SchemaBehind { .. }
            | StoreError::SchemaNewer { .. }
            | StoreError::Seal(_)
            | StoreError::Unfit { .. }
            | StoreError::Unusable { .. }
            | StoreError::WrongMasterKey { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be carried out")
            }
        }
    }
}

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Conflict(detail) => Self::conflict(detail),
            DirectoryError::Invalid { field, why } => Self::invalid(&field, &why),
            DirectoryError::NotFound(what) => Self::not_found(what),
            DirectoryError::Store(error) => error.into(),
        }
    }
}
