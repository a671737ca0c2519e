//! What comes with a request: ids in the path, parameters, a JSON body; and the lists that go back.
//!
//! A malformed id is a thing that does not exist (404); a malformed parameter or document 400; a document that
//! says what cannot be taken 422, naming the field.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use utoipa::{IntoParams, ToSchema};

use crate::http::App;
use crate::http::problem::{Answer, Problem};
use crate::store::views::{self, Key, Slice};
use crate::time::Timestamp;

/// Ids in the path.
pub(super) struct Ids<T>(pub(super) T);

/// Query parameters.
pub(super) struct Params<T>(pub(super) T);

/// A JSON body.
pub(super) struct Input<T>(pub(super) T);

/// Which part of a list is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    pub(super) limit: Option<String>,
    /// `next` of the part before.
    pub(super) cursor: Option<String>,
}

/// Part of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Listed<T> {
    items: Vec<T>,
    /// The `cursor` of the next part; null at the end.
    next: Option<String>,
}

impl<T> Listed<T> {
    pub(super) fn json<V>(page: views::Page<V>, show: impl FnMut(V) -> T) -> Json<Self> {
        let next = page.next.map(|key| key.to_string());
        Json(Self { items: page.items.into_iter().map(show).collect(), next })
    }
}

/// The part that `limit` and `cursor` ask for.
pub(super) fn slice(limit: Option<&str>, cursor: Option<&str>) -> Answer<Slice> {
    let limit = match limit {
        None => LIMIT_DEFAULT,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
                Problem::bad_request(format!("limit: must be a number from 1 to {LIMIT_MAX}"))
            })?
        }
    };
    let after = cursor
        .map(|text| text.parse::<Key>().map_err(|_| Problem::bad_request("cursor: is none of this API's")))
        .transpose()?;
    Ok(Slice { limit, after })
}

impl ListParams {
    pub(super) fn slice(&self) -> Answer<Slice> {
        slice(self.limit.as_deref(), self.cursor.as_deref())
    }
}

/// A time in a parameter.
pub(super) fn time(field: &str, text: Option<&str>) -> Answer<Option<Timestamp>> {
    let read = |text| {
        Timestamp::parse_rfc3339(text).ok_or_else(|| {
            Problem::bad_request(format!("{field}: must be a time such as 2026-11-22T02:44:05Z"))
        })
    };
    text.map(read).transpose()
}

/// An id in a parameter.
pub(super) fn id<T: std::str::FromStr>(field: &str, text: Option<&str>) -> Answer<Option<T>> {
    let read = |text: &str| text.parse().map_err(|_| Problem::bad_request(format!("{field}: must be an id")));
    text.map(read).transpose()
}

/// For fields where absent and null differ.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    T::deserialize(input).map(Some)
}

/// Items of a list without `limit`.
const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Ids<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(_) => Err(Problem::not_found("thing: the path holds a malformed id")),
        }
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Answer<Self> {
        // `?q=&email=`: an empty parameter is one that is not given.
        let given: Vec<&str> =
            parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.ends_with('=')).collect();
        let uri = format!("/?{}", given.join("&")).parse();
        let uri = uri.map_err(|_| Problem::bad_request("the query cannot be read"))?;
        match Query::<T>::try_from_uri(&uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Answer<Self> {
        let octets = Bytes::from_request(request, app).await.map_err(|rejection| body_problem(&rejection))?;
        // No body is an empty object: all that is asked for may be optional.
        let octets = if octets.is_empty() { Bytes::from_static(b"{}") } else { octets };
        let mut json = serde_json::Deserializer::from_slice(&octets);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (path, inner) = (error.path().to_string(), error.into_inner());
            let said = inner.to_string();
            let why = said.split(" at line ").next().unwrap_or_default();
            match inner.classify() {
                Category::Data if path == "." => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why),
                Category::Data => Problem::invalid(&path, why),
                Category::Eof | Category::Io | Category::Syntax => {
                    Problem::bad_request(format!("the body is not JSON: {said}"))
                }
            }
        })?;
        json.end().map_err(|_| Problem::bad_request("the body is more than one JSON document"))?;
        Ok(Self(value))
    }
}

pub(super) fn body_problem(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::too_large(BODY_MAX_OCTETS)
    } else {
        Problem::bad_request("the body could not be read")
    }
}

/// The body of any request but an import.
pub(super) const BODY_MAX_OCTETS: usize = 1024 * 1024;
