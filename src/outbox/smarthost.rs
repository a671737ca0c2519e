//! The smarthost: its address, and one SMTP session with it (RFC 5321, 3207, 4954).
//!
//! `smtps://` is TLS from the first octet, `smtp+starttls://` insists on STARTTLS; both check the certificate.
//! `smtp://` takes what is offered, whatever the certificate, as MX delivery does (RFC 3207 section 4.1); but a
//! password goes over a checked certificate only, or to this machine itself. Every wait is timed; the library bounds
//! the replies. Passwords show nothing in Debug and stand in no error.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use mail_send::SmtpClient;
use mail_send::smtp::tls::build_tls_connector;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::address::EmailAddress;
use crate::message::base64;

/// Where and how to hand mail over.
#[derive(Clone)]
pub struct Smarthost {
    security: Security,
    host: String,
    port: u16,
    credentials: Option<(String, Zeroizing<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Implicit,
    Opportunistic,
    StartTls,
}

impl fmt::Debug for Smarthost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Smarthost({:?}, {}:{})", self.security, self.host, self.port)
    }
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// A 4yz reply: later.
    Later(String),
    /// A 5yz reply to the recipient or the message: never.
    Refused(String),
    /// The smarthost has it.
    Taken(String),
}

/// The session cannot go on; what was on its way is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(String);

/// One session, ready for mail.
pub(super) struct Session {
    client: SmtpClient<Box<dyn Duplex>>,
    /// Of the last EHLO: keywords with their parameters, upper case.
    offers: Vec<String>,
}

/// What of a certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Certificate,
    Nothing,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Smarthost {
    /// Its name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// Reads `smtp://`, `smtps://` or `smtp+starttls://` `[USER:PASSWORD@]HOST:PORT`; user and password are
    /// percent-coded.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let security = match scheme {
            "smtp" => Security::Opportunistic,
            "smtp+starttls" => Security::StartTls,
            "smtps" => Security::Implicit,
            _ => return None,
        };
        let (login, server) = match rest.rsplit_once('@') {
            Some((login, server)) => (Some(login), server),
            None => (None, rest),
        };
        let (host, port) = server.trim_end_matches('/').rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        let credentials = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => Some((unescape(user)?, Zeroizing::new(unescape(password)?))),
            None => None,
        };
        let port = port.parse().ok().filter(|_| is_host)?;
        Some(Self { security, host: host.to_owned(), port, credentials })
    }

    /// Connects, secures, logs in.
    pub(super) async fn open(&self, hostname: &str) -> Result<Session, Broken> {
        match tokio::time::timeout(OPEN_LIMIT, self.connect(hostname)).await {
            Ok(opened) => opened,
            Err(_) => Err(Broken("the smarthost does not answer in time".to_owned())),
        }
    }

    async fn connect(&self, hostname: &str) -> Result<Session, Broken> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| Broken(format!("cannot connect to the smarthost: {error}")))?;
        let mut stream: Box<dyn Duplex> = Box::new(stream);
        if self.security == Security::Implicit {
            stream = self.secure(stream, Check::Certificate).await?;
        }
        let mut session = Session::over(stream);
        expect(220, session.hear().await?)?;
        session.hello(hostname).await?;
        if self.security == Security::Implicit {
            return session.with_login(self, Check::Certificate).await;
        }
        if !session.has("STARTTLS") {
            if self.security == Security::StartTls {
                return Err(Broken("the smarthost offers no STARTTLS".to_owned()));
            }
            return session.with_login(self, Check::Nothing).await;
        }
        let is_strict = self.security == Security::StartTls || self.sends_password_away();
        let check = if is_strict { Check::Certificate } else { Check::Nothing };
        expect(220, session.say("STARTTLS").await?)?;
        let mut session = Session::over(self.secure(session.client.stream, check).await?);
        session.hello(hostname).await?;
        session.with_login(self, check).await
    }

    async fn secure(&self, stream: Box<dyn Duplex>, check: Check) -> Result<Box<dyn Duplex>, Broken> {
        // Whoever comes second finds it installed.
        let _second = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let connector = build_tls_connector(check == Check::Nothing).map_err(Broken)?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Broken("the smarthost's name cannot stand in a certificate".to_owned()))?;
        let secured = connector
            .connect(name, stream)
            .await
            .map_err(|error| Broken(format!("no TLS with the smarthost: {error}")))?;
        Ok(Box::new(secured))
    }

    /// A password that would leave this machine.
    fn sends_password_away(&self) -> bool {
        let is_here =
            self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.credentials.is_some() && !is_here
    }
}

impl Session {
    const fn over(stream: Box<dyn Duplex>) -> Self {
        Self { client: SmtpClient { stream, timeout: COMMAND_LIMIT }, offers: Vec::new() }
    }

    /// The next reply: its code, and its text with the enhanced code in front.
    async fn hear(&mut self) -> Result<(u16, String), Broken> {
        let heard = tokio::time::timeout(COMMAND_LIMIT, self.client.read()).await;
        let reply = heard.unwrap_or(Err(mail_send::Error::Timeout)).map_err(broken)?;
        Ok((reply.code, text(reply.esc, &reply.message)))
    }

    async fn say(&mut self, command: &str) -> Result<(u16, String), Broken> {
        let line = Zeroizing::new(format!("{command}\r\n"));
        let reply = self.client.cmd(line.as_bytes()).await.map_err(broken)?;
        Ok((reply.code, text(reply.esc, &reply.message)))
    }

    async fn hello(&mut self, hostname: &str) -> Result<(), Broken> {
        let said = expect(250, self.say(&format!("EHLO {hostname}")).await?)?;
        self.offers = said.lines().map(|line| line.trim().to_ascii_uppercase()).collect();
        Ok(())
    }

    fn has(&self, keyword: &str) -> bool {
        self.offers.iter().any(|offer| offer.split([' ', '=']).next() == Some(keyword))
    }

    fn offers_login(&self, mechanism: &str) -> bool {
        let is_login = |offer: &&String| offer.starts_with("AUTH ") || offer.starts_with("AUTH=");
        self.offers.iter().filter(is_login).any(|offer| offer.split([' ', '=']).any(|word| word == mechanism))
    }

    async fn with_login(mut self, smarthost: &Smarthost, check: Check) -> Result<Self, Broken> {
        let Some((user, password)) = &smarthost.credentials else { return Ok(self) };
        if check == Check::Nothing && smarthost.sends_password_away() {
            return Err(Broken("the smarthost offers no TLS: the password does not go in clear".to_owned()));
        }
        if self.offers_login("PLAIN") {
            let both = Zeroizing::new(format!("\0{user}\0{}", password.as_str()));
            let command = Zeroizing::new(format!("AUTH PLAIN {}", base64(both.as_bytes())));
            expect(235, self.say(&command).await?)?;
        } else if self.offers_login("LOGIN") {
            expect(334, self.say("AUTH LOGIN").await?)?;
            expect(334, self.say(&base64(user.as_bytes())).await?)?;
            let answer = Zeroizing::new(base64(password.as_bytes()));
            expect(235, self.say(&answer).await?)?;
        } else {
            return Err(Broken("the smarthost offers no AUTH PLAIN or LOGIN".to_owned()));
        }
        Ok(self)
    }

    /// One message to one recipient; `sender` none is the null reverse-path.
    pub(super) async fn hand_over(
        &mut self,
        sender: Option<&EmailAddress>,
        recipient: &EmailAddress,
        message: &[u8],
    ) -> Result<Handed, Broken> {
        let is_foreign = |address: &EmailAddress| !address.as_str().is_ascii();
        let needs_utf8 = sender.is_some_and(is_foreign) || is_foreign(recipient);
        if needs_utf8 && !self.has("SMTPUTF8") {
            return Ok(Handed::Refused("the smarthost takes no international addresses".to_owned()));
        }
        let mut mail = format!("MAIL FROM:<{}>", sender.map_or("", EmailAddress::as_str));
        if self.has("SIZE") {
            mail.push_str(&format!(" SIZE={}", message.len()));
        }
        if self.has("8BITMIME") && !message.is_ascii() {
            mail.push_str(" BODY=8BITMIME");
        }
        if needs_utf8 {
            mail.push_str(" SMTPUTF8");
        }
        let commands = [
            (mail, 250, About::Us),
            (format!("RCPT TO:<{recipient}>"), 250, About::Mail),
            ("DATA".to_owned(), 354, About::Us),
        ];
        for (command, wanted, about) in commands {
            let (code, said) = self.say(&command).await?;
            if code != wanted && !(wanted == 250 && (251..300).contains(&code)) {
                let handed = judge(about, code, &said)?;
                // One that hangs up instead is found out by the next message.
                let _whatever_it_answers = self.say("RSET").await;
                return Ok(handed);
            }
        }
        let body = message.strip_suffix(b"\r\n").unwrap_or(message);
        match tokio::time::timeout(DATA_LIMIT, self.client.write_message(body)).await {
            Ok(written) => written.map_err(|error| broken(error.into()))?,
            Err(_) => return Err(broken(mail_send::Error::Timeout)),
        }
        let reply = tokio::time::timeout(END_LIMIT, self.client.read()).await;
        let reply = reply.unwrap_or(Err(mail_send::Error::Timeout)).map_err(broken)?;
        judge(About::Mail, reply.code, &text(reply.esc, &reply.message))
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        let _whatever_it_answers = tokio::time::timeout(GOODBYE_LIMIT, self.say("QUIT")).await;
    }
}

/// What a 5yz reply to a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// The recipient, or the message.
    Mail,
    /// Who we are: the operator can mend it, and the mail is still wanted then.
    Us,
}

fn judge(about: About, code: u16, said: &str) -> Result<Handed, Broken> {
    let said = format!("{code} {said}");
    match (code, about) {
        (200..=299, _) => Ok(Handed::Taken(said)),
        // It is about to hang up (RFC 5321 section 3.8), or wants a login (RFC 4954 section 6), wherever it says so.
        (421 | 530, _) => Err(Broken(said)),
        // RFC 1870 section 6.1: behind SIZE, MAIL is about the message too.
        (552, About::Us) | (500..=599, About::Mail) => Ok(Handed::Refused(said)),
        (500..=599, About::Us) => Err(Broken(said)),
        _ => Ok(Handed::Later(said)),
    }
}

fn expect(wanted: u16, (code, said): (u16, String)) -> Result<String, Broken> {
    if code == wanted { Ok(said) } else { Err(Broken(format!("the smarthost says {code} {said}"))) }
}

fn text(enhanced: [u8; 3], message: &str) -> String {
    match enhanced {
        [0, ..] => message.to_owned(),
        [class, subject, detail] => format!("{class}.{subject}.{detail} {message}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn broken(error: mail_send::Error) -> Broken {
    Broken(error.to_string())
}

/// `%40` → `@` (RFC 3986 section 2.1); none if that is no text, or would end a line.
fn unescape(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            octets.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = behind;
        } else {
            octets.push(*first);
        }
    }
    let text = String::from_utf8(octets).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// For connection, TLS and login together.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// For one command; a smarthost is near.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// For the message, however large.
pub(super) const DATA_LIMIT: Duration = Duration::from_secs(5 * 60);
/// For the answer to it: a scanner may stand behind.
pub(super) const END_LIMIT: Duration = Duration::from_secs(2 * 60);
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, security: Security, server: (&str, u16), login: Option<(&str, &str)>) {
        let smarthost = Smarthost::parse(url).unwrap();
        let credentials = smarthost.credentials.as_ref().map(|(user, word)| (user.as_str(), word.as_str()));
        assert_eq!(smarthost.security, security);
        assert_eq!((smarthost.host.as_str(), smarthost.port), server);
        assert_eq!(credentials, login);
    }

    #[test]
    fn a_url_says_where_how_and_as_whom() {
        check("smtp://127.0.0.1:1025", Security::Opportunistic, ("127.0.0.1", 1025), None);
        check("smtps://mx.test:465/", Security::Implicit, ("mx.test", 465), None);
        let login = Some(("us%er@x.test", "p:w/d"));
        check(
            "smtp+starttls://us%25er%40x.test:p:w%2Fd@mx.test:587",
            Security::StartTls,
            ("mx.test", 587),
            login,
        );
        check("smtp://[::1]:25", Security::Opportunistic, ("::1", 25), None);
        for bad in [
            "",
            "nonsense",
            "http://a:1",
            "smtp://a",
            "smtp://:25",
            "smtp://a:x",
            "smtp://%0a@a:25",
            "smtp://%@a:25",
        ] {
            assert!(Smarthost::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_password_does_not_show_and_stays_here_without_a_checked_certificate() {
        let smarthost = Smarthost::parse("smtp://user:secret@mx.test:25").unwrap();
        assert!(!format!("{smarthost:?}").contains("secret"));
        assert!(smarthost.sends_password_away());
        assert!(!Smarthost::parse("smtp://user:secret@127.0.0.1:25").unwrap().sends_password_away());
        assert!(!Smarthost::parse("smtp://mx.test:25").unwrap().sends_password_away());
    }

    #[test]
    fn only_what_is_about_the_mail_is_refused_for_good() {
        for about in [About::Mail, About::Us] {
            assert!(matches!(judge(about, 250, ""), Ok(Handed::Taken(_))));
            assert!(matches!(judge(about, 451, ""), Ok(Handed::Later(_))));
            assert!(matches!(judge(about, 552, ""), Ok(Handed::Refused(_))));
            assert!(judge(about, 421, "").is_err() && judge(about, 530, "").is_err());
        }
        assert!(matches!(judge(About::Mail, 554, ""), Ok(Handed::Refused(_))));
        assert!(judge(About::Us, 554, "").is_err());
    }
}
