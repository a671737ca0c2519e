//! The addresses of `smtp.listen` and `http.listen`: either a syncmx answers there, with our name and certificate, or
//! they are free to be taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::cli::check::PATIENCE;
use crate::cli::check::report::{Line, quoted};
use crate::cli::demo::trust::AnyCertificate;
use crate::cli::records;
use crate::config::Config;
use crate::smtp::proxy::Network;
use crate::smtp::tls::Surveyed;

pub(super) async fn check(config: &Config, pairs: &[Surveyed]) -> Vec<Line> {
    let (smtp, http) = tokio::join!(
        futures_util::future::join_all(config.smtp.listen.iter().map(|at| smtp(config, pairs, *at))),
        http(config.http.listen),
    );
    smtp.into_iter().chain([http]).collect()
}

async fn smtp(config: &Config, pairs: &[Surveyed], at: SocketAddr) -> Line {
    let Some(mut stream) = connect(at).await else { return free("smtp", at).await };
    let dialogue = tokio::time::timeout(GREETING_PATIENCE, dialogue(config, &mut stream));
    let shown = at.to_string();
    let red = |said: String, mend: &str| Line::red("smtp", &shown, said, mend);
    match dialogue.await {
        Err(_) => red("is taken, and nobody speaks there".to_owned(), END_IT),
        Ok(Err(Trouble::Another(said))) => red(format!("another program answers: {}", quoted(&said)), END_IT),
        Ok(Err(Trouble::Lost(error))) => red(format!("the dialogue ended: {error}"), "look at syncmx's log"),
        Ok(Err(Trouble::NoTls(said))) => red(
            format!("offers no STARTTLS: {}", quoted(&said)),
            "look at syncmx's log, and at what stands before it",
        ),
        Ok(Ok(presented)) => {
            let host = records::host(config);
            let named = pairs.iter().find(|pair| pair.name.as_ref() == Some(&host));
            let first = pairs.iter().find(|pair| pair.name.is_none());
            let configured = named.or(first).and_then(|pair| pair.leaf.as_ref().ok());
            if configured == Some(&presented) {
                return Line::ok(
                    "smtp",
                    &shown,
                    format!("{host} answers, STARTTLS with the configured certificate"),
                );
            }
            let mend = "send syncmx SIGHUP, and look at its log";
            red("STARTTLS presents another certificate than the files hold".to_owned(), mend)
        }
    }
}

/// Why there is no certificate to compare.
enum Trouble {
    Another(String),
    Lost(io::Error),
    NoTls(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Greeting, EHLO, STARTTLS, handshake, QUIT: the certificate that was presented.
async fn dialogue(config: &Config, stream: &mut TcpStream) -> Result<CertificateDer<'static>, Trouble> {
    let (host, own) = (records::host(config), stream.local_addr()?.ip());
    let networks = config.smtp.proxy_protocol_from.iter().filter_map(|text| Network::parse(text));
    if networks.into_iter().any(|network| network.contains(own)) {
        stream.write_all(b"PROXY UNKNOWN\r\n").await?;
    }
    let greeting = reply(stream).await?;
    if !greeting.to_ascii_lowercase().starts_with(&format!("220 {host} ")) {
        return Err(Trouble::Another(greeting));
    }
    stream.write_all(format!("EHLO {host}\r\n").as_bytes()).await?;
    let offered = reply(stream).await?;
    if !offered.lines().any(|line| line.get(4..).is_some_and(|word| word.eq_ignore_ascii_case("STARTTLS"))) {
        return Err(Trouble::NoTls(offered));
    }
    stream.write_all(b"STARTTLS\r\n").await?;
    let ready = reply(stream).await?;
    if !ready.starts_with("220") {
        return Err(Trouble::NoTls(ready));
    }
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let mut secure = connector()?.connect(name, stream).await?;
    let certificates = secure.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = certificates.first().cloned().map(CertificateDer::into_owned);
    // The certificate is known by now; a goodbye that fails changes nothing.
    let _goodbye = goodbye(&mut secure).await;
    leaf.ok_or_else(|| Trouble::NoTls("no certificate".to_owned()))
}

async fn goodbye<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(b"QUIT\r\n").await?;
    // What TLS keeps for want of room, nobody else sends.
    stream.flush().await?;
    reply(stream).await?;
    stream.shutdown().await
}

/// Whatever the certificate: it is compared with the files.
fn connector() -> io::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// One reply, all its lines (RFC 5321 section 4.2), without the last CRLF.
async fn reply<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut text = Vec::new();
    loop {
        if text.len() == MAX_REPLY_OCTETS {
            return Err(io::Error::other("a reply without end"));
        }
        let octet = stream.read_u8().await?;
        text.push(octet);
        let Some(lines) = text.strip_suffix(b"\r\n") else { continue };
        let last = lines.rsplit(|octet| *octet == b'\n').next().unwrap_or_default();
        if last.get(3).is_none_or(|behind_code| *behind_code == b' ') {
            return Ok(String::from_utf8_lossy(lines).into_owned());
        }
    }
}

async fn http(at: SocketAddr) -> Line {
    if connect(at).await.is_none() {
        return free("http", at).await;
    }
    let (shown, url) = (at.to_string(), format!("http://{}/readyz", reachable(at)));
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build();
    let answer = match client {
        Ok(client) => client.get(url).send().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) if answer.status() == 200 && answer.content_length() == Some(6) => {
            Line::ok("http", &shown, "syncmx answers, and is ready")
        }
        Ok(answer) if answer.status() == 503 => Line::warn(
            "http",
            &shown,
            "answers, and is not ready",
            "look at syncmx's log: the store is away, or it drains",
        ),
        Ok(answer) => {
            Line::red("http", &shown, format!("another program answers: {}", answer.status()), END_IT)
        }
        Err(_) => Line::red("http", &shown, "is taken, and nobody speaks HTTP there", END_IT),
    }
}

/// Nobody answers: can it be taken? It is given back at once.
async fn free(check: &'static str, at: SocketAddr) -> Line {
    let shown = at.to_string();
    match TcpListener::bind(at).await {
        Ok(_) => Line::ok(check, &shown, "is free; nobody answers there now"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Line::warn(
            check,
            &shown,
            "nobody answers, and this user may not take it",
            "run the check as syncmx's service does (CAP_NET_BIND_SERVICE), or start syncmx",
        ),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Line::red(
            check,
            &shown,
            "no interface has this address",
            "correct the address in the configuration",
        ),
        Err(error) => Line::red(check, &shown, format!("cannot be taken: {error}"), END_IT),
    }
}

/// None if nobody takes the connection in time.
async fn connect(at: SocketAddr) -> Option<TcpStream> {
    if at.port() == 0 {
        return None;
    }
    tokio::time::timeout(PATIENCE, TcpStream::connect(reachable(at))).await.ok()?.ok()
}

/// Every address of this host is reached on loopback.
fn reachable(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, at.port())
}

const END_IT: &str =
    "end the program that holds the address (ss -ltnp names it), or choose another in the configuration";
/// For the whole dialogue.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);
const MAX_REPLY_OCTETS: usize = 8192;
