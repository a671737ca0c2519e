//! A smarthost that keeps what it is given: SMTP without TLS, on an address of its own, with manners to choose.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does with mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Hangs up behind a message that holds the word `poison`.
    Frail,
    /// Takes the message, and never says so.
    Silent,
    /// `550` to each recipient.
    Refusing,
    /// `530` to each sender.
    Strict,
    Taking,
}

/// A message that was handed over.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) sender: String,
    pub(crate) recipient: String,
    pub(crate) text: String,
}

pub(crate) struct Sink {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

struct State {
    manner: Manner,
    got: Vec<Got>,
    logins: Vec<String>,
}

impl Sink {
    /// On a host of its own: nobody takes its port while it is closed.
    pub(crate) async fn start(last: u8) -> Self {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 1, last));
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Mutex::new(State { manner: Manner::Taking, got: Vec::new(), logins: Vec::new() }));
        let task = Some(tokio::spawn(serve(listener, state.clone())));
        Self { address, state, task }
    }

    /// The settings of a server that relays through it, each `NAME=value`.
    pub(crate) fn settings(&self) -> [String; 2] {
        [
            format!("SYNCMX_RELAY__SMARTHOST=smtp://desk:s%3Acret@{}:{}", self.address.ip(), self.port()),
            "SYNCMX_RELAY__FROM=no-reply@reply.example.test".to_owned(),
        ]
    }

    pub(crate) fn be(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// Connections are refused from now on.
    pub(crate) async fn close(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _aborted = task.await;
        }
    }

    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = Some(tokio::spawn(serve(listener, self.state.clone())));
    }

    /// What was said behind AUTH.
    pub(crate) fn logins(&self) -> Vec<String> {
        self.state.lock().unwrap().logins.clone()
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }

    /// Once there are so many; the last of them.
    pub(crate) async fn wait_for(&self, count: usize) -> Got {
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..4_500 {
            tries.tick().await;
            if let Some(got) = self.got().get(count - 1) {
                return got.clone();
            }
        }
        panic!("the smarthost never got {count} mails: {:#?}", self.got());
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Got {
    /// The value of a field, unfolded; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> String {
        let header = self.text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
        let start = format!("{name}: ");
        header.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned()
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut sessions = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        sessions.spawn(session(stream, state.clone()));
    }
}

/// One session, as far as a well-behaved client needs it.
async fn session(stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader);
    writer.write_all(b"220 sink.test ESMTP\r\n").await.ok()?;
    let (mut sender, mut recipient) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let manner = state.lock().unwrap().manner;
        let path = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let answer = match line.get(..4).unwrap_or_default() {
            "EHLO" => {
                "250-sink.test\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH CRAM-MD5 PLAIN\r\n250 SIZE 50000000\r\n"
            }
            "AUTH" => {
                state.lock().unwrap().logins.push(line.get(5..).unwrap_or_default().trim().to_owned());
                "235 2.7.0 welcome\r\n"
            }
            "MAIL" if manner == Manner::Strict => "530 5.7.0 authentication required\r\n",
            "MAIL" => {
                sender = path();
                "250 2.1.0 ok\r\n"
            }
            "RCPT" if manner == Manner::Refusing => "550 5.1.1 nobody here\r\n",
            "RCPT" => {
                recipient = path();
                "250 2.1.5 ok\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await.ok()?;
                let text = data(&mut lines).await?;
                if manner == Manner::Frail && text.contains("poison") {
                    return None;
                }
                let got = Got { sender: sender.clone(), recipient: recipient.clone(), text };
                state.lock().unwrap().got.push(got);
                if manner == Manner::Silent {
                    std::future::pending::<()>().await;
                }
                "250 2.0.0 kept\r\n"
            }
            "RSET" => "250 2.0.0 ok\r\n",
            "QUIT" => "221 2.0.0 bye\r\n",
            _ => "500 5.5.2 what?\r\n",
        };
        writer.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// Up to the lone dot, without the dots that were stuffed.
async fn data(lines: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(line.ends_with("\r\n") && !line.trim_end_matches("\r\n").contains(['\r', '\n']), "{line:?}");
        if line == ".\r\n" {
            return Some(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
