//! The program under test: started, asked over SMTP and HTTP, killed.

#[path = "../support/postgres.rs"]
pub(crate) mod postgres;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use syncmx::cli::demo::mailer::{Answers, Mailer, Security};
use syncmx::cli::demo::practice;
use syncmx::zone::{Zone, ZoneServer};
use tempfile::TempDir;

use crate::api::Api;
use crate::mail::Sender;

/// A running server. Dropping it kills it; if the test is failing, its log is printed.
pub(crate) struct TestApp {
    pub(crate) api: Api,
    pub(crate) smtp: SocketAddr,
    pub(crate) zone: ZoneServer,
    folder: TempDir,
    child: Child,
    extras: Extras,
}

/// What a server is started with besides its configuration.
#[derive(Default)]
struct Extras {
    /// `NAME=value`.
    environment: Vec<String>,
    /// Kept by us, and handed over at each start.
    socket: Option<TcpListener>,
    /// Its log goes to a pipe that nobody reads.
    is_unheard: bool,
    /// Its key file, if it is not to make one.
    keys: Option<String>,
    /// Started without `--migrate`.
    is_migrated: bool,
}

impl TestApp {
    /// With the demo's zone.
    pub(crate) async fn start() -> Self {
        Self::start_with_zone(Zone::parse(practice::ZONE).unwrap()).await
    }

    pub(crate) async fn start_with_zone(zone: Zone) -> Self {
        Self::begin(zone, Extras::default()).await
    }

    /// With the demo's zone and settings of the environment, each `NAME=value`.
    pub(crate) async fn start_with(environment: &[&str]) -> Self {
        let environment = environment.iter().map(|setting| (*setting).to_owned()).collect();
        Self::begin(Zone::parse(practice::ZONE).unwrap(), Extras { environment, ..Extras::default() }).await
    }

    /// With the demo's zone, and everything logged to a pipe that nobody reads.
    pub(crate) async fn start_unheard() -> Self {
        let environment = vec!["SYNCMX_LOG__LEVEL=trace".to_owned()];
        let extras = Extras { environment, is_unheard: true, ..Extras::default() };
        Self::begin(Zone::parse(practice::ZONE).unwrap(), extras).await
    }

    /// With a zone and settings of the environment, each `NAME=value`.
    pub(crate) async fn start_in(zone: Zone, environment: &[&str]) -> Self {
        let environment = environment.iter().map(|setting| (*setting).to_owned()).collect();
        Self::begin(zone, Extras { environment, ..Extras::default() }).await
    }

    /// With the demo's zone, on an SMTP socket handed over as systemd does.
    pub(crate) async fn start_on(socket: TcpListener) -> Self {
        let extras = Extras { socket: Some(socket), ..Extras::default() };
        Self::begin(Zone::parse(practice::ZONE).unwrap(), extras).await
    }

    /// With the demo's zone and SQLite, on whichever engine the others run: for what is done to its file.
    pub(crate) async fn start_with_sqlite() -> Self {
        Self::start_on_database(None).await
    }

    /// With the demo's zone, on PostgreSQL or SQLite.
    pub(crate) async fn start_on_database(postgres: Option<String>) -> Self {
        let zone = Zone::parse(practice::ZONE).unwrap();
        Self::begin_on(zone, Extras::default(), postgres).await
    }

    /// With the demo's zone, on PostgreSQL that `syncmx migrate` has been run on.
    pub(crate) async fn start_on_migrated(postgres: String) -> Self {
        let extras = Extras { is_migrated: true, ..Extras::default() };
        Self::begin_on(Zone::parse(practice::ZONE).unwrap(), extras, Some(postgres)).await
    }

    /// Another copy with the demo's zone, with this key file, on PostgreSQL or SQLite.
    pub(crate) async fn start_copy(keys: String, postgres: Option<String>) -> Self {
        Self::start_copy_with(keys, postgres, &[]).await
    }

    /// The same with settings of the environment, each `NAME=value`.
    pub(crate) async fn start_copy_with(
        keys: String,
        postgres: Option<String>,
        environment: &[&str],
    ) -> Self {
        let environment = environment.iter().map(|setting| (*setting).to_owned()).collect();
        let extras = Extras { keys: Some(keys), environment, ..Extras::default() };
        Self::begin_on(Zone::parse(practice::ZONE).unwrap(), extras, postgres).await
    }

    async fn begin(zone: Zone, extras: Extras) -> Self {
        Self::begin_on(zone, extras, postgres::database_if_wanted().await).await
    }

    async fn begin_on(zone: Zone, extras: Extras, postgres: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let zone = ZoneServer::start(zone).await.unwrap();
        let config = write_config(folder.path(), zone.addr());
        if let Some(url) = postgres {
            let text = std::fs::read_to_string(&config).unwrap();
            let sqlite = format!("sqlite://{}/data/syncmx.db", folder.path().display());
            std::fs::write(&config, text.replace(&sqlite, &url)).unwrap();
        }
        if let Some(keys) = &extras.keys {
            std::fs::create_dir(folder.path().join("data")).unwrap();
            let path = folder.path().join("data/keys.toml");
            std::fs::write(&path, keys).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let (child, smtp, http) = launch(folder.path(), &extras).await;
        let api = Api::new(http, TOKEN);
        api.wait_until_ready().await;
        Self { api, smtp, zone, folder, child, extras }
    }

    /// kill -9, then the same folder again.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// After its end: the same folder, and the same socket if it was handed one.
    pub(crate) async fn start_again(&mut self) {
        let (child, smtp, http) = launch(self.folder.path(), &self.extras).await;
        (self.child, self.smtp, self.api) = (child, smtp, Api::new(http, TOKEN));
        self.api.wait_until_ready().await;
    }

    /// The same with other settings of the environment, each `NAME=value`.
    pub(crate) async fn start_again_with(&mut self, environment: &[&str]) {
        self.extras.environment = environment.iter().map(|setting| (*setting).to_owned()).collect();
        self.start_again().await;
    }

    /// SIGKILL: no destructor, no flush.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..1500 {
            tries.tick().await;
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
        }
        panic!("SIGTERM did not end it");
    }

    /// From the next start on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.extras.environment.retain(|setting| setting.split('=').next() != Some(name));
        self.extras.environment.push(format!("{name}={value}"));
    }

    /// The settings of the environment, each `NAME=value`.
    pub(crate) fn environment(&self) -> &[String] {
        &self.extras.environment
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(LOG)).unwrap()
    }

    pub(crate) async fn wait_for_log(&self, words: &str) {
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..1500 {
            tries.tick().await;
            if self.log().contains(words) {
                return;
            }
        }
        panic!("the log never says `{words}`:\n{}", self.log());
    }

    /// Holds the configuration, the log and the data folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) async fn connect(&self, sender: &Sender) -> Mailer {
        let security = Security::starttls().unwrap();
        Mailer::connect(self.smtp, sender.client, sender.helo, &security).await.unwrap()
    }

    /// One mail in one session with STARTTLS, signed as the sender does.
    pub(crate) async fn send(&self, sender: &Sender, rcpt: &str, raw: &[u8]) -> Answers {
        self.send_to_all(sender, &[rcpt], raw).await
    }

    pub(crate) async fn send_to_all(&self, sender: &Sender, recipients: &[&str], raw: &[u8]) -> Answers {
        let mut mailer = self.connect(sender).await;
        let recipients: Vec<String> = recipients.iter().map(|rcpt| (*rcpt).to_owned()).collect();
        let answers = mailer.send(sender.mail_from, &recipients, &sender.sign(raw)).await.unwrap();
        mailer.quit().await.unwrap();
        answers
    }

    /// Whether these octets stand anywhere in the data folder: database, its log, blobs.
    pub(crate) fn data_contains(&self, needle: &str) -> bool {
        files_below(self.folder.path())
            .iter()
            .any(|path| memchr::memmem::find(&std::fs::read(path).unwrap(), needle.as_bytes()).is_some())
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
            eprintln!("--- log of the server ---\n{log}");
        }
    }
}

/// The settings of every test server; `listen` with port 0 lets the system choose.
pub(crate) fn write_config(folder: &Path, dns: SocketAddr) -> PathBuf {
    let (shown, sealed) = (folder.display(), postgres::rows_are_sealed());
    let mut text = String::new();
    write!(
        text,
        "[smtp]\nlisten = [\"127.0.0.1:0\"]\nhostname = \"mx.example.test\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n\
         [dns]\nservers = [\"{dns}\"]\ntimeout = \"2s\"\n\
         [store]\nurl = \"sqlite://{shown}/data/syncmx.db\"\nblobs = \"file://{shown}/data/blobs\"\nseal_rows = {sealed}\n\
         [keys]\nfile = \"{shown}/data/keys.toml\"\n"
    )
    .unwrap();
    let path = folder.join("syncmx.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// `syncmx` with these arguments, and nothing of the surrounding environment that it reads.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncmx"));
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNCMX_")) {
        command.env_remove(name);
    }
    command
}

/// The same with a socket as systemd hands it over: descriptor 3, and the process that it is for named in the
/// environment.
fn program_on(socket: &TcpListener, arguments: &[&str]) -> Command {
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=smtp; exec \"$0\" \"$@\" 3<&0 </dev/null";
    let plain = program(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    command
}

/// The lines of a stream as they come, until `found` says stop. Reads on in the background, so that the program
/// never waits for us.
pub(crate) async fn first_line<T: Send + 'static>(
    stream: impl std::io::Read + Send + 'static,
    found: impl Fn(&str) -> Option<T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(value) = found(&line) {
                let _ = sender.send(value);
            }
        }
    });
    let wait = move || receiver.recv_timeout(START_TIMEOUT).ok();
    tokio::task::spawn_blocking(wait).await.unwrap()
}

async fn launch(folder: &Path, extras: &Extras) -> (Child, SocketAddr, SocketAddr) {
    let config = folder.join("syncmx.toml");
    let log = std::fs::File::options().create(true).append(true).open(folder.join(LOG)).unwrap();
    let mut arguments = vec!["serve", "--config", config.to_str().unwrap()];
    if !extras.is_migrated {
        arguments.push("--migrate");
    }
    let mut command = match &extras.socket {
        Some(socket) => program_on(socket, &arguments),
        None => program(&arguments),
    };
    let environment = extras.environment.iter().filter_map(|setting| setting.split_once('='));
    let mut child = command
        .env("SYNCMX_ADMIN_TOKEN", TOKEN)
        .envs(environment)
        .stdout(Stdio::piped())
        .stderr(if extras.is_unheard { Stdio::piped() } else { Stdio::from(log) })
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    match first_line(stdout, addresses).await {
        Some((smtp, http)) => (child, smtp, http),
        None => {
            let _ = child.kill();
            let status = child.wait().unwrap();
            let log = std::fs::read_to_string(folder.join(LOG)).unwrap_or_default();
            panic!("the server did not say that it is ready ({status}):\n{log}");
        }
    }
}

/// `syncmx ready smtp=127.0.0.1:PORT http=127.0.0.1:PORT`
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (smtp, http) = line.strip_prefix("syncmx ready smtp=")?.split_once(" http=")?;
    Some((smtp.parse().ok()?, http.parse().ok()?))
}

pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

/// The administrator's token of every test server.
pub(crate) const TOKEN: &str = "smx_test_administrator_of_the_end_to_end_tests_0123456789";
/// Debug builds on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const LOG: &str = "server.log";
