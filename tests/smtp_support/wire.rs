//! Three ways to talk to a session: in memory, over TCP, over TLS; whole or octet by octet.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use syncmx::config;
use syncmx::smtp::listener::{Patience, RoomSwitch, Server};
use syncmx::smtp::session::{Session, Settings, Step, TlsPolicy};
use syncmx::smtp::tls::Certificates;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::recorder::Recorder;
use crate::script::Script;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Single,
    Whole,
}

pub(crate) const HOST: &str = "mx.example.test";

/// A self-signed pair for all tests of this process, and the client that trusts it.
pub(crate) fn certificates() -> &'static (Certificates, Arc<rustls::ClientConfig>) {
    static MADE: OnceLock<(Certificates, Arc<rustls::ClientConfig>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::load(&config::Tls::default(), folder.path(), HOST).unwrap();
        let leaf = CertificateDer::from_pem_file(folder.path().join("smtp-certificate.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(leaf).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (certificates, Arc::new(client))
    })
}

pub(crate) fn smtp_config(script: &Script) -> config::Smtp {
    let defaults = config::Smtp::default();
    config::Smtp {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        hostname: HOST.to_owned(),
        max_message_size: script.setting("max_message_size").unwrap_or(defaults.max_message_size),
        max_recipients: script.setting("max_recipients").unwrap_or(defaults.max_recipients),
        refuse_from: script.setting("refuse_from").into_iter().collect(),
        ..defaults
    }
}

pub(crate) fn tls_policy(script: &Script) -> TlsPolicy {
    match script.setting::<String>("tls").as_deref() {
        Some("required") => TlsPolicy::Required,
        Some("unavailable") => TlsPolicy::Unavailable,
        _ => TlsPolicy::Offered,
    }
}

/// The core alone.
pub(crate) struct Memory {
    session: Session,
    pub(crate) recorder: Arc<Recorder>,
    body: Vec<u8>,
    said: VecDeque<u8>,
    pub(crate) state: MemoryState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryState {
    Closed,
    Receiving,
    StartingTls,
}

impl Memory {
    pub(crate) fn new(config: &config::Smtp, tls: TlsPolicy) -> Self {
        let settings = Settings {
            hostname: config.hostname.clone(),
            max_message_bytes: config.max_message_size,
            max_recipients: config.max_recipients,
            command_timeout: config.timeouts.command,
            data_timeout: config.timeouts.data,
            error_pause: Duration::from_secs(1),
            stressed_timeout: Duration::from_secs(30),
            tls,
        };
        let mut session = Session::new(Arc::new(settings), IpAddr::V4(Ipv4Addr::LOCALHOST));
        if !config.refuse_from.is_empty() {
            session.refuse_service();
        }
        let mut memory = Self {
            session,
            recorder: Arc::default(),
            body: Vec::new(),
            said: VecDeque::new(),
            state: MemoryState::Receiving,
        };
        memory.settle();
        memory
    }

    /// Does steps until the client is waited for.
    fn settle(&mut self) {
        let mut unsent = Vec::new();
        self.state = loop {
            match self.session.next_step() {
                Step::Append(bytes) => self.body.extend_from_slice(&bytes),
                Step::AskMessage(envelope) => {
                    let body = std::mem::take(&mut self.body);
                    let body = if envelope.defect.is_some() { Vec::new() } else { body };
                    let answer = self.recorder.judge_message(*envelope, &body);
                    self.session.answer_message(answer);
                }
                Step::AskRecipient(path) => {
                    let answer = self.recorder.judge_recipient(&path);
                    self.session.answer_recipient(answer);
                }
                Step::AskTrace(unserved) => {
                    let answer = self.recorder.leave_trace(*unserved);
                    self.session.answer_trace(&answer);
                }
                Step::Close(_) => break MemoryState::Closed,
                Step::DropBody => self.body.clear(),
                // Time is nothing in memory.
                Step::Pause(_) => {}
                Step::Receive => break MemoryState::Receiving,
                Step::Send(bytes) => unsent.extend_from_slice(&bytes),
                Step::StartBody => self.body.clear(),
                Step::StartTls => break MemoryState::StartingTls,
            }
        };
        self.said.extend(unsent);
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.state == MemoryState::Receiving {
            self.session.receive(bytes);
            self.settle();
        }
    }

    pub(crate) fn handshake(&mut self) {
        assert_eq!(self.state, MemoryState::StartingTls);
        self.session.tls_started("TLSv1.3 TLS13_AES_128_GCM_SHA256".to_owned());
        self.settle();
    }

    pub(crate) fn shut_down(&mut self) {
        self.session.shut_down();
        self.settle();
    }

    pub(crate) fn time_out(&mut self) {
        self.session.timed_out();
        self.settle();
    }

    /// Everything said and not read.
    pub(crate) fn said(&mut self) -> Vec<u8> {
        self.said.drain(..).collect()
    }

    pub(crate) fn line(&mut self) -> Option<String> {
        let end = self.said.iter().position(|octet| *octet == b'\n')?;
        let line: Vec<u8> = self.said.drain(..=end).collect();
        Some(String::from_utf8(line).unwrap().strip_suffix("\r\n").unwrap().to_owned())
    }
}

/// A server on a free loopback port.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
    pub(crate) room: RoomSwitch,
}

pub(crate) fn serve(config: &config::Smtp, tls: TlsPolicy, patience: Patience) -> Running {
    let server = Server::bind(config, tls, certificates().0.clone()).unwrap().with_patience(patience);
    let (address, room) = (server.local_addrs()[0], server.room_switch());
    let (recorder, shutdown) = (Arc::new(Recorder::default()), CancellationToken::new());
    let task = tokio::spawn(server.serve(Arc::clone(&recorder), shutdown.clone()));
    Running { address, recorder, shutdown, task, room }
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A client on a socket.
pub(crate) struct Peer {
    stream: Box<dyn Duplex>,
    unread: Vec<u8>,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::on(stream)
    }

    pub(crate) fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream: Box::new(stream), unread: Vec::new() }
    }

    pub(crate) async fn handshake(self) -> Self {
        assert!(self.unread.is_empty());
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&certificates().1));
        let name = ServerName::try_from(HOST).unwrap();
        let stream = connector.connect(name, self.stream).await.unwrap();
        Self { stream: Box::new(stream), unread: Vec::new() }
    }

    /// Sends; a server that has closed already is no failure here.
    pub(crate) async fn send(&mut self, bytes: &[u8], cut: Cut) {
        let piece = match cut {
            Cut::Single if bytes.len() <= 4096 => 1,
            // Octet by octet over a socket would take minutes, and memory does it.
            Cut::Single => 997,
            Cut::Whole => bytes.len().max(1),
        };
        for piece in bytes.chunks(piece) {
            if self.stream.write_all(piece).await.is_err() || self.stream.flush().await.is_err() {
                return;
            }
        }
    }

    /// The next line without CRLF; none if the server has closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().strip_suffix("\r\n").unwrap().to_owned());
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(60), self.stream.read(&mut buffer)).await;
            match read.expect("the server says something in time") {
                Ok(0) | Err(_) => {
                    assert!(self.unread.is_empty(), "half a line");
                    return None;
                }
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// Reads a reply of one or more lines.
    pub(crate) async fn reply(&mut self) -> String {
        let mut reply = String::new();
        while let Some(line) = self.line().await {
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
            reply.push('\n');
        }
        reply
    }

    /// Sends a line and reads the reply.
    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes(), Cut::Whole).await;
        self.reply().await
    }
}
