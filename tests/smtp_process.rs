//! A server in another process: what it does when descriptors run out, and how much memory idle connections cost.
//!
//! The measurement is not run by default: `cargo test --release --test smtp_process -- --ignored --nocapture idle`
//! opens `SYNCMX_IDLE` connections (2,000) and reads the other process's resident memory before and after.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/memory_of.rs"]
mod memory_of;
#[path = "smtp_support/recorder.rs"]
mod recorder;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use memory_of::resident_kib;
use recorder::Recorder;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use syncmx::config;
use syncmx::smtp::listener::Server;
use syncmx::smtp::session::TlsPolicy;
use syncmx::smtp::tls::Certificates;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const PLAIN_KIB: usize = 15;
const TLS_KIB: usize = 40;
/// The kernel has only so many ports for one pair of addresses, and the server so many seats for one address.
const CONNECTIONS_PER_ADDRESS: usize = 40;

/// The other process: prints its address, serves until its input ends.
#[test]
#[ignore = "started by the measurement"]
fn server_process() {
    let folder = std::env::var_os("SYNCMX_IDLE_FOLDER").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = config::Smtp {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            max_connections: 20_000,
            // One /26 of loopback holds many of the addresses that the measurement comes from.
            max_connections_per_ip: 20_000,
            ..config::Smtp::default()
        };
        let certificates =
            Certificates::load(&config::Tls::default(), folder.as_ref(), "mx.example.test").unwrap();
        let server = Server::bind(&config, TlsPolicy::Offered, certificates).unwrap();
        println!("\nlistening {}", server.local_addrs().first().unwrap());
        std::io::stdout().flush().unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        tokio::spawn(server.serve(Arc::new(Recorder::default()), shutdown.clone()));
        tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new()))
            .await
            .unwrap()
            .unwrap();
    });
    std::process::exit(0);
}

#[test]
fn x9_without_descriptors_clients_are_turned_away_and_the_server_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, address) = start(folder.path(), 40);
    let connect = || {
        let stream = StdStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    };
    let said = |mut stream: &StdStream| {
        let mut first = [0; 4];
        stream.read_exact(&mut first).map(|()| first)
    };
    let mut streams: Vec<StdStream> = (0..60).map(|_| connect()).collect();
    let first_words: Vec<_> = streams.iter().map(|stream| said(stream).unwrap_or_default()).collect();
    let served = first_words.iter().filter(|word| *word == b"220 ").count();
    let turned_away = first_words.iter().filter(|word| *word == b"421 ").count();
    assert!(served > 10 && turned_away > 10, "{served} served, {turned_away} turned away");
    streams.clear();
    // As descriptors come back, clients are served again.
    let served = (0..1000).any(|_| said(&connect()).is_ok_and(|word| word == *b"220 "));
    assert!(served, "the server recovers");
    drop(server.stdin.take());
    server.wait().unwrap();
}

#[test]
#[ignore = "a measurement"]
fn x8_idle_connections_take_little_memory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (uses_tls, limit_kib) in [(false, PLAIN_KIB), (true, TLS_KIB)] {
        let per_connection = runtime.block_on(measure(uses_tls));
        let kind = if uses_tls { "TLS" } else { "clear" };
        println!("idle, {kind}: {:.1} KiB a connection", per_connection / 1024.0);
        assert!(per_connection <= f64::from(u32::try_from(limit_kib * 1024).unwrap()), "{kind}");
    }
}

/// Octets of resident memory for each connection.
async fn measure(uses_tls: bool) -> f64 {
    let count: u32 = std::env::var("SYNCMX_IDLE").map_or(2000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (mut server, address) = start(folder.path(), 20_000);
    let tls = client_config(folder.path());
    // The first ones pay for threads, buffers and tables.
    let mut open = Vec::new();
    for number in 0..100 {
        open.push(connect(address, number, uses_tls.then(|| Arc::clone(&tls))).await);
    }
    let before = resident_kib(server.id()).unwrap();
    for number in 0..count {
        open.push(
            connect(address, usize::try_from(number).unwrap(), uses_tls.then(|| Arc::clone(&tls))).await,
        );
    }
    let after = resident_kib(server.id()).unwrap();
    drop(server.stdin.take());
    server.wait().unwrap();
    f64::from(u32::try_from((after - before) * 1024).unwrap()) / f64::from(count)
}

fn start(folder: &std::path::Path, descriptors: u32) -> (Child, SocketAddr) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "server_process"])
        .env("SYNCMX_IDLE_FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("listening ")?.parse().ok());
    // The test harness goes on talking; without a reader it would die.
    std::thread::spawn(move || lines.count());
    (child, address.unwrap())
}

fn client_config(folder: &std::path::Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("smtp-certificate.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

type Open = Box<dyn Send>;

async fn connect(address: SocketAddr, number: usize, tls: Option<Arc<rustls::ClientConfig>>) -> Open {
    let host = number / CONNECTIONS_PER_ADDRESS + 2;
    let [high, low] = [host / 250, host % 250 + 1].map(|part| u8::try_from(part).unwrap());
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 1, high, low], 0))).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    ask(&mut stream, b"").await;
    ask(&mut stream, b"EHLO client.example\r\n").await;
    let Some(tls) = tls else { return Box::new(stream) };
    ask(&mut stream, b"STARTTLS\r\n").await;
    let name = ServerName::try_from("mx.example.test").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await.unwrap();
    stream.write_all(b"EHLO client.example\r\n").await.unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    Box::new(stream)
}

async fn ask(stream: &mut TcpStream, command: &[u8]) {
    stream.write_all(command).await.unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
}
