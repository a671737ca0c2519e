//! Clients that the experiments need: raw ones, and one that measures how long a quiet session is kept waiting.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A connection from the n-th of many loopback addresses, forty of one address.
pub(crate) async fn connect_from(server: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let host = number / 40;
    let [high, low] = [host / 250, host % 250 + 1].map(|part| u8::try_from(part).unwrap());
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((IpAddr::V4(Ipv4Addr::new(127, 1, high, low)), 0)))?;
    socket.connect(server).await
}

/// Sends and reads one answer, whatever its lines.
pub(crate) async fn ask(stream: &mut TcpStream, said: &[u8]) -> std::io::Result<String> {
    stream.write_all(said).await?;
    let mut answer = vec![0; 2048];
    let read = tokio::time::timeout(Duration::from_secs(90), stream.read(&mut answer)).await??;
    answer.truncate(read);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Greeted.
pub(crate) async fn greeted(server: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let mut stream = connect_from(server, number).await?;
    ask(&mut stream, b"").await?;
    ask(&mut stream, b"EHLO client.test\r\n").await?;
    Ok(stream)
}

/// Sessions that say RSET every few milliseconds until told to stop, and how long each answer took. RSET and NOOP
/// have a budget, so each session says 90.
pub(crate) struct Pinger {
    task: JoinHandle<Vec<Duration>>,
    stop: CancellationToken,
}

impl Pinger {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut took = Vec::new();
            while !stopped.is_cancelled() {
                let Ok(mut stream) = greeted(server, 9999).await else { continue };
                for _ in 0..90 {
                    if stopped.is_cancelled() {
                        break;
                    }
                    let began = Instant::now();
                    if ask(&mut stream, b"NOOP\r\n").await.is_err() {
                        break;
                    }
                    took.push(began.elapsed());
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            took
        });
        Self { task, stop }
    }

    /// The longest of 99 in a hundred.
    pub(crate) async fn p99(self) -> Duration {
        self.stop.cancel();
        p99(self.task.await.unwrap())
    }
}

pub(crate) fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> i64 {
    crate::memory_of::resident_kib(pid).unwrap().try_into().unwrap()
}
