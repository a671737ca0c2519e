//! A CRM's endpoint: a real HTTPS server with a certificate of its own authority, which records what it is sent and
//! answers as the test says. The benchmark of webhooks uses it, too.

#![allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A running endpoint. Dropping it stops it.
pub(crate) struct HookServer {
    addr: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) content_type: String,
    pub(crate) body: String,
    /// What it was answered.
    pub(crate) answered: Reply,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    pub(crate) fn data(&self, field: &str) -> Value {
        self.json()["data"][field].clone()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// 200 and a body that never ends.
    Flood,
    /// No answer at all.
    Hang,
    /// 307 to this place.
    Redirect(String),
    Status(u16),
}

type Rule = Box<dyn Fn(&Received) -> Reply + Send>;

struct State {
    received: Mutex<Vec<Received>>,
    rule: Mutex<Rule>,
}

/// The authority of all endpoints of one test; its certificate is what `SSL_CERT_FILE` names.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let file = folder.join("authority.pem");
        std::fs::write(&file, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(parameters, key), file }
    }

    pub(crate) fn setting(&self) -> String {
        format!("SSL_CERT_FILE={}", self.file.display())
    }
}

impl HookServer {
    /// On a free port of 127.0.0.1, as `name`; answers 200.
    pub(crate) async fn start(authority: &Authority, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &authority.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let rule: Rule = Box::new(|_| Reply::Status(200));
        let state = Arc::new(State { received: Mutex::default(), rule: Mutex::new(rule) });
        let mut tasks = JoinSet::new();
        let serving = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), serving.clone());
                connections.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serve(stream, &state).await;
                    }
                });
            }
        });
        Self { addr, state, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// How requests are answered from now on.
    pub(crate) fn answer(&self, rule: impl Fn(&Received) -> Reply + Send + 'static) {
        *self.state.rule.lock().unwrap() = Box::new(rule);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// Waits until what was received satisfies `enough`, and gives it.
    pub(crate) async fn wait_for(&self, what: &str, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..3000 {
            tries.tick().await;
            let received = self.received();
            if enough(&received) {
                return received;
            }
        }
        let mut seen = String::new();
        for one in self.received() {
            writeln!(seen, "{} {:?} {}", one.id, one.answered, one.body).unwrap();
        }
        panic!("the endpoint never saw {what}:\n{seen}");
    }

    /// Waits for the first of this type that was answered 200.
    pub(crate) async fn delivered(&self, kind: &str) -> Received {
        let is_it = |one: &Received| one.kind() == kind && one.answered == Reply::Status(200);
        let received = self.wait_for(kind, |all| all.iter().any(is_it)).await;
        received.into_iter().find(is_it).unwrap()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(mut request) = read_request(&mut stream).await? else { return Ok(()) };
        let reply = (state.rule.lock().unwrap())(&request);
        request.answered = reply.clone();
        // Recorded before the answer: whoever is killed behind it, has it.
        state.received.lock().unwrap().push(request);
        let head = match &reply {
            Reply::Hang => std::future::pending().await,
            Reply::Flood => "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_owned(),
            Reply::Redirect(to) => {
                format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            }
            Reply::Status(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"),
        };
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        if reply == Reply::Flood {
            // Until nobody reads any more.
            loop {
                stream.write_all(&[b'x'; 65_536]).await?;
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Option<Received>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line);
    }
    let field = |name: &str| {
        let found = lines.iter().filter_map(|line| line.split_once(':'));
        let found =
            found.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        found.collect::<Vec<_>>().join(",")
    };
    let mut body = vec![0; field("content-length").parse().unwrap()];
    stream.read_exact(&mut body).await?;
    assert!(lines[0].starts_with("POST "), "{}", lines[0]);
    Ok(Some(Received {
        at: Instant::now(),
        path: lines[0].split(' ').nth(1).unwrap().to_owned(),
        id: field("webhook-id"),
        timestamp: field("webhook-timestamp"),
        signature: field("webhook-signature"),
        content_type: field("content-type"),
        body: String::from_utf8(body).unwrap(),
        answered: Reply::Hang,
    }))
}
