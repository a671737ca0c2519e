//! A PostgreSQL cluster of this test program alone: made at the first use in a temporary folder, reached by a socket
//! in it, with the server's default settings (fsync is on). It ends with the program, however that ends: the shell
//! that holds it waits for the other end of a pipe.

#![allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

pub(crate) struct Cluster {
    folder: PathBuf,
    /// Its standard input keeps the server running.
    shell: Child,
    databases: AtomicU32,
}

/// The cluster; none where PostgreSQL is not installed, which every caller says.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    installed()?;
    CLUSTER.get_or_init(Cluster::start).as_ref()
}

impl Cluster {
    /// One of the caller's own, to be mistreated; stopped when it is dropped.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, with `NAME=value` in its environment.
    pub(crate) fn start_with(environment: &[String]) -> Option<Self> {
        let programs = installed()?;
        let folder = tempfile::Builder::new().prefix("syncmx-pg-").tempdir().unwrap().keep();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        if is_root() {
            chown(&folder, Some(id_of("-u")), Some(id_of("-g"))).unwrap();
        }
        let shell = shell(&["-c", SCRIPT, "sh"])
            .arg(&programs)
            .arg(&folder)
            .current_dir(&folder)
            .envs(environment.iter().filter_map(|setting| setting.split_once('=')))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let cluster = Self { folder, shell, databases: AtomicU32::new(0) };
        cluster.wait();
        Some(cluster)
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.folder.join("ready").exists() {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `postgres://…` of a fresh, empty database.
    pub(crate) async fn database(&self) -> String {
        self.made_of("template0 ENCODING 'UTF8'").await
    }

    /// `postgres://…` of a copy of a database of ours, which nobody may be using.
    pub(crate) async fn copy_of(&self, url: &str) -> String {
        self.made_of(name_in(url)).await
    }

    async fn made_of(&self, template: &str) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run(format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        self.url(&name)
    }

    /// Whoever is still using it is thrown out.
    pub(crate) async fn drop_database(&self, url: &str) {
        self.run(format!("DROP DATABASE {} (FORCE)", name_in(url))).await;
    }

    async fn run(&self, text: String) {
        let mut connection = self.connect("postgres").await;
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Holds its socket.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let socket = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://syncmx@{socket}/{database}")
    }

    async fn connect(&self, database: &str) -> PgConnection {
        connect(&self.url(database)).await
    }

    /// Sends a signal to the server alone.
    pub(crate) fn signal_server(&self, signal: &str) {
        let server = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        let _ = Command::new("kill").args([&format!("-{signal}"), server.trim()]).status();
    }

    /// Sends a signal to the server and, if it is one that stops or continues, to its processes.
    pub(crate) fn signal(&self, signal: &str) {
        let server = std::fs::read_to_string(self.folder.join("pid")).unwrap().trim().to_owned();
        let mut script = format!("kill -{signal} {server}");
        if signal != "KILL" {
            script.push_str(&format!(
                "; for child in $(ps -o pid= --ppid {server}); do kill -{signal} $child; done"
            ));
        }
        // A process that is gone needs no signal.
        let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    }
}

/// A copy of a cluster that follows it, in a folder of the cluster's; it ends with its process, and that when this is
/// dropped.
pub(crate) struct Replica {
    folder: PathBuf,
    server: Child,
}

impl Cluster {
    /// From now on nothing is committed that the replica has not got on its disk.
    pub(crate) async fn replica(&self) -> Replica {
        let folder = self.folder.join("replica");
        let (programs, data) = (programs().unwrap(), folder.join("data"));
        let script =
            "mkdir -m 700 \"$2\" && \"$1/pg_basebackup\" -h \"$3\" -U syncmx -D \"$2/data\" -R -c fast";
        let mut copying = shell(&["-c", script, "sh"]);
        let made = copying.arg(&programs).arg(&folder).arg(&self.folder).current_dir("/").output().unwrap();
        assert!(made.status.success(), "no copy of the cluster: {}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(self.folder.join("replica.log")).unwrap();
        let script =
            "exec \"$1/postgres\" -D \"$2/data\" -k \"$2\" -c listen_addresses= -c max_connections=200";
        let mut server = shell(&["-c", script, "sh"]);
        let server = server.arg(&programs).arg(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        let server = server.stderr(log).spawn().unwrap();
        let replica = Replica { folder, server };
        let mut connection = self.connect("postgres").await;
        for setting in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            sqlx::query(setting).execute(&mut connection).await.unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let follows = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        while sqlx::query_scalar::<_, i64>(follows).fetch_one(&mut connection).await.unwrap() == 0 {
            assert!(Instant::now() < deadline, "the replica does not follow: {}", data.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        replica
    }
}

impl Replica {
    /// Holds its socket.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// It follows no more, and takes writes.
    pub(crate) fn promote(&self) {
        let script = "exec \"$1/pg_ctl\" -D \"$2/data\" promote -t 60";
        let promoted = shell(&["-c", script, "sh"])
            .arg(programs().unwrap())
            .arg(&self.folder)
            .stdout(Stdio::null())
            .status();
        assert!(promoted.unwrap().success(), "the replica cannot be promoted");
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.server.wait();
    }
}

impl Drop for Cluster {
    /// The folder goes when the shell is done.
    fn drop(&mut self) {
        self.signal("CONT");
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A fresh database, where the tests are to run on PostgreSQL (`SYNCMX_TEST_ENGINE=postgres`).
pub(crate) async fn database_if_wanted() -> Option<String> {
    if is_wanted() { Some(cluster()?.database().await) } else { None }
}

pub(crate) fn is_wanted() -> bool {
    std::env::var("SYNCMX_TEST_ENGINE").is_ok_and(|engine| engine == "postgres")
}

/// Whether the tests are to run with sealed rows (`SYNCMX_TEST_SEAL_ROWS=1`).
#[allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]
pub(crate) fn rows_are_sealed() -> bool {
    std::env::var("SYNCMX_TEST_SEAL_ROWS").is_ok_and(|sealed| sealed == "1")
}

/// Whether a test has to be left out, with a line that says why.
#[allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]
pub(crate) fn skips(is_left_out: bool, why: &str) -> bool {
    if is_left_out {
        println!("skipped: {why}");
    }
    is_left_out
}

/// Of the database in a URL of ours.
pub(crate) fn name_in(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    try_connect(url).await.unwrap()
}

pub(crate) async fn try_connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    options.connect().await
}

/// A shell with these arguments; the server refuses to run as root.
fn shell(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    if is_root() {
        command = Command::new("setpriv");
        let (uid, gid) = (id_of("-u"), id_of("-g"));
        command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "sh"]);
    }
    command.args(arguments);
    command
}

/// The programs; where there are none, the test is left out with a line that says why, unless it is to run on them.
fn installed() -> Option<PathBuf> {
    let programs = programs();
    if programs.is_none() {
        assert!(!is_wanted(), "SYNCMX_TEST_ENGINE=postgres, and PostgreSQL is not installed");
        println!("skipped: PostgreSQL is not installed");
    }
    programs
}

/// The folder of `initdb` and `postgres`, the newest first where there are several.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().rev().find(|folder| is_there(folder))
}

fn is_there(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_basebackup", "pg_ctl"].iter().all(|program| folder.join(program).exists())
}

fn is_root() -> bool {
    id(&["-u"]) == Some(0)
}

/// Of the system user that the package makes.
#[track_caller]
fn id_of(which: &str) -> u32 {
    id(&[which, "postgres"]).unwrap()
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// `$1` the programs, `$2` the folder. The server is started again when it dies; it is ours to stop, at once (its last
/// checkpoint is for nobody), and with it goes the folder.
const SCRIPT: &str = r#"
set -eu
exec 3<&0 </dev/null
"$1/initdb" --no-sync -A trust -U syncmx -E UTF8 --locale=C "$2/data" >"$2/log" 2>&1
(
    trap 'kill -QUIT $server; wait $server || :; exit 0' TERM
    while :; do
        "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=200 >>"$2/log" 2>&1 3<&- &
        server=$!
        echo $server >"$2/pid"
        wait $server || :
        sleep 1 & wait $!
    done
) 3<&- &
keeper=$!
trap 'kill $keeper; wait $keeper || :; cd /; rm -rf "$2"' EXIT
trap 'exit 1' TERM INT HUP
until grep -q 'ready to accept connections' "$2/log"; do sleep 0.05; kill -0 $keeper; done
touch "$2/ready"
cat <&3 >/dev/null
"#;
