//! `syncmx serve`: builds the parts, runs them, shuts them down in order.
//!
//! Order of the end: stop accepting → 421 at safe points → open messages finish → calls to webhooks finish → the
//! store's writer is flushed → the pool closes. A second signal does not hurry it; the grace period does.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::address::ServedDomains;
use crate::auth::Authenticator;
use crate::cli::{Failure, one_line};
use crate::config::{Config, ConfigError, StoreUrl};
use crate::housekeeping;
use crate::http::{self, AppState};
use crate::indexing;
use crate::inherited::Inherited;
use crate::intake::Intake;
use crate::keys::Keys;
use crate::mta_sts::Policy;
use crate::outbox;
use crate::outbox::relay::Relay;
use crate::reload::{self, InUse};
use crate::smtp::listener::Server;
use crate::smtp::session::TlsPolicy;
use crate::smtp::tls::Certificates;
use crate::store::examine::Schema;
use crate::store::{Relays, Store, StoreError};

/// A running server.
pub struct App {
    /// The bound SMTP addresses.
    pub smtp: Vec<SocketAddr>,
    /// The bound HTTP address.
    pub http: SocketAddr,
    shutdown: CancellationToken,
    http_shutdown: CancellationToken,
    certificates: Certificates,
    in_use: InUse,
    keys: Arc<Keys>,
    smtp_task: JoinHandle<()>,
    http_task: JoinHandle<std::io::Result<()>>,
    outbox: outbox::Worker,
    relay_task: Option<JoinHandle<()>>,
    housekeeping: JoinHandle<()>,
    store: Store,
}

impl App {
    /// Opens the store, binds every port, and starts to serve.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] with one line if store, port, certificate or resolver cannot be used.
    pub async fn start(config: &Config, admin_token: Option<&str>) -> Result<Self, Failure> {
        let served = served_domains(config);
        let (keys, store) = open_store(config).await?;
        write_admin_token(&store, config.data_folder(), admin_token).await?;
        // R60: what a crash has left there. Before there is mail to wait for it; what holds it up is tried again.
        store.clear_log().await;
        let relay = relay(config, &store, &keys)?;
        let authenticator = Authenticator::new(&config.dns, &config.smtp.hostname)
            .map_err(|error| Failure::unreachable(&error))?;
        let certificates = Certificates::load(&config.tls, config.data_folder(), &config.smtp.hostname)
            .map_err(|error| Failure::Usage(format!("tls: {}", one_line(&error))))?;
        let inherited = Inherited::take()
            .map_err(|error| Failure::Unreachable(format!("cannot use the sockets handed over: {error}")))?;
        let server = smtp_server(config, inherited.smtp, &certificates)?;
        let in_use = InUse::new(config.clone(), server.settings_switch());
        let listener = http_listener(config, inherited.http).await.map_err(|error| {
            Failure::Unreachable(format!("cannot listen on {}: {error}", config.http.listen))
        })?;
        let http = listener.local_addr().map_err(|error| Failure::unreachable(&error))?;
        let smtp = server.local_addrs();
        let (shutdown, http_shutdown) = (CancellationToken::new(), CancellationToken::new());
        let state = AppState {
            store: store.clone(),
            keys: keys.clone(),
            served: served.clone(),
            metrics: metrics_handle(),
            draining: shutdown.clone(),
            public_url: config.http.public_url.clone(),
            mta_sts: Policy::of(config),
        };
        let intake = Intake::new(store.clone(), authenticator, served, config.smtp.hostname.clone())
            .scanning(config.scan.as_ref().map(|scan| scan.clamd));
        let smtp_task = tokio::spawn(server.serve(Arc::new(intake), shutdown.clone()));
        let http_task = tokio::spawn(http::serve(listener, state, http_shutdown.clone()));
        let outbox = start_outbox(config, &store).await?;
        let relay_task = relay.map(|relay| tokio::spawn(relay.run(shutdown.clone())));
        let housekeeping = tokio::spawn(housekeeping::run(store.clone(), shutdown.clone()));
        tokio::spawn(housekeeping::run_purges(store.clone(), shutdown.clone()));
        tokio::spawn(housekeeping::run_rotations(store.clone(), shutdown.clone()));
        tokio::spawn(indexing::run(store.clone(), shutdown.clone()));
        let key_file = config.keys.file.clone();
        tokio::spawn(reload::watch_keys(key_file, keys.clone(), store.clone(), shutdown.clone()));
        Ok(Self {
            smtp,
            http,
            shutdown,
            http_shutdown,
            certificates,
            in_use,
            keys,
            smtp_task,
            http_task,
            outbox,
            relay_task,
            housekeeping,
            store,
        })
    }

    /// Tells whoever started us where we listen, in one line on standard output.
    pub fn announce(&self) {
        let smtp = self.smtp.first().map(SocketAddr::to_string).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        // Nobody reading the line is no reason to stop.
        let _unread = writeln!(out, "syncmx ready smtp={smtp} http={}", self.http).and_then(|()| out.flush());
        info!(smtp, http = %self.http, "server.ready");
    }

    /// Runs until SIGTERM or SIGINT, then drains. SIGHUP reloads the certificates, and the configuration by `reread`.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn run(mut self, reread: impl Fn() -> Result<Config, ConfigError>) -> Result<(), Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::unreachable(&error));
        let (mut terminate, mut interrupt, mut hangup) = (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
            listen(SignalKind::hangup())?,
        );
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload(reread()),
            }
        }
        self.stop().await;
        Ok(())
    }

    fn reload(&mut self, read: Result<Config, ConfigError>) {
        self.in_use.take_up(read);
        reload::take_up_keys(self.in_use.key_file(), &self.keys);
        if self.in_use.has_master_source() {
            reload::ask_for_master_keys(&self.keys);
        }
        match self.certificates.reload() {
            Ok(()) => info!("tls.certificates_reloaded"),
            Err(error) => error!(error = &error as &dyn std::error::Error, "tls.certificates_kept"),
        }
    }

    /// Drains and stops.
    pub async fn stop(self) {
        info!("server.draining");
        self.shutdown.cancel();
        let ends = Instant::now() + STOP_LIMIT;
        // Its grace period is shorter than ours.
        finish_smtp(self.smtp_task, ends - CLOSE_LIMIT).await;
        // Until now /readyz has said 503, which is how a load balancer learns of it.
        self.http_shutdown.cancel();
        finish_http(self.http_task, ends - CLOSE_LIMIT).await;
        finish_outbox(self.outbox, ends - CLOSE_LIMIT).await;
        finish_tasks([self.relay_task, Some(self.housekeeping)], ends - CLOSE_LIMIT).await;
        close_store(&self.store, ends).await;
        info!("server.stopped");
    }
}

/// From SIGTERM to the end, whatever hangs (row X14: 30 seconds).
const STOP_LIMIT: Duration = Duration::from_secs(27);
/// What of it is kept for the writer's last batch.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The relay, if one is configured.
fn relay(config: &Config, store: &Store, keys: &Arc<Keys>) -> Result<Option<Relay>, Failure> {
    let Some(settings) = config.relay.clone() else { return Ok(None) };
    let served = served_domains(config);
    let (hostname, public_url) = (config.smtp.hostname.clone(), config.http.public_url.clone());
    Relay::new(store.clone(), keys.clone(), settings, served.reply_domain(), hostname, public_url)
        .map(Some)
        .map_err(|error| Failure::Usage(format!("relay.dkim_key: {}", one_line(&error))))
}

/// Lets the relay finish what it is sending: what it is cut off from goes out again after the next start, with the same
/// Message-ID. Lets the housekeeping report what it has ended (R61).
async fn finish_tasks(tasks: [Option<JoinHandle<()>>; 2], ends: Instant) {
    for mut task in tasks.into_iter().flatten() {
        if timeout_at(ends, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// The domains of the configuration.
#[must_use]
pub fn served_domains(config: &Config) -> ServedDomains {
    ServedDomains::new(config.domains.sync.clone(), config.domains.reply.clone())
}

async fn close_store(store: &Store, ends: Instant) {
    if timeout_at(ends, store.close()).await.is_err() {
        // What was not committed was not answered 250.
        warn!("the store is too slow to be closed in order");
    }
}

async fn finish_smtp(task: JoinHandle<()>, ends: Instant) {
    match timeout_at(ends, task).await {
        Ok(ended) => complain_of(ended.err(), "smtp"),
        Err(_) => warn!("SMTP sessions cut off"),
    }
}

async fn finish_http(task: JoinHandle<std::io::Result<()>>, ends: Instant) {
    match timeout_at(ends, task).await {
        Ok(Ok(served)) => complain_of(served.err(), "http"),
        Ok(Err(failed)) => complain_of(Some(failed), "http"),
        Err(_) => warn!("HTTP requests cut off"),
    }
}

async fn finish_outbox(outbox: outbox::Worker, ends: Instant) {
    if timeout_at(ends, outbox.stop()).await.is_err() {
        // What was not settled is sent again after the next start.
        warn!("calls to webhooks cut off");
    }
}

fn complain_of<E: std::error::Error + 'static>(failure: Option<E>, part: &'static str) {
    if let Some(error) = failure {
        error!(error = &error as &dyn std::error::Error, part, "server.part_failed");
    }
}

/// On the sockets handed over, or else on those of the configuration.
fn smtp_server(
    config: &Config,
    inherited: Vec<std::net::TcpListener>,
    certificates: &Certificates,
) -> Result<Server, Failure> {
    let tls = TlsPolicy::from(&config.tls);
    let server = if inherited.is_empty() {
        Server::bind(&config.smtp, tls, certificates.clone())
    } else {
        Server::on(inherited, &config.smtp, tls, certificates.clone())
    };
    Ok(server.map_err(|error| Failure::unreachable(&error))?.watching_disks(config.mail_folders()))
}

/// SQLite has one serving process: what another one was about to send, it will not send any more. Of a PostgreSQL
/// database other nodes may hold leases; those of a dead one end by themselves.
async fn start_outbox(config: &Config, store: &Store) -> Result<outbox::Worker, Failure> {
    match &config.store.url {
        StoreUrl::Postgres(_) => {}
        StoreUrl::Sqlite(_) => store.end_leases().await.map_err(|error| Failure::unreachable(&error))?,
    }
    outbox::Worker::start(config, store).map_err(|error| Failure::unreachable(&error))
}

async fn http_listener(
    config: &Config,
    inherited: Option<std::net::TcpListener>,
) -> std::io::Result<TcpListener> {
    match inherited {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        }
        None => TcpListener::bind(config.http.listen).await,
    }
}

/// Opens key file and store, as every command does that needs them.
///
/// # Errors
/// [`Failure::Unreachable`] with one line.
pub async fn open_store(config: &Config) -> Result<(Arc<Keys>, Store), Failure> {
    let keys = open_keys(config).await?;
    let relays = if config.relay.is_some() { Relays::Yes } else { Relays::No };
    let store = Store::open_with(&config.store, Arc::clone(&keys), served_domains(config), relays)
        .await
        .map_err(|error| Failure::unreachable(&error))?;
    Ok((keys, store))
}

/// Opens what is left of a damaged store, to be read.
///
/// # Errors
/// [`Failure::Unreachable`] with one line.
pub async fn open_torn_store(config: &Config) -> Result<Store, Failure> {
    let keys = open_keys(config).await?;
    let store = Store::open_torn(&config.store, keys, served_domains(config)).await;
    store.map_err(|error| Failure::unreachable(&error))
}

async fn open_keys(config: &Config) -> Result<Arc<Keys>, Failure> {
    // Fresh keys would not fit, and would look as if they did.
    let has_keys = config.keys.file.exists();
    let has_accounts = || async {
        let found = Schema::has_accounts(&config.store).await;
        found.unwrap_or_else(|error| matches!(error, StoreError::Corrupt { .. }))
    };
    if !has_keys && has_accounts().await {
        let file = config.keys.file.display();
        return Err(Failure::Unreachable(format!(
            "key file {file} is missing, and there is a store that was sealed with its keys: put it back from its backup"
        )));
    }
    let keys = Keys::open(&config.keys).map_err(|error| Failure::unreachable(&error))?;
    Ok(Arc::new(keys))
}

/// The first administrator's token: given, or made and written to `admin-token` in the data folder, mode 0600.
async fn write_admin_token(store: &Store, folder: &Path, given: Option<&str>) -> Result<(), Failure> {
    let made = store.ensure_admin_token(given).await.map_err(|error| Failure::unreachable(&error))?;
    let Some(token) = made.filter(|_| given.is_none()) else { return Ok(()) };
    let path = folder.join("admin-token");
    write_private(&path, &token)
        .map_err(|error| Failure::Unreachable(format!("cannot write {}: {error}", path.display())))?;
    info!(path = %path.display(), "admin_token.written");
    Ok(())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // A file that was there keeps its mode otherwise.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

/// The recorder of this process; a second one (tests, demo) shares nothing and shows nothing.
#[must_use]
pub fn metrics_handle() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // Only the first recorder of a process can be global.
    let _second = metrics::set_global_recorder(recorder);
    handle
}
