//! The listening sockets: accepts, spawns a task for each connection, and stops in order.
//!
//! Promises that no accept error and no panic of a connection ends the server, that a refused peer is never waited
//! for, and that on shutdown nobody new is taken while messages on their way are finished within the grace period.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::config;
use crate::smtp::driver::{self, Shared};
use crate::smtp::session::{Settings, TlsPolicy};
use crate::smtp::spool::Budget;
use crate::smtp::tls::Certificates;
use crate::smtp::{Handler, reply};

pub use crate::smtp::driver::Patience;

/// Bound sockets that do not accept yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<StdListener>,
    certificates: Certificates,
    settings: Settings,
    max_connections: usize,
    patience: Patience,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", plainly(.source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl Server {
    /// Binds every configured address.
    ///
    /// # Errors
    /// Names the first address that cannot be bound.
    pub fn bind(
        config: &config::Smtp,
        tls: TlsPolicy,
        certificates: Certificates,
    ) -> Result<Self, BindError> {
        let listeners = config
            .listen
            .iter()
            .map(|&address| listen(address).map_err(|source| BindError { address, source }))
            .collect::<Result<_, _>>()?;
        let settings = Settings {
            hostname: config.hostname.clone(),
            max_message_bytes: config.max_message_size,
            max_recipients: config.max_recipients,
            command_timeout: config.timeouts.command,
            data_timeout: config.timeouts.data,
            tls,
        };
        let patience = Patience::default();
        Ok(Self { listeners, certificates, settings, max_connections: config.max_connections, patience })
    }

    /// The same, with other waiting times (tests).
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The addresses in use: a configured port 0 has become a real one.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Accepts and serves until `shutdown` is cancelled, then until the last session is over, at most 30 seconds.
    pub async fn serve<H: Handler>(self, handler: Arc<H>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let cut_off = CancellationToken::new();
        let shared = Arc::new(Shared {
            budget: Arc::new(Budget::new(IN_FLIGHT_OCTETS)),
            certificates: self.certificates,
            handler,
            patience: self.patience,
            settings: Arc::new(self.settings),
            shutdown: shutdown.clone(),
        });
        let door = Door {
            shared,
            seats: Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS))),
            tasks: tasks.clone(),
            cut_off: cut_off.clone(),
        };
        for listener in self.listeners {
            tasks.spawn(door.clone().accept_all(listener));
        }
        shutdown.cancelled().await;
        tasks.close();
        if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
            tracing::warn!(sessions = tasks.len(), "grace period over, cutting off the remaining sessions");
            cut_off.cancel();
            tasks.wait().await;
        }
    }
}

impl From<&config::Tls> for TlsPolicy {
    fn from(tls: &config::Tls) -> Self {
        if tls.require { Self::Required } else { Self::Offered }
    }
}

/// What an accept loop needs.
struct Door<H> {
    shared: Arc<Shared<H>>,
    seats: Arc<Semaphore>,
    tasks: TaskTracker,
    cut_off: CancellationToken,
}

impl<H> Clone for Door<H> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            seats: Arc::clone(&self.seats),
            tasks: self.tasks.clone(),
            cut_off: self.cut_off.clone(),
        }
    }
}

impl<H: Handler> Door<H> {
    async fn accept_all(self, listener: StdListener) {
        let Ok(listener) = TcpListener::from_std(listener)
            .inspect_err(|error| tracing::error!(%error, "the listening socket cannot be used"))
        else {
            return;
        };
        while let Some(accepted) = self.shared.shutdown.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => pause_after(&error).await,
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() else {
            metrics::counter!("syncmx_smtp_turned_away_total").increment(1);
            // The socket is fresh: one line fits its buffer, or the peer does without.
            let _sent = stream.try_write(format!("{}\r\n", reply::TOO_MANY_CONNECTIONS.line()).as_bytes());
            return;
        };
        // Replies are small and go out in groups already.
        let _quick = stream.set_nodelay(true);
        let span = tracing::info_span!("smtp", session.id = %uuid::Uuid::now_v7());
        let (shared, cut_off) = (Arc::clone(&self.shared), self.cut_off.clone());
        let session = async move {
            tokio::select! {
                () = driver::run(stream, peer.ip().to_canonical(), shared) => {}
                () = cut_off.cancelled() => {}
            }
            drop(seat);
        };
        self.tasks.spawn(session.instrument(span));
    }
}

/// Out of descriptors, or a peer that was gone before we took it: wait a little, go on.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "accept failed");
    metrics::counter!("syncmx_smtp_accept_errors_total").increment(1);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn plainly(error: &io::Error) -> String {
    let plain = [
        (io::ErrorKind::AddrInUse, "address already in use"),
        (io::ErrorKind::AddrNotAvailable, "no such address on this machine"),
        (io::ErrorKind::PermissionDenied, "permission denied (ports below 1024 need a privilege)"),
    ];
    let found = plain.iter().find(|(kind, _)| *kind == error.kind());
    found.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 1024;
const GRACE: Duration = Duration::from_secs(30);
/// Octets of message bodies on their way at once.
const IN_FLIGHT_OCTETS: u64 = 1 << 30;
