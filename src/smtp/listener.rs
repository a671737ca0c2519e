//! The listening sockets: accepts, spawns a task for each connection, and stops in order.
//!
//! Promises that no accept error and no panic of a connection ends the server, that a refused peer is never waited
//! for, and that on shutdown nobody new is taken, who comes is told so (or waits for the server after us, where the
//! socket is not ours), and messages on their way are finished within the grace period.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::config;
use crate::smtp::driver::{self, Busyness, Early, Shared};
use crate::smtp::proxy::{self, Network, Source};
use crate::smtp::session::{Settings, TlsPolicy};
use crate::smtp::spool::Budget;
use crate::smtp::throttle::{Place, Throttle};
use crate::smtp::tls::{Certificates, Reloaded};
use crate::smtp::{Handler, Reply, reply, room};

pub use crate::smtp::driver::Patience;
pub use crate::smtp::switch::{RoomSwitch, SettingsSwitch};

/// Bound sockets that do not accept yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<StdListener>,
    origin: Origin,
    certificates: Certificates,
    settings: SettingsSwitch,
    disks: Vec<PathBuf>,
    balancers: Vec<Network>,
    refused: Vec<Network>,
    max_connections: usize,
    max_connections_per_ip: usize,
    patience: Patience,
    room: RoomSwitch,
}

/// Whose the sockets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Somebody keeps them when we are gone.
    Lent,
    Ours,
}

/// The server cannot begin to listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", plainly(.source))]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// `proxy_protocol_from` or `refuse_from` holds what is no network.
    #[error("smtp.{key}: `{text}` is no network (examples: 192.0.2.0/24, 2001:db8::/32)")]
    Network {
        /// Which of them.
        key: &'static str,
        /// What it holds.
        text: String,
    },
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
            .map(|&address| listen(address).map_err(|source| BindError::Address { address, source }))
            .collect::<Result<_, _>>()?;
        Self::new(listeners, Origin::Ours, config, tls, certificates)
    }

    /// A server on sockets that listen already, handed over by the process before us or by a supervisor (socket
    /// activation): what connects during a restart waits in their queue, and nobody is refused (row X15).
    /// `config.listen` is not looked at.
    ///
    /// # Errors
    /// If `proxy_protocol_from` or `refuse_from` holds what is no network.
    pub fn on(
        listeners: Vec<StdListener>,
        config: &config::Smtp,
        tls: TlsPolicy,
        certificates: Certificates,
    ) -> Result<Self, BindError> {
        Self::new(listeners, Origin::Lent, config, tls, certificates)
    }

    fn new(
        listeners: Vec<StdListener>,
        origin: Origin,
        config: &config::Smtp,
        tls: TlsPolicy,
        certificates: Certificates,
    ) -> Result<Self, BindError> {
        let balancers = networks("proxy_protocol_from", &config.proxy_protocol_from)?;
        let refused = networks("refuse_from", &config.refuse_from)?;
        let patience = Patience::default();
        let settings = Settings {
            hostname: config.hostname.clone(),
            max_message_bytes: config.max_message_size,
            max_recipients: config.max_recipients,
            command_timeout: config.timeouts.command,
            data_timeout: config.timeouts.data,
            error_pause: patience.error_pause,
            stressed_timeout: patience.stressed,
            tls,
        };
        let (max_connections, max_connections_per_ip) =
            (config.max_connections, config.max_connections_per_ip);
        Ok(Self {
            listeners,
            origin,
            certificates,
            settings: SettingsSwitch::new(settings),
            disks: Vec::new(),
            balancers,
            refused,
            max_connections,
            max_connections_per_ip,
            patience,
            room: RoomSwitch::default(),
        })
    }

    /// The same, with other waiting times (tests).
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        let settings = Settings {
            error_pause: patience.error_pause,
            stressed_timeout: patience.stressed,
            ..Settings::clone(&self.settings.current())
        };
        let settings = SettingsSwitch::new(settings);
        Self { patience, settings, ..self }
    }

    /// The same, putting mail off while one of these folders has no room for two messages (at least 64 MiB).
    #[must_use]
    pub fn watching_disks(self, folders: Vec<PathBuf>) -> Self {
        Self { disks: folders, ..self }
    }

    /// The switch for the settings of sessions to come.
    #[must_use]
    pub fn settings_switch(&self) -> SettingsSwitch {
        self.settings.clone()
    }

    /// The switch for when the disk is nearly full.
    #[must_use]
    pub fn room_switch(&self) -> RoomSwitch {
        self.room.clone()
    }

    /// The addresses in use: a configured port 0 has become a real one.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Accepts and serves until `shutdown` is cancelled, then until the last session is over, at most
    /// [`Patience::grace`].
    pub async fn serve<H: Handler>(self, handler: Arc<H>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let (nearly_over, cut_off) = (CancellationToken::new(), CancellationToken::new());
        let seats = Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS)));
        let shared = Arc::new(Shared {
            busyness: Busyness { seats, max_connections: self.max_connections },
            budget: Arc::new(Budget::new(IN_FLIGHT_OCTETS, IN_MEMORY_OCTETS)),
            certificates: self.certificates.clone(),
            handler,
            patience: self.patience,
            refused: self.refused,
            room: self.room.clone(),
            settings: self.settings.clone(),
            shutdown: shutdown.clone(),
            nearly_over: nearly_over.clone(),
            throttle: Arc::new(Throttle::new(self.max_connections_per_ip)),
        });
        let (closed_doors, is_over) = (TaskTracker::new(), CancellationToken::new());
        let door = Door {
            shared,
            balancers: self.balancers.into(),
            origin: self.origin,
            tasks: tasks.clone(),
            cut_off: cut_off.clone(),
            closed_doors: closed_doors.clone(),
            is_over: is_over.clone(),
        };
        tasks.spawn(watch(self.certificates, shutdown.clone()));
        if !self.disks.is_empty() {
            tasks.spawn(room::watch(self.disks, self.settings, self.room, shutdown.clone()));
        }
        for listener in self.listeners {
            tasks.spawn(door.clone().accept_all(listener));
        }
        shutdown.cancelled().await;
        tasks.close();
        // Row X14: who is still asking then is put off while there is time to say so.
        let (most, rest) = (self.patience.grace * 4 / 5, self.patience.grace / 5);
        if tokio::time::timeout(most, tasks.wait()).await.is_err() {
            nearly_over.cancel();
        }
        if tokio::time::timeout(rest, tasks.wait()).await.is_err() {
            tracing::warn!(sessions = tasks.len(), "grace period over, cutting off the remaining sessions");
            cut_off.cancel();
            tasks.wait().await;
        }
        is_over.cancel();
        closed_doors.close();
        closed_doors.wait().await;
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
    /// Whose connections begin with a PROXY header.
    balancers: Arc<[Network]>,
    origin: Origin,
    tasks: TaskTracker,
    cut_off: CancellationToken,
    /// Those who turn away whoever comes while the server drains, and the end of it.
    closed_doors: TaskTracker,
    is_over: CancellationToken,
}

impl<H> Clone for Door<H> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            balancers: Arc::clone(&self.balancers),
            origin: self.origin,
            tasks: self.tasks.clone(),
            cut_off: self.cut_off.clone(),
            closed_doors: self.closed_doors.clone(),
            is_over: self.is_over.clone(),
        }
    }
}

impl<H: Handler> Door<H> {
    async fn accept_all(self, listener: StdListener) {
        let Ok(listener) = listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .inspect_err(|error| tracing::error!(%error, "the listening socket cannot be used"))
        else {
            return;
        };
        let mut reserve = Reserve::new();
        while let Some(accepted) = self.shared.shutdown.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.ip().to_canonical()),
                Err(error) => reserve.recover(&listener, &error).await,
            }
        }
        // Who waits in the queue of a socket that somebody keeps is for the server after us (row X15).
        if self.origin == Origin::Ours {
            self.closed_doors.spawn(turn_all_away(listener, reserve, self.is_over));
        }
    }

    fn admit(&self, stream: TcpStream, peer: IpAddr) {
        let Ok(seat) = Arc::clone(&self.shared.busyness.seats).try_acquire_owned() else {
            return turn_away(&stream, &reply::TOO_MANY_CONNECTIONS);
        };
        let comes_through = if self.balancers.iter().any(|network| network.contains(peer)) {
            // A balancer is never throttled itself: its clients are, once it has named them (row S6).
            Through::Balancer
        } else {
            match self.place(peer) {
                Some(place) => Through::Itself(place),
                None => return turn_away(&stream, &reply::TOO_MANY_CONNECTIONS),
            }
        };
        // Replies are small and go out in groups already.
        let _quick = stream.set_nodelay(true);
        let span = tracing::info_span!("smtp", session.id = %uuid::Uuid::now_v7());
        let (door, cut_off) = (self.clone(), self.cut_off.clone());
        let session = async move {
            tokio::select! {
                () = door.serve(stream, peer, comes_through) => {}
                () = cut_off.cancelled() => {}
            }
            drop(seat);
        };
        self.tasks.spawn(session.instrument(span));
    }

    async fn serve(self, mut stream: TcpStream, peer: IpAddr, comes_through: Through) {
        let shared = self.shared;
        match comes_through {
            Through::Balancer => {
                let patience = shared.patience.proxy_header;
                let Ok((source, behind)) = proxy::read_header(&mut stream, patience).await else {
                    metrics::counter!("syncmx_smtp_proxy_refused_total").increment(1);
                    return;
                };
                let early = if behind.is_empty() { Early::Silence } else { Early::Talk };
                let load = shared.busyness.load();
                let (ip, place) = match source {
                    Source::Client(ip) => (ip, shared.throttle.admit(ip, load, Instant::now())),
                    Source::Local => return driver::run(stream, peer, early, shared).await,
                };
                match place {
                    Some(_place) => driver::run(stream, ip, early, shared).await,
                    None => turn_away(&stream, &reply::TOO_MANY_CONNECTIONS),
                }
            }
            Through::Itself(_place) => driver::run(stream, peer, Early::Silence, shared).await,
        }
    }

    fn place(&self, ip: IpAddr) -> Option<Place> {
        self.shared.throttle.admit(ip, self.shared.busyness.load(), Instant::now())
    }
}

/// How a connection reaches us.
enum Through {
    Balancer,
    Itself(Place),
}

/// Row A2, while the server drains: until that is over, and then whoever is left in the queue.
async fn turn_all_away(listener: TcpListener, mut reserve: Reserve, is_over: CancellationToken) {
    while let Some(accepted) = is_over.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => turn_away(&stream, &reply::SHUTTING_DOWN),
            Err(error) => reserve.recover(&listener, &error).await,
        }
    }
    // It is still non-blocking: an empty queue is an error.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok((stream, _)) = listener.accept() else { return };
        turn_away(&stream, &reply::SHUTTING_DOWN);
    }
}

/// Says 421 and closes. The socket is fresh: one line fits its buffer, or the peer does without.
fn turn_away(stream: &impl AsFd, answer: &Reply) {
    metrics::counter!("syncmx_smtp_turned_away_total").increment(1);
    let line = format!("{}\r\n", answer.line());
    let _sent = SockRef::from(stream).send(line.as_bytes());
}

/// A descriptor kept back, so that a peer can be turned away when there is none left (row X9).
struct Reserve {
    kept: Option<File>,
    /// When a failed accept was last spoken of, and how many were not since.
    said: Option<Instant>,
    unsaid: u64,
}

/// What to do after a failed accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    /// One peer had gone before we took it, or could not be reached: the next one is another.
    Next,
    /// Out of memory, or what else the system has: the next one would fail as fast.
    Pause,
    /// Out of descriptors.
    TurnAway,
}

impl Afterwards {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::TurnAway,
            Some(
                Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::INTR
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NONET
                | Errno::NOPROTOOPT
                | Errno::PERM
                | Errno::PROTO
                | Errno::TIMEDOUT,
            ) => Self::Next,
            Some(_) | None => Self::Pause,
        }
    }
}

impl Reserve {
    fn new() -> Self {
        Self { kept: File::open("/dev/null").ok(), said: None, unsaid: 0 }
    }

    /// After a failed accept. Goes on in any case.
    async fn recover(&mut self, listener: &TcpListener, error: &io::Error) {
        metrics::counter!("syncmx_smtp_accept_errors_total").increment(1);
        if let Some(unsaid) = self.may_say(Instant::now()) {
            tracing::warn!(%error, unsaid, "accept failed");
        }
        match Afterwards::of(error) {
            Afterwards::Next => {}
            Afterwards::Pause => tokio::time::sleep(ACCEPT_PAUSE).await,
            Afterwards::TurnAway => self.turn_one_away(listener).await,
        }
    }

    /// Once a second; then, how many have gone unsaid.
    fn may_say(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < SAYING_PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    async fn turn_one_away(&mut self, listener: &TcpListener) {
        let had_one = self.kept.take().is_some();
        let waiting = tokio::time::timeout(ACCEPT_PAUSE, listener.accept());
        match waiting.await {
            Ok(Ok((stream, _))) if had_one => turn_away(&stream, &reply::TOO_MANY_CONNECTIONS),
            // Somebody else took the descriptor: the next round is not tried at once.
            Ok(Err(_)) => tokio::time::sleep(ACCEPT_PAUSE).await,
            Ok(Ok(_)) | Err(_) => {}
        }
        self.kept = File::open("/dev/null").ok();
    }
}

/// Takes up new certificate files without a signal.
async fn watch(certificates: Certificates, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(WATCH_PAUSE)).await.is_some() {
        match certificates.reload_if_changed() {
            Ok(Reloaded::Fresh) => tracing::info!("certificate reloaded"),
            Ok(Reloaded::Unchanged) => {}
            Err(error) => tracing::error!(%error, "new certificate refused, the old one stays in use"),
        }
    }
}

fn networks(key: &'static str, texts: &[String]) -> Result<Vec<Network>, BindError> {
    let network = |text: &String| Network::parse(text).ok_or(BindError::Network { key, text: text.clone() });
    texts.iter().map(network).collect()
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
/// Between two lines of the log about it.
const SAYING_PAUSE: Duration = Duration::from_secs(1);
const WATCH_PAUSE: Duration = Duration::from_secs(5);
/// Octets of message bodies on their way at once.
const IN_FLIGHT_OCTETS: u64 = 1 << 30;
/// What of it may be in memory before it is whole.
const IN_MEMORY_OCTETS: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x9_whatever_accept_fails_for_it_does_not_spin() {
        for (errno, afterwards) in [
            (Errno::MFILE, Afterwards::TurnAway),
            (Errno::NFILE, Afterwards::TurnAway),
            (Errno::CONNABORTED, Afterwards::Next),
            (Errno::PROTO, Afterwards::Next),
            (Errno::INTR, Afterwards::Next),
            (Errno::PERM, Afterwards::Next),
            (Errno::NOBUFS, Afterwards::Pause),
            (Errno::NOMEM, Afterwards::Pause),
            (Errno::INVAL, Afterwards::Pause),
        ] {
            assert_eq!(Afterwards::of(&errno.into()), afterwards, "{errno}");
        }
        assert_eq!(Afterwards::of(&io::Error::other("of no number")), Afterwards::Pause);
    }

    #[test]
    fn x9_failed_accepts_are_spoken_of_once_a_second() {
        let (mut reserve, now) = (Reserve::new(), Instant::now());
        let said: Vec<_> = (0..2500).map(|number| now + Duration::from_millis(number)).collect();
        let said: Vec<u64> = said.into_iter().filter_map(|now| reserve.may_say(now)).collect();
        assert_eq!(said, [0, 999, 999]);
    }
}
