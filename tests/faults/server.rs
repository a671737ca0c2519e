//! The program under test with what a fault needs: an environment, a namespace, a log of its own. Dropping it kills it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use syncmx::cli::demo::practice;
use syncmx::zone::{Zone, ZoneServer};
use tempfile::TempDir;

use crate::api::Api;
use crate::app::{TOKEN, first_line, program, write_config};

/// How it is started, each time.
#[derive(Default)]
pub(crate) struct Setup {
    /// `NAME=value`.
    pub(crate) environment: Vec<String>,
    /// A program that becomes this one, such as `nsenter …`.
    pub(crate) prefix: Vec<String>,
    /// In place of `server.log` in the folder.
    pub(crate) log: Option<PathBuf>,
}

pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) smtp: SocketAddr,
    /// From the start of the process to the first 200 of `/readyz`.
    pub(crate) ready_after: Duration,
    _zone: ZoneServer,
    folder: TempDir,
    child: Child,
    setup: Setup,
}

/// A start that failed.
pub(crate) struct NotStarted {
    pub(crate) folder: TempDir,
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), setup).await
    }

    /// The data goes to `data` below the folder.
    pub(crate) async fn start_in(folder: TempDir, setup: Setup) -> Self {
        Self::try_start_in(folder, setup).await.map_err(|failed| failed.said).unwrap()
    }

    /// The same, where it may not come up.
    pub(crate) async fn try_start_in(folder: TempDir, setup: Setup) -> Result<Self, NotStarted> {
        let zone = ZoneServer::start(Zone::parse(practice::ZONE).unwrap()).await.unwrap();
        write_config(folder.path(), zone.addr());
        let began = Instant::now();
        let (mut child, smtp, http) = match launch(folder.path(), &setup).await {
            Ok(started) => started,
            Err((status, said)) => return Err(NotStarted { folder, status, said }),
        };
        let api = patient(Api::new(http, TOKEN));
        // The fault that is armed may come between the ports and the first answer.
        tokio::select! {
            () = api.wait_until_ready() => {}
            status = ended(&mut child) => return Err(NotStarted { folder, status, said: String::new() }),
        }
        Ok(Self { api, smtp, ready_after: began.elapsed(), _zone: zone, folder, child, setup })
    }

    /// Kills it, and keeps what it has on disk.
    pub(crate) fn into_folder(mut self) -> TempDir {
        self.kill();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// SIGKILL: no destructor, no flush.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// After its end.
    pub(crate) async fn start_again(&mut self) {
        let began = Instant::now();
        let launched = launch(self.folder.path(), &self.setup).await;
        let (child, smtp, http) = launched.map_err(|(status, said)| format!("{status}: {said}")).unwrap();
        (self.child, self.smtp, self.api) = (child, smtp, patient(Api::new(http, TOKEN)));
        self.api.wait_until_ready().await;
        self.ready_after = began.elapsed();
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until the log has said this so many times.
    pub(crate) async fn will_say(&self, words: &str, times: usize) {
        for _ in 0..3000 {
            if self.log().matches(words).count() >= times {
                return;
            }
            assert!(!self.log().is_empty(), "there is no log");
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        panic!("the log has not said `{words}` {times} times:\n{}", self.log());
    }

    fn log_path(&self) -> PathBuf {
        self.setup.log.clone().unwrap_or_else(|| self.folder.path().join(LOG))
    }

    /// `syncmx check --blobs`: every stored message is opened. The messages that are damaged.
    pub(crate) fn damaged(&self) -> Vec<String> {
        red(self.folder.path(), &self.setup.environment)
    }
}

/// What `syncmx check --blobs` says is wrong with the store in a folder.
pub(crate) fn red(folder: &Path, environment: &[String]) -> Vec<String> {
    let config = folder.join("syncmx.toml");
    let mut command = program(&["check", "--json", "--blobs", "--config", config.to_str().unwrap()]);
    let environment = environment.iter().filter_map(|setting| setting.split_once('='));
    // Nobody answers on port 1: only the store is looked at.
    let quiet = [("SYNCMX_DNS__SERVERS", "[\"127.0.0.1:1\"]"), ("SYNCMX_DNS__TIMEOUT", "100ms")];
    let unfaulted = environment.filter(|(name, _)| *name != "LD_PRELOAD");
    let output = command.envs(unfaulted).envs(quiet).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_store = |line: &&serde_json::Value| line["check"] == "content" || line["check"] == "database";
    assert!(lines.iter().any(|line| line["check"] == "content"), "nothing was checked: {said}");
    lines.iter().filter(of_store).filter(|line| line["state"] == "red").map(ToString::to_string).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" INFO ")).collect();
            let last = lines.len().saturating_sub(40);
            eprintln!("--- end of the server's log, without INFO ---\n{}", lines[last..].join("\n"));
        }
    }
}

type Launched = Result<(Child, SocketAddr, SocketAddr), (ExitStatus, String)>;

async fn ended(child: &mut Child) -> ExitStatus {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn launch(folder: &Path, setup: &Setup) -> Launched {
    let config = folder.join("syncmx.toml");
    let log_path = setup.log.clone().unwrap_or_else(|| folder.join(LOG));
    let log = std::fs::File::options().create(true).append(true).open(&log_path).unwrap();
    let plain = program(&["serve", "--migrate", "--config", config.to_str().unwrap()]);
    let mut command = match setup.prefix.split_first() {
        None => plain,
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
            command
        }
    };
    let environment = setup.environment.iter().filter_map(|setting| setting.split_once('='));
    command.env("SYNCMX_ADMIN_TOKEN", TOKEN).envs(environment);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::from(log)).spawn().unwrap();
    match first_line(child.stdout.take().unwrap(), addresses).await {
        Some((smtp, http)) => Ok((child, smtp, http)),
        None => {
            let _ = child.kill();
            let status = child.wait().unwrap();
            let log = std::fs::read_to_string(log_path).unwrap_or_default();
            Err((status, log))
        }
    }
}

/// `syncmx ready smtp=127.0.0.1:PORT http=127.0.0.1:PORT`
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (smtp, http) = line.strip_prefix("syncmx ready smtp=")?.split_once(" http=")?;
    Some((smtp.parse().ok()?, http.parse().ok()?))
}

const LOG: &str = "server.log";

/// A store that was in trouble a moment ago may say 503 once more: come again.
fn patient(mut api: Api) -> Api {
    api.passing = &[StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    api
}
