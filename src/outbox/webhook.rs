//! One delivery to one endpoint: the request of Standard Webhooks, and what became of it.
//!
//! Promises 10 seconds in all and 64 KiB of answer at most, no redirects, no proxies of the environment, and nobody
//! connected to whom the guard has not passed. Success is a 2xx status and nothing else.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::config::Config;
use crate::id::{AccountId, MessageId};
use crate::outbox::guard::{Guard, Refusal};
use crate::outbox::{OutEvent, signature};
use crate::store::directory::Detail;
use crate::store::outbox::Endpoint;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::wire::{hide_body, hide_content};

/// Where events are sent: http or https, without credentials or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl(Url);

/// Why a URL is none for a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// It holds a user or a password, which would show in lists and logs.
    #[error("must not hold user or password")]
    Credentials,
    /// It is longer than 2048 octets.
    #[error("at most {URL_MAX_OCTETS} octets")]
    TooLong,
    /// It is no URL that a request could be made to.
    #[error("must be an http or https URL with a host")]
    Unusable,
}

impl EndpointUrl {
    /// From what a person gave.
    ///
    /// # Errors
    /// Says why not.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > URL_MAX_OCTETS {
            return Err(BadUrl::TooLong);
        }
        let mut url = Url::parse(text.trim()).map_err(|_| BadUrl::Unusable)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(BadUrl::Unusable);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::Credentials);
        }
        url.set_fragment(None);
        // Escapes can make it longer than what was given.
        if url.as_str().len() > URL_MAX_OCTETS { Err(BadUrl::TooLong) } else { Ok(Self(url)) }
    }

    /// In its normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Sends events.
pub(super) struct Sender {
    /// None where no certificate store could be read: then nothing is sent.
    client: Option<Client>,
    guard: Guard,
    places: Places,
    store: Store,
}

/// Who may call at once: an account has its share, so that one whose endpoints hang leaves room for the others.
#[derive(Debug)]
struct Places {
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<AccountId, Arc<Semaphore>>>,
}

/// One call's place, of the account and of all.
type Place = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(CALLS_MAX)), shares: Mutex::default() }
    }
}

impl Places {
    async fn take(&self, account: AccountId) -> Place {
        // Its own first: whoever waits for that takes up no place of others. None of them is ever closed.
        let own = self.share(account).acquire_owned().await.ok();
        (own, self.all.clone().acquire_owned().await.ok())
    }

    fn share(&self, account: AccountId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= SHARES_MAX {
            // Whoever holds or awaits a place holds on to its share.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        shares.entry(account).or_insert_with(|| Arc::new(Semaphore::new(CALLS_OF_ACCOUNT_MAX))).clone()
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) at: Timestamp,
    pub(super) took: Duration,
    pub(super) outcome: Result<StatusCode, Failed>,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The address is not one that may be called.
    AddressRefused,
    /// The connection ended before there was an answer.
    Closed,
    /// Nobody could be connected to.
    Connect,
    /// The name has no address.
    Dns,
    /// Ours: what is to be sent could not be read.
    Local,
    /// An answer that is no success.
    Status(StatusCode),
    /// No answer in time.
    TimedOut,
    /// The certificate does not hold, or there is no common protocol.
    Tls,
}

impl Failed {
    /// As attempts show it.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::AddressRefused => "address_refused",
            Self::Closed => "closed",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Local => "local",
            Self::Status(status) if status.is_redirection() => "redirect",
            Self::Status(StatusCode::GONE) => "gone",
            Self::Status(_) => "status",
            Self::TimedOut => "timeout",
            Self::Tls => "tls",
        }
    }

    /// The status of the answer, if there was one.
    pub(super) fn status(self) -> Option<StatusCode> {
        if let Self::Status(status) = self { Some(status) } else { None }
    }

    fn of(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let mut cause = error.source();
        while let Some(error) = cause {
            match error.downcast_ref::<Refusal>() {
                Some(Refusal::NotPublic) => return Self::AddressRefused,
                Some(Refusal::Unresolved) => return Self::Dns,
                None => {}
            }
            if is_tls(error) {
                return Self::Tls;
            }
            cause = error.source();
        }
        if error.is_connect() { Self::Connect } else { Self::Closed }
    }
}

/// rustls reports inside I/O errors, whose `source` does not show it.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(mut io) = error.downcast_ref::<std::io::Error>() else { return error.is::<rustls::Error>() };
    loop {
        match io.get_ref() {
            None => return false,
            Some(inner) if inner.is::<rustls::Error>() => return true,
            Some(inner) => match inner.downcast_ref::<std::io::Error>() {
                None => return false,
                Some(inner) => io = inner,
            },
        }
    }
}

impl Sender {
    /// # Errors
    /// If the resolver cannot be set up.
    pub(super) fn new(config: &Config, store: Store) -> std::io::Result<Self> {
        let guard = Guard::new(&config.dns, config.webhook)?;
        let client = Client::builder()
            .dns_resolver(guard.clone())
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .timeout(CALL_LIMIT)
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(IDLE_MAX)
            .user_agent(concat!("syncmx/", env!("CARGO_PKG_VERSION")))
            .build()
            .inspect_err(|error| tracing::error!(%error, "webhooks cannot be sent: no certificate store"))
            .ok();
        Ok(Self { client, guard, places: Places::default(), store })
    }

    /// One attempt. Waits for its place first, which is not part of its time; none if it had none by `until`: then
    /// nothing was sent.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        event: &OutEvent,
        until: Instant,
    ) -> Option<Attempt> {
        let place = self.places.take(endpoint.key.account);
        let _place = tokio::time::timeout_at(until.into(), place).await.ok()?;
        let (at, begun) = (Timestamp::now(), Instant::now());
        let call = tokio::time::timeout(CALL_LIMIT, self.call(endpoint, event, at));
        let outcome = call.await.unwrap_or(Err(Failed::TimedOut));
        Some(Attempt { at, took: begun.elapsed(), outcome })
    }

    async fn call(&self, endpoint: &Endpoint, event: &OutEvent, at: Timestamp) -> Result<StatusCode, Failed> {
        let client = self.client.as_ref().ok_or(Failed::Tls)?;
        // A connection that is kept open was checked when it was made; the name may have moved since.
        self.guard.check(&endpoint.url.0).await.map_err(|refusal| match refusal {
            Refusal::NotPublic => Failed::AddressRefused,
            Refusal::Unresolved => Failed::Dns,
        })?;
        let body = self.body(endpoint, event).await.map_err(|error| {
            tracing::error!(error = error.one_line(), "webhook.unreadable");
            Failed::Local
        })?;
        let (id, seconds) = (event.id.to_string(), at.as_millis().div_euclid(1000));
        let signature = signature::header(&endpoint.secrets, &id, seconds, &body);
        let answer = client
            .post(endpoint.url.0.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            .map_err(|error| Failed::of(&error))?;
        let status = answer.status();
        read_on(answer).await;
        if status.is_success() { Ok(status) } else { Err(Failed::Status(status)) }
    }

    async fn body(&self, endpoint: &Endpoint, event: &OutEvent) -> Result<Vec<u8>, StoreError> {
        let mut data = event.data.clone();
        match endpoint.detail {
            Detail::Content => self.add_text(endpoint, &mut data).await?,
            Detail::Headers => hide_body(&mut data),
            Detail::Meta => hide_content(&mut data),
        }
        let body = Body {
            kind: &event.kind,
            timestamp: event.at.to_rfc3339(),
            account_id: endpoint.key.account.uuid(),
            data: &data,
        };
        Ok(serde_json::to_vec(&body).unwrap_or_default())
    }

    /// The text of the message as it is now: one that was erased meanwhile has none.
    async fn add_text(&self, endpoint: &Endpoint, data: &mut Value) -> Result<(), StoreError> {
        let Some(fields) = data.as_object_mut() else { return Ok(()) };
        // A new contact's or mark's event names the message that made it, and is not about its text.
        if !fields.contains_key("message_id_header") {
            return Ok(());
        }
        let id = fields.get("message_id").and_then(Value::as_str).and_then(|id| id.parse::<MessageId>().ok());
        let Some(id) = id else { return Ok(()) };
        let message = self.store.message(endpoint.key.account, id).await?;
        let (text, new_text) = match message {
            None => (Value::Null, Value::Null),
            // R27a: colleagues' history below an answer is for those alone who review.
            Some(message) if message.has_internal_history() => {
                (Value::from(message.new_text.clone()), Value::from(message.new_text))
            }
            Some(message) => (Value::from(message.text), Value::from(message.new_text)),
        };
        fields.insert("text".to_owned(), text);
        fields.insert("new_text".to_owned(), new_text);
        Ok(())
    }
}

/// Reads what is there, so that the connection can be used again; one with more to say is given up.
async fn read_on(mut answer: Response) {
    let mut octets = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        octets += chunk.len();
        if octets > ANSWER_MAX_OCTETS {
            return;
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    account_id: Uuid,
    data: &'a Value,
}

/// A URL of a webhook.
pub(super) const URL_MAX_OCTETS: usize = 2048;
/// From the look-up to the end of the answer.
const CALL_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_MAX_OCTETS: usize = 64 * 1024;
/// Connections that wait for the next event, and for how long.
const IDLE_MAX: usize = 8;
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Calls at once, to all endpoints together.
const CALLS_MAX: usize = 512;
/// And to those of one account: four endpoints at their full pace.
const CALLS_OF_ACCOUNT_MAX: usize = 32;
/// Accounts whose shares are remembered before those without a call are forgotten.
const SHARES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, BadUrl>) {
        let parsed = EndpointUrl::parse(text);
        assert_eq!(parsed.as_ref().map(EndpointUrl::as_str), expected.as_ref().map(|url| *url), "{text}");
    }

    #[test]
    fn an_endpoint_is_http_or_https_without_credentials() {
        check("https://crm.example/hooks?a=b#c", Ok("https://crm.example/hooks?a=b"));
        check(" HTTP://CRM.example:8080 ", Ok("http://crm.example:8080/"));
        check("https://crm.example/ü", Ok("https://crm.example/%C3%BC"));
        check("https://user@crm.example/", Err(BadUrl::Credentials));
        check("https://:secret@crm.example/", Err(BadUrl::Credentials));
        for bad in [
            "",
            "crm.example",
            "ftp://crm.example/",
            "file:///etc/passwd",
            "https://",
            "https:///",
            "javascript:alert(1)",
        ] {
            if EndpointUrl::parse(bad).is_ok() {
                panic!("{bad}");
            }
        }
    }

    #[tokio::test]
    async fn an_account_whose_endpoints_hang_leaves_room_for_the_others() {
        let places = Places::default();
        let [one, other] = [AccountId::generate(), AccountId::generate()];
        let now = Duration::ZERO;
        let mut held = Vec::new();
        while let Ok(place) = tokio::time::timeout(now, places.take(one)).await {
            held.push(place);
        }
        assert_eq!(held.len(), CALLS_OF_ACCOUNT_MAX);
        let theirs = tokio::time::timeout(now, places.take(other)).await.unwrap();
        drop((held, theirs));
        assert_eq!(places.all.available_permits(), CALLS_MAX);
        // What is remembered of accounts stays bounded.
        for _ in 0..=SHARES_MAX {
            drop(places.take(AccountId::generate()).await);
        }
        assert!(places.shares.lock().unwrap().len() <= SHARES_MAX);
    }

    #[test]
    fn a_url_has_at_most_2048_octets_in_its_normal_form() {
        let host = "https://crm.example/";
        let fits = format!("{host}{}", "a".repeat(URL_MAX_OCTETS - host.len()));
        check(&fits, Ok(&fits));
        check(&format!("{fits}a"), Err(BadUrl::TooLong));
        check(&format!("{host}{}", "ü".repeat(900)), Err(BadUrl::TooLong));
    }
}
