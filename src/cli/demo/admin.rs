//! A small HTTP/1.1 client for our own API on loopback: JSON there, JSON back.
//!
//! One request a connection, at most 16 MiB of answer, everything timed. It speaks what our server
//! answers (Content-Length, no redirects, no chunks) and nothing more.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The API, with the token to use.
#[derive(Clone)]
pub struct AdminApi {
    server: SocketAddr,
    token: String,
}

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The base address is not `http://IP:PORT`.
    #[error("`{0}` is not http://IP:PORT")]
    Address(String),
    /// The connection failed.
    #[error("API cannot be reached")]
    Connection(#[from] std::io::Error),
    /// The answer is not HTTP with JSON, or too large.
    #[error("answer of the API to {0} cannot be read")]
    Answer(String),
    /// The API refused.
    #[error("{request} was answered {status}: {detail}")]
    Refused {
        /// Method and path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// From the problem document.
        detail: String,
    },
    /// Nothing came in time.
    #[error("API did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

impl AdminApi {
    /// The API at `http://IP:PORT`.
    ///
    /// # Errors
    /// If the address is anything else.
    pub fn new(base_url: &str, token: &str) -> Result<Self, AdminError> {
        let server = base_url
            .strip_prefix("http://")
            .and_then(|rest| rest.trim_end_matches('/').parse().ok())
            .ok_or_else(|| AdminError::Address(base_url.to_owned()))?;
        Ok(Self { server, token: token.to_owned() })
    }

    /// `POST /api/v1{path}`.
    ///
    /// # Errors
    /// See [`AdminError`]; a status other than 2xx is one.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, AdminError> {
        self.request("POST", path, Some(body)).await
    }

    /// `PUT /api/v1{path}` without a body.
    ///
    /// # Errors
    /// As [`AdminApi::post`].
    pub async fn put(&self, path: &str) -> Result<Value, AdminError> {
        self.request("PUT", path, None).await
    }

    /// `GET /api/v1{path}`.
    ///
    /// # Errors
    /// As [`AdminApi::post`].
    pub async fn get(&self, path: &str) -> Result<Value, AdminError> {
        self.request("GET", path, None).await
    }

    /// `GET /api/v1{path}`, where 404 is an answer: none.
    ///
    /// # Errors
    /// As [`AdminApi::post`].
    pub async fn find(&self, path: &str) -> Result<Option<Value>, AdminError> {
        match self.get(path).await {
            Ok(value) => Ok(Some(value)),
            Err(AdminError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, AdminError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.server,
            self.token,
            body.len()
        );
        let answer = tokio::time::timeout(TIMEOUT, exchange(self.server, head + &body))
            .await
            .map_err(|_| AdminError::TimedOut)??;
        let request = format!("{method} {path}");
        let (status, value) = read(&answer).ok_or_else(|| AdminError::Answer(request.clone()))?;
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let detail = value["detail"].as_str().or(value["title"].as_str()).unwrap_or_default().to_owned();
        Err(AdminError::Refused { request, status, detail })
    }
}

async fn exchange(server: SocketAddr, request: String) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Status and JSON; an empty body is null.
fn read(answer: &[u8]) -> Option<(u16, Value)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = answer.get(end + 4..)?;
    let declared = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if declared.is_some_and(|length| length != body.len()) {
        return None;
    }
    if body.is_empty() {
        return Some((status, Value::Null));
    }
    serde_json::from_slice(body).ok().map(|value| (status, value))
}

const TIMEOUT: Duration = Duration::from_secs(30);
/// Far over a page of 200 entries.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_json_and_a_cut_one_is_none() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";
        assert_eq!(read(whole), Some((201, serde_json::json!({"a": 1}))));
        assert_eq!(read(&whole[..whole.len() - 1]), None);
        assert_eq!(read(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, Value::Null)));
        assert_eq!(read(b"SSH-2.0\r\n\r\n"), None);
    }

    #[test]
    fn only_an_address_is_taken_as_base() {
        assert!(AdminApi::new("http://127.0.0.1:8025", "t").is_ok());
        assert!(AdminApi::new("http://[::1]:8025/", "t").is_ok());
        assert!(AdminApi::new("https://crm.example.test", "t").is_err());
    }
}
