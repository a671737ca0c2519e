//! The API as a CRM calls it, and a practice of one account set up over it.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use syncmx::cli::demo::mailer::{Answers, SmtpReply};
use uuid::Uuid;

use crate::app::TestApp;

/// The API with a token.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) base: String,
    token: String,
    client: Client,
    /// After these answers a request is made again: whoever asks very often has a rate. With 503 among them a write has
    /// an idempotency key.
    pub(crate) passing: &'static [StatusCode],
}

impl Api {
    pub(crate) fn new(server: SocketAddr, token: &str) -> Self {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let passing = &[StatusCode::TOO_MANY_REQUESTS];
        Self { base: format!("http://{server}"), token: token.to_owned(), client, passing }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    pub(crate) async fn wait_until_ready(&self) {
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..3_000 {
            tries.tick().await;
            let answer = self.client.get(format!("{}/readyz", self.base)).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
        }
        panic!("/readyz never answered 200");
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.expect(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.expect(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str) -> Value {
        self.expect(Method::PUT, path, None).await
    }

    /// Any status; a body that is not JSON is null.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.call_once(method, path, body, None).await
    }

    async fn call_once(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        key: Option<&str>,
    ) -> (StatusCode, Value) {
        let mut request =
            self.client.request(method, format!("{}/api/v1{path}", self.base)).bearer_auth(&self.token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    pub(crate) async fn bytes(&self, path: &str) -> (String, Vec<u8>) {
        let (status, answer) = self.ask_until_it_passes(|| self.answer(path)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (content_type, answer.bytes().await.unwrap().to_vec())
    }

    /// Any status.
    pub(crate) async fn some_bytes(&self, path: &str) -> (StatusCode, Vec<u8>) {
        let (status, answer) = self.answer(path).await;
        (status, answer.bytes().await.unwrap().to_vec())
    }

    async fn answer(&self, path: &str) -> (StatusCode, reqwest::Response) {
        let request = self.client.get(format!("{}/api/v1{path}", self.base)).bearer_auth(&self.token);
        let answer = request.send().await.unwrap();
        (answer.status(), answer)
    }

    async fn expect(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let is_patient = self.passing.contains(&StatusCode::SERVICE_UNAVAILABLE);
        let key = (is_patient && method != Method::GET).then(|| Uuid::now_v7().to_string());
        let ask = || self.call_once(method.clone(), path, body.clone(), key.as_deref());
        let (status, value) = self.ask_until_it_passes(ask).await;
        assert!(status.is_success(), "{method} {path}: {status} {value}");
        value
    }

    /// Makes the request again after an answer that passes, as long as there is patience.
    async fn ask_until_it_passes<T, F>(&self, ask: impl Fn() -> F) -> (StatusCode, T)
    where
        F: Future<Output = (StatusCode, T)>,
    {
        let mut answer = ask().await;
        for _ in 0..PATIENCE {
            if !self.passing.contains(&answer.0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = ask().await;
        }
        answer
    }
}

/// One account with one user, Dr. Lena Albrecht, and the contact Anna Bergmann.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) account: String,
    pub(crate) user: String,
    pub(crate) sync: String,
    pub(crate) auto: String,
    pub(crate) anna: String,
    api: Api,
}

impl Desk {
    pub(crate) async fn open(app: &TestApp) -> Self {
        Self::open_by(app.api.clone()).await
    }

    pub(crate) async fn open_by(api: Api) -> Self {
        let settings = json!({ "internal_domains": ["praxis-morgenrot.test"] });
        let account =
            id(&api.post("/accounts", json!({ "name": "Praxis Morgenrot", "settings": settings })).await);
        let body = json!({ "name": "Lena Albrecht", "emails": [], "role": "staff" });
        let user = id(&api.post(&format!("/accounts/{account}/users"), body).await);
        let body = json!({ "address": "lena.albrecht@praxis-morgenrot.test", "verified": true });
        api.post(&format!("/accounts/{account}/users/{user}/emails"), body).await;
        let shown = api.get(&format!("/accounts/{account}/users/{user}")).await;
        let address = |field: &str| shown["sync"][field].as_str().unwrap().to_owned();
        let (sync, auto) = (address("sync_address"), address("auto_address"));
        let mut desk = Self { account, user, sync, auto, anna: String::new(), api };
        desk.anna = desk.contact("Anna Bergmann", "anna.bergmann@web-post.test").await;
        desk
    }

    /// The same desk on a server that was started again.
    pub(crate) fn at(self, app: &TestApp) -> Self {
        self.by(app.api.clone())
    }

    pub(crate) fn by(self, api: Api) -> Self {
        Self { api, ..self }
    }

    /// A new contact's id.
    pub(crate) async fn contact(&self, name: &str, email: &str) -> String {
        id(&self.post("/contacts", json!({ "name": name, "email": email })).await)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.api.get(&format!("/accounts/{}{path}", self.account)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.api.post(&format!("/accounts/{}{path}", self.account), body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Value {
        self.api.expect(Method::PATCH, &format!("/accounts/{}{path}", self.account), Some(body)).await
    }

    pub(crate) async fn bytes(&self, path: &str) -> (String, Vec<u8>) {
        self.api.bytes(&format!("/accounts/{}{path}", self.account)).await
    }

    pub(crate) async fn mark(&self, contact: &str) {
        self.api.put(&format!("/accounts/{}/contacts/{contact}/sync/{}", self.account, self.user)).await;
    }

    /// The entries of a contact's timeline, newest first.
    pub(crate) async fn timeline(&self, contact: &str) -> Vec<Value> {
        self.get(&format!("/contacts/{contact}/timeline")).await["items"].as_array().unwrap().clone()
    }

    /// The delivery that the deciding reply names.
    pub(crate) async fn delivery(&self, answers: &Answers) -> Value {
        let reply = answers.decisive();
        let trace = reply.trace().unwrap_or_else(|| panic!("no trace id in `{}`", reply.text));
        self.get(&format!("/deliveries/{trace}")).await
    }

    /// Asserts reply, outcome and reason; gives the delivery.
    #[track_caller]
    pub(crate) fn expect<'a>(
        &'a self,
        answers: &'a Answers,
        codes: &'a str,
        outcome: &'a str,
        reason: &'a str,
    ) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let delivery =
                if answers.decisive().trace().is_some() { self.delivery(answers).await } else { Value::Null };
            let got = (answers.decisive().codes(), delivery["outcome"].as_str(), delivery["reason"].as_str());
            let wanted = (codes.to_owned(), Some(outcome), Some(reason));
            assert_eq!(got, wanted, "at {caller}: {} {delivery:#}", answers.decisive().text);
            delivery
        }
    }

    /// Asserts 250 and `filed`; gives the delivery and the message.
    #[track_caller]
    pub(crate) fn expect_filed<'a>(
        &'a self,
        answers: &'a Answers,
    ) -> impl Future<Output = (Value, Value)> + 'a {
        let expected = self.expect(answers, "250 2.0.0", "filed", "filed");
        async move {
            let delivery = expected.await;
            let message = self.get(&format!("/messages/{}", delivery["message_id"].as_str().unwrap())).await;
            (delivery, message)
        }
    }
}

/// Asserts that the trace explains itself: a rule spoke, in words.
#[track_caller]
pub(crate) fn assert_rule_spoke(delivery: &Value, rule: &str) {
    let steps = delivery["steps"].as_array().unwrap();
    assert!(
        steps.iter().any(|step| step["rule"] == rule && !step["said"].as_str().unwrap().is_empty()),
        "no step of {rule} in {steps:#?}"
    );
}

/// Asserts code and enhanced code of a reply, and that it names a trace.
#[track_caller]
pub(crate) fn assert_refused(reply: &SmtpReply, codes: &str) {
    assert_eq!(reply.codes(), codes, "{}", reply.text);
    assert!(reply.trace().is_some_and(|trace| trace.len() == 36), "no trace id in `{}`", reply.text);
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// Tenths of a second.
const PATIENCE: usize = 600;
