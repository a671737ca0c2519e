//! The sockets of a [`Zone`]: UDP and TCP on one port of 127.0.0.1.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::Zone;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct ZoneServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    zone: RwLock<Arc<Zone>>,
    queries: AtomicU64,
}

impl ZoneServer {
    /// Listens on a free port of 127.0.0.1, UDP and TCP.
    ///
    /// # Errors
    /// No port was free for both.
    pub async fn start(zone: Zone) -> io::Result<Self> {
        let (udp, tcp) = same_port().await?;
        let shared = Arc::new(Shared { zone: RwLock::new(Arc::new(zone)), queries: AtomicU64::new(0) });
        let addr = tcp.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, shared.clone()));
        tasks.spawn(serve_tcp(tcp, shared.clone()));
        Ok(Self { addr, shared, _tasks: tasks })
    }

    /// Where it listens, for `[dns] servers`.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers from `zone` from now on. Resolvers that have cached old answers keep them for their TTL.
    pub fn replace(&self, zone: Zone) {
        *self.shared.zone.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    /// How many queries have come in, UDP and TCP.
    #[must_use]
    pub fn query_count(&self) -> u64 {
        self.shared.queries.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// The answer to a packet as octets; none where there is to be none.
    fn answer(&self, packet: &[u8]) -> Option<(Message, u16)> {
        let request = Message::from_vec(packet).ok()?;
        self.queries.fetch_add(1, Ordering::Relaxed);
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner).clone();
        Some((zone.answer(&request)?, request.max_payload()))
    }
}

const BIND_ATTEMPTS: usize = 20;
/// RFC 1035 section 2.3.4: what a UDP answer may hold without EDNS.
const PLAIN_UDP_OCTETS: u16 = 512;
const TCP_IDLE: Duration = Duration::from_secs(10);

async fn same_port() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..BIND_ATTEMPTS {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut packet = [0u8; 4096];
    loop {
        // An error here is an ICMP answer to one of our own packets, never the end of the socket.
        let Ok((length, peer)) = socket.recv_from(&mut packet).await else { continue };
        let Some((answer, payload)) = packet.get(..length).and_then(|packet| shared.answer(packet)) else {
            continue;
        };
        let Ok(mut octets) = answer.to_vec() else { continue };
        if octets.len() > usize::from(payload.max(PLAIN_UDP_OCTETS)) {
            let Ok(truncated) = answer.truncate().to_vec() else { continue };
            octets = truncated;
        }
        let _ = socket.send_to(&octets, peer).await;
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve_connection(stream, shared.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(mut stream: TcpStream, shared: Arc<Shared>) {
    loop {
        let Ok(Ok(packet)) = tokio::time::timeout(TCP_IDLE, read_packet(&mut stream)).await else { return };
        let Some((answer, _)) = shared.answer(&packet) else { continue };
        let Ok(octets) = answer.to_vec() else { return };
        let Ok(length) = u16::try_from(octets.len()) else { return };
        let framed = [length.to_be_bytes().as_slice(), &octets].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

async fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::zone::tests::ask;

    #[tokio::test]
    async fn udp_and_tcp_answer_on_one_port_and_a_long_answer_is_truncated_on_udp() {
        let mut zone = Zone::default();
        zone.add("long.test", "TXT", &"x".repeat(3000)).unwrap();
        let server = ZoneServer::start(zone).await.unwrap();
        let request = ask("long.test", RecordType::TXT).to_vec().unwrap();

        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        udp.send_to(&request, server.addr()).await.unwrap();
        let mut packet = [0; 4096];
        let length = udp.recv(&mut packet).await.unwrap();
        assert!(Message::from_vec(&packet[..length]).unwrap().metadata.truncation);

        let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
        let framed = [u16::try_from(request.len()).unwrap().to_be_bytes().as_slice(), &request].concat();
        tcp.write_all(&framed).await.unwrap();
        let answer = Message::from_vec(&read_packet(&mut tcp).await.unwrap()).unwrap();
        assert_eq!(answer.answers[0].data.to_string().len(), 3000);
        assert_eq!(server.query_count(), 2);

        server.replace(Zone::default());
        tcp.write_all(&framed).await.unwrap();
        let answer = Message::from_vec(&read_packet(&mut tcp).await.unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    }
}
