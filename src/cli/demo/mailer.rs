//! An SMTP client (RFC 5321) for loopback: the demo's, the tests' and the load tool's sending side.
//!
//! Promises real dialogue (pipelined where offered, STARTTLS, dot-stuffing) from a source address of choice, so that
//! SPF can tell senders apart, and hands back every reply word for word. Each wait is timed and each reply bounded.
//! It does not check the server's certificate, as opportunistic SMTP does not (RFC 3207 section 4.1): it is not
//! for sending real mail.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::trust::AnyCertificate;

/// One SMTP session.
pub struct Mailer {
    stream: Box<dyn Duplex>,
    unread: Vec<u8>,
    pipelining: Pipelining,
}

/// In clear or with STARTTLS.
#[derive(Clone)]
pub enum Security {
    /// No TLS.
    Plain,
    /// STARTTLS, whatever the certificate.
    StartTls(TlsConnector),
}

/// One reply, all its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpReply {
    /// The three digits.
    pub code: u16,
    /// The lines as received, joined with `\n`.
    pub text: String,
}

/// What was answered to one transaction, stage by stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// To MAIL.
    pub mail: SmtpReply,
    /// To each RCPT.
    pub recipients: Vec<SmtpReply>,
    /// To DATA: 354, or a refusal.
    pub data: SmtpReply,
    /// After the last byte; none if no recipient was accepted.
    pub end: Option<SmtpReply>,
}

/// Why a dialogue could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// The server cannot be reached, or the source address cannot be used.
    #[error("cannot connect to {server} from {source_ip}")]
    Connect {
        /// Where to.
        server: SocketAddr,
        /// Where from.
        source_ip: IpAddr,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// The connection ended.
    #[error("connection lost")]
    Lost(#[from] std::io::Error),
    /// The server closed without a reply.
    #[error("server closed the connection")]
    Closed,
    /// Something that is not a reply, or is over the limits.
    #[error("not an SMTP reply: {0}")]
    NoReply(String),
    /// Greeting, EHLO or STARTTLS was refused.
    #[error("refused: {0}")]
    Refused(String),
    /// Nothing came in time.
    #[error("no answer within {} s", REPLY_TIMEOUT.as_secs())]
    TimedOut,
}

impl Security {
    /// STARTTLS without checking the certificate.
    ///
    /// # Errors
    /// If the TLS library refuses its own defaults.
    pub fn starttls() -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
            .with_no_client_auth();
        Ok(Self::StartTls(TlsConnector::from(Arc::new(config))))
    }
}

impl SmtpReply {
    /// The trace id that the reply names.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.text.rsplit_once("[trace ")?.1.strip_suffix(']')
    }

    /// Code and enhanced code, such as `550 5.7.26`.
    #[must_use]
    pub fn codes(&self) -> String {
        let mut words = self.text.split([' ', '\n']);
        let code = words.next().unwrap_or_default();
        match words.next().filter(|word| word.contains('.')) {
            Some(enhanced) => format!("{code} {enhanced}"),
            None => code.to_owned(),
        }
    }
}

impl Answers {
    /// The reply that says what became of the mail: the last one, or the first refusal before DATA.
    #[must_use]
    pub fn decisive(&self) -> &SmtpReply {
        let refused = |reply: &&SmtpReply| reply.code >= 400;
        self.end
            .as_ref()
            .or_else(|| std::iter::once(&self.mail).chain(&self.recipients).find(refused))
            .unwrap_or(&self.data)
    }
}

impl Mailer {
    /// Connects, reads the greeting, says EHLO, and goes over to TLS if so asked.
    ///
    /// # Errors
    /// See [`MailerError`].
    pub async fn connect(
        server: SocketAddr,
        source_ip: IpAddr,
        helo: &str,
        security: &Security,
    ) -> Result<Self, MailerError> {
        let stream = connect(server, source_ip).await.map_err(|error| MailerError::Connect {
            server,
            source_ip,
            error,
        })?;
        let mut mailer =
            Self { stream: Box::new(stream), unread: Vec::new(), pipelining: Pipelining::Unknown };
        mailer.expect(220).await?;
        mailer.greet(helo).await?;
        if let Security::StartTls(connector) = security {
            mailer = mailer.start_tls(connector).await?;
            mailer.greet(helo).await?;
        }
        Ok(mailer)
    }

    /// One transaction: MAIL, each RCPT, DATA and the message.
    ///
    /// # Errors
    /// See [`MailerError`]; refusals are answers, not errors.
    pub async fn send(
        &mut self,
        mail_from: &str,
        recipients: &[String],
        raw: &[u8],
    ) -> Result<Answers, MailerError> {
        let mut lines = vec![mail_command(mail_from, raw)];
        lines.extend(recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n")));
        lines.push("DATA\r\n".to_owned());
        let mut replies = self.converse(&lines).await?;
        let data = replies.pop().ok_or(MailerError::Closed)?;
        let mail = replies.remove(0);
        let accepted = replies.iter().any(|reply| reply.code < 300);
        let end = if data.code == 354 {
            self.write(&wire_form(if accepted { raw } else { b"" })).await?;
            Some(self.reply().await?)
        } else {
            None
        };
        Ok(Answers { mail, recipients: replies, data, end: end.filter(|_| accepted) })
    }

    /// One command line (without CRLF) and its reply, for dialogues that [`Mailer::send`] does not hold.
    ///
    /// # Errors
    /// See [`MailerError`].
    pub async fn command(&mut self, line: &str) -> Result<SmtpReply, MailerError> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// QUIT, and waits for the goodbye.
    ///
    /// # Errors
    /// See [`MailerError`].
    pub async fn quit(mut self) -> Result<(), MailerError> {
        self.write(b"QUIT\r\n").await?;
        self.expect(221).await
    }

    async fn greet(&mut self, helo: &str) -> Result<(), MailerError> {
        let reply = self.command(&format!("EHLO {helo}")).await?;
        if reply.code != 250 {
            return Err(MailerError::Refused(reply.text));
        }
        let offered = reply.text.lines().any(|line| line.get(4..) == Some("PIPELINING"));
        self.pipelining = if offered { Pipelining::Offered } else { Pipelining::Unknown };
        Ok(())
    }

    async fn start_tls(mut self, connector: &TlsConnector) -> Result<Self, MailerError> {
        self.write(b"STARTTLS\r\n").await?;
        self.expect(220).await?;
        let name = ServerName::try_from("mx.example.test")
            .map_err(|error| MailerError::NoReply(error.to_string()))?;
        let stream = timed(connector.connect(name, self.stream)).await??;
        Ok(Self { stream: Box::new(stream), unread: Vec::new(), pipelining: Pipelining::Unknown })
    }

    async fn converse(&mut self, lines: &[String]) -> Result<Vec<SmtpReply>, MailerError> {
        let mut replies = Vec::with_capacity(lines.len());
        match self.pipelining {
            Pipelining::Offered => {
                self.write(lines.concat().as_bytes()).await?;
                for _ in lines {
                    replies.push(self.reply().await?);
                }
            }
            Pipelining::Unknown => {
                for line in lines {
                    self.write(line.as_bytes()).await?;
                    replies.push(self.reply().await?);
                }
            }
        }
        Ok(replies)
    }

    async fn expect(&mut self, code: u16) -> Result<(), MailerError> {
        let reply = self.reply().await?;
        if reply.code == code { Ok(()) } else { Err(MailerError::Refused(reply.text)) }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), MailerError> {
        timed(async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await??;
        Ok(())
    }

    async fn reply(&mut self) -> Result<SmtpReply, MailerError> {
        let mut lines: Vec<String> = Vec::new();
        while lines.len() < MAX_REPLY_LINES {
            let line = self.line().await?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if is_last {
                let text = lines.join("\n");
                let code = text.get(..3).and_then(|digits| digits.parse().ok());
                return code
                    .map(|code| SmtpReply { code, text: text.clone() })
                    .ok_or(MailerError::NoReply(text));
            }
        }
        Err(MailerError::NoReply("too many lines".to_owned()))
    }

    async fn line(&mut self) -> Result<String, MailerError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.unread.len() > MAX_REPLY_LINE {
                return Err(MailerError::NoReply("line too long".to_owned()));
            }
            if timed(self.stream.read_buf(&mut self.unread)).await?? == 0 {
                return Err(MailerError::Closed);
            }
        }
    }
}

/// What a session runs over: a socket, or TLS on one.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

#[derive(Clone, Copy)]
enum Pipelining {
    Offered,
    Unknown,
}

async fn connect(server: SocketAddr, source_ip: IpAddr) -> std::io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source_ip, 0))?;
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(server))
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn mail_command(mail_from: &str, raw: &[u8]) -> String {
    let body = if raw.is_ascii() { "" } else { " BODY=8BITMIME" };
    format!("MAIL FROM:<{mail_from}> SIZE={}{body}\r\n", raw.len())
}

/// The message as DATA carries it: dots doubled at the start of lines, and the end of data (RFC 5321 section 4.5.2).
fn wire_form(raw: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(raw.len() + 64);
    let mut line_start = 0;
    for end in memchr::memmem::find_iter(raw, b"\r\n").map(|at| at + 2).chain([raw.len()]) {
        let line = raw.get(line_start..end).unwrap_or_default();
        if line.first() == Some(&b'.') {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
        line_start = end;
    }
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

async fn timed<T>(wait: impl Future<Output = T>) -> Result<T, MailerError> {
    tokio::time::timeout(REPLY_TIMEOUT, wait).await.map_err(|_| MailerError::TimedOut)
}

/// Longer than the server's 60 s for its last reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REPLY_LINE: usize = 2048;
const MAX_REPLY_LINES: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::address::{EmailAddress, Mailbox};
    use crate::config;
    use crate::smtp::listener::Server;
    use crate::smtp::session::TlsPolicy;
    use crate::smtp::tls::Certificates;
    use crate::smtp::{
        Body, Client, Envelope, ForwardPath, Handler, Noting, RecipientAnswer, Reply, Unserved,
        reply as replies,
    };

    #[track_caller]
    fn check(raw: &[u8], expected: &[u8]) {
        assert_eq!(wire_form(raw).escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn dots_at_the_start_of_lines_are_doubled_and_the_end_is_marked() {
        check(b"", b".\r\n");
        check(b"a\r\n", b"a\r\n.\r\n");
        check(b"a", b"a\r\n.\r\n");
        check(b".\r\n..b\r\nc.\r\n", b"..\r\n...b\r\nc.\r\n.\r\n");
        check(b"a\n.\nb\r\n", b"a\n.\nb\r\n.\r\n");
    }

    fn reply(text: &str) -> SmtpReply {
        let code = text.split(' ').next().unwrap().parse().unwrap();
        SmtpReply { code, text: text.to_owned() }
    }

    #[test]
    fn codes_and_trace_are_read_from_a_reply() {
        let refused = reply("550 5.7.26 Not authenticated [trace 0190-ab]");
        assert_eq!((refused.codes().as_str(), refused.trace()), ("550 5.7.26", Some("0190-ab")));
        let bare = reply("354 Go ahead");
        assert_eq!((bare.codes().as_str(), bare.trace()), ("354", None));
    }

    #[test]
    fn the_first_refusal_decides_when_nothing_was_sent() {
        let answers = Answers {
            mail: reply("250 2.1.0 ok"),
            recipients: vec![reply("550 5.1.1 no [trace a]"), reply("550 5.7.1 no [trace b]")],
            data: reply("503 5.5.1 no recipients"),
            end: None,
        };
        assert_eq!(answers.decisive().trace(), Some("a"));
    }

    /// Takes mail for everybody but `nobody`, and remembers it.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<(Envelope, Vec<u8>)>>);

    impl Handler for Recorder {
        async fn recipient(
            &self,
            _: &Client,
            _: Option<&EmailAddress>,
            path: &ForwardPath,
            _: Noting,
        ) -> RecipientAnswer {
            match path {
                ForwardPath::Address(address) if address.as_str().starts_with("nobody@") => {
                    RecipientAnswer::Refused(replies::UNKNOWN_ADDRESS)
                }
                ForwardPath::Address(_) | ForwardPath::Postmaster => {
                    RecipientAnswer::Accepted(Mailbox::Postmaster)
                }
            }
        }

        async fn message(&self, envelope: Envelope, body: Body) -> Reply {
            let raw = body.read(None).await.unwrap().as_bytes().to_vec();
            self.0.lock().unwrap().push((envelope, raw));
            replies::MESSAGE_ACCEPTED
        }

        async fn unserved(&self, _: &Client, unserved: Unserved) -> Reply {
            unserved.reply
        }
    }

    #[tokio::test]
    async fn a_session_with_starttls_carries_mail_from_the_chosen_address_octet_for_octet() {
        let folder = tempfile::tempdir().unwrap();
        let smtp = config::Smtp { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Default::default() };
        let certificates =
            Certificates::load(&config::Tls::default(), folder.path(), "mx.example.test").unwrap();
        let server = Server::bind(&smtp, TlsPolicy::Offered, certificates).unwrap();
        let address = server.local_addrs()[0];
        let recorder = Arc::new(Recorder::default());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(Arc::clone(&recorder), stop.clone()));

        let security = Security::starttls().unwrap();
        let source = "127.0.0.20".parse().unwrap();
        let mut mailer = Mailer::connect(address, source, "mail.google-mail.test", &security).await.unwrap();
        let raw = "Subject: Grüße\r\n\r\n.one\r\n..\r\n.\r\nend\r\n".as_bytes();
        let both = ["nobody@sync.test".to_owned(), "lena@sync.test".to_owned()];
        let answers = mailer.send("lena@praxis.test", &both, raw).await.unwrap();
        assert_eq!(answers.recipients.iter().map(|reply| reply.code).collect::<Vec<_>>(), [550, 250]);
        assert_eq!(answers.decisive().codes(), "250 2.0.0");
        let nobody = mailer.send("lena@praxis.test", &both[..1], raw).await.unwrap();
        assert_eq!((nobody.decisive().codes().as_str(), nobody.end.is_none()), ("550 5.1.1", true));
        mailer.send("", &both[1..], raw).await.unwrap();
        mailer.quit().await.unwrap();
        stop.cancel();
        serving.await.unwrap();

        let taken = recorder.0.lock().unwrap();
        assert_eq!(taken.len(), 2);
        for (envelope, body) in taken.iter() {
            assert_eq!(body, raw);
            assert_eq!(envelope.client.ip, source);
            assert!(envelope.client.tls.is_some());
        }
    }
}
