//! A server for one test, a client for it, and mail put into its store as the intake would.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _};
use syncmx::address::{Asked, EmailAddress, ServedDomains};
use syncmx::auth::{AlignedBy, Alignment, AuthResult, Verdict};
use syncmx::config;
use syncmx::http::{AppState, serve};
use syncmx::id::DeliveryId;
use syncmx::keys::Keys;
use syncmx::message;
use syncmx::mta_sts;
use syncmx::smtp::{Client, Envelope, ForwardPath, Recipient};
use syncmx::store::{Filed, Lookup, Store, Submission};
use syncmx::time::Timestamp;

use crate::postgres;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) served: ServedDomains,
    pub(crate) draining: CancellationToken,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: tokio::task::JoinHandle<std::io::Result<()>>,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) admin: String,
    http: reqwest::Client,
    folder: TempDir,
    database: config::StoreUrl,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// A problem document with this status; returns its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(keys(&problem), ["type", "title", "status", "detail"]);
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// The names of an object's fields, in order.
#[track_caller]
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_as(postgres::rows_are_sealed()).await
    }

    /// With sealed rows.
    pub(crate) async fn start_sealed() -> Self {
        Self::start_as(true).await
    }

    async fn start_as(seal_rows: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::generate().unwrap());
        let served = ServedDomains::new(vec!["sync.example.test".into()], vec!["reply.example.test".into()]);
        let settings = config::Store {
            url: match postgres::database_if_wanted().await {
                Some(url) => config::StoreUrl::Postgres(url.parse().unwrap()),
                None => config::StoreUrl::Sqlite(folder.path().join("syncmx.db")),
            },
            blobs: config::BlobsUrl::Folder(folder.path().join("blobs")),
            seal_rows,
        };
        Store::migrate(&settings).await.unwrap();
        let store = Store::open(&settings, keys.clone(), served.clone()).await.unwrap();
        let admin = store.ensure_admin_token(None).await.unwrap().unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (draining, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let state = AppState {
            store: store.clone(),
            keys,
            served: served.clone(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            draining: draining.clone(),
            public_url: format!("http://{address}"),
            mta_sts: mta_sts::Policy::of(&config::Config::default()),
        };
        let serving = tokio::spawn(serve(listener, state, shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            store,
            served,
            draining,
            shutdown,
            serving,
            address,
            admin,
            http,
            folder,
            database: settings.url,
        }
    }

    /// What nobody but a test does.
    pub(crate) async fn change_by_hand(&self, text: &str) {
        let changed = match &self.database {
            config::StoreUrl::Postgres(url) => {
                let mut connection = postgres::connect(&url.to_string()).await;
                sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await.unwrap().rows_affected()
            }
            config::StoreUrl::Sqlite(path) => {
                let url = format!("sqlite://{}", path.display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
                sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await.unwrap().rows_affected()
            }
        };
        assert!(changed > 0, "{text}");
    }

    /// A number that the database itself tells.
    pub(crate) async fn count_by_hand(&self, text: &str) -> i64 {
        match &self.database {
            config::StoreUrl::Postgres(url) => {
                let mut connection = postgres::connect(&url.to_string()).await;
                sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut connection).await.unwrap()
            }
            config::StoreUrl::Sqlite(path) => {
                let url = format!("sqlite://{}", path.display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
                sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    /// Removes every blob behind the store's back. Returns how many there were.
    pub(crate) fn lose_blobs(&self) -> usize {
        let (mut folders, mut lost) = (vec![self.folder.path().join("blobs")], 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    std::fs::remove_file(entry.path()).unwrap();
                    lost += 1;
                }
            }
        }
        lost
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let prefix =
            if path.starts_with("/accounts") || path.starts_with("/tokens") { "/api/v1" } else { "" };
        self.http.request(method, format!("http://{}{prefix}{path}", self.address))
    }

    pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub(crate) async fn as_token(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let request = self.request(method.parse().unwrap(), path).bearer_auth(token);
        Self::send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.as_token(&self.admin, "GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.as_token(&self.admin, "POST", path, Some(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.as_token(&self.admin, "PATCH", path, Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.as_token(&self.admin, "DELETE", path, None).await
    }

    /// `/accounts/<id>` of a fresh account.
    pub(crate) async fn account(&self) -> String {
        let made = self.post("/accounts", json!({"name": "Practice"})).await.expect(201);
        format!("/accounts/{}", text(&made["id"]))
    }

    pub(crate) async fn user(&self, account: &str, email: &str) -> Value {
        let user = json!({"name": "Dr. Bo Hansen", "emails": [email], "role": "staff"});
        self.post(&format!("{account}/users"), user).await.expect(201)
    }

    /// The id of a fresh contact.
    pub(crate) async fn contact(&self, account: &str, name: &str, email: &str) -> String {
        let contact = json!({"name": name, "email": email});
        text(&self.post(&format!("{account}/contacts"), contact).await.expect(201)["id"])
    }

    /// A token of the account with these scopes.
    pub(crate) async fn token(&self, account: &str, scopes: &[&str]) -> String {
        let id = account.trim_start_matches("/accounts/");
        let token = json!({"account_id": id, "scopes": scopes, "name": "t"});
        text(&self.post("/tokens", token).await.expect(201)["token"])
    }

    /// Files a mail for one of our addresses, aligned by DKIM, as the intake would.
    pub(crate) async fn deliver(&self, rcpt: &str, raw: &str) -> Filed {
        self.deliver_at(rcpt, raw, Timestamp::now()).await
    }

    /// The same, received then.
    pub(crate) async fn deliver_at(&self, rcpt: &str, raw: &str, received_at: Timestamp) -> Filed {
        let raw = raw.replace('\n', "\r\n");
        let wrapper = message::parse(raw.as_bytes()).unwrap();
        let from = wrapper.from.address().unwrap().clone();
        let (email, raw) = match message::open_journal(raw.as_bytes(), &wrapper).unwrap() {
            Some((inner, octets)) => (inner, octets),
            None => (wrapper, raw.into_bytes()),
        };
        let path = ForwardPath::Address(EmailAddress::parse(rcpt).unwrap());
        let Lookup::Found(mailbox) = self.mailbox(&path).await else { panic!("{rcpt} is no mailbox") };
        let domain = from.domain().to_owned();
        let mut verdict = Verdict::unchecked();
        verdict.spf.result = AuthResult::Pass;
        verdict.alignment = Alignment::Aligned { by: AlignedBy::Dkim, domain };
        let client = Client {
            ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            helo: "mail.practice.test".into(),
            is_esmtp: true,
            tls: Some("TLSv1.3 TLS13_AES_128_GCM_SHA256".into()),
        };
        let envelope = Envelope {
            client,
            reverse_path: Some(from),
            recipients: vec![Recipient { path, mailbox }],
            smtputf8: false,
            requiretls: false,
            defect: None,
            received_octets: 0,
        };
        let submission = Submission {
            received_at,
            envelope: Arc::new(envelope),
            verdict: Arc::new(verdict),
            email: Arc::new(email),
            size_bytes: raw.len() as u64,
            raw: Bytes::from(raw),
            deliveries: vec![DeliveryId::generate()],
            steps: Vec::new(),
        };
        self.store.file(submission).await.unwrap()
    }

    pub(crate) async fn mailbox(&self, path: &ForwardPath) -> Lookup {
        let asked: Asked = self.served.classify(path);
        self.store.mailbox(&asked).await.unwrap()
    }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

pub(crate) const STRANGER: &str = "0192f0c1-2345-7abc-8def-0123456789ab";
