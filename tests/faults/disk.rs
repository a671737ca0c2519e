//! X4: full disks, on a small tmpfs in a mount namespace of its own; and a database that another process keeps locked.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use crate::kill::MANY;
use crate::ledger::{Client, End, Practices, Sent, Settled, counted, longest};
use crate::server::{Server, Setup};
use crate::table::{report, scaled, seconds};

/// A tmpfs that only those see who enter the namespace; it ends with the process that holds it.
struct SmallDisk {
    holder: Child,
    /// As the server sees it.
    at: PathBuf,
}

impl SmallDisk {
    /// None, with a printed line, where we may not mount.
    async fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let script =
            "mount -t tmpfs -o size=$1m,mode=700 tmpfs \"$2\" && touch \"$2/.there\" && exec sleep 3600";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh", &mebibytes.to_string()]).arg(at);
        let holder = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(holder) = holder else {
            println!("skipped: unshare is not installed");
            return None;
        };
        let mut disk = Self { holder, at: at.to_owned() };
        for _ in 0..500 {
            if disk.path(".there").exists() {
                return Some(disk);
            }
            if disk.holder.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("skipped: a tmpfs cannot be mounted here");
        None
    }

    /// A file on it, as we see it.
    fn path(&self, name: &str) -> PathBuf {
        let at = self.at.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(at).join(name)
    }

    fn prefix(&self) -> Vec<String> {
        ["nsenter", "-t", &self.holder.id().to_string(), "-m"].map(str::to_owned).to_vec()
    }

    /// Until not an octet goes on it any more.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path("filler")).unwrap();
        let mut block = vec![0; 1 << 20];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path("filler")).unwrap();
    }

    /// Makes it smaller, if what is on it still fits, or larger.
    fn resize(&self, mebibytes: u32) {
        let options = format!("remount,size={mebibytes}m");
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m", "mount", "-o", &options]);
        assert!(command.arg(&self.at).status().unwrap().success(), "the disk is not {mebibytes} MiB");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What lies on the small disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Small {
    Blobs,
    Database,
    DatabaseAlone,
    Log,
    Spool,
}

async fn small_disk(small: Small, mebibytes: u32) -> Option<(Server, SmallDisk)> {
    let folder = TempDir::new().unwrap();
    let at = match small {
        Small::Blobs => folder.path().join("data/blobs"),
        Small::Database => folder.path().join("data"),
        Small::DatabaseAlone => folder.path().join("rows"),
        Small::Log => folder.path().join("log"),
        Small::Spool => folder.path().join("tmp"),
    };
    let disk = SmallDisk::mount(&at, mebibytes).await?;
    let mut environment = vec![MANY.to_owned()];
    if small == Small::Spool {
        environment.push(format!("TMPDIR={}", at.display()));
    }
    if small == Small::DatabaseAlone {
        environment.push(format!("SYNCMX_STORE__URL=sqlite://{}/syncmx.db", at.display()));
    }
    let log = (small == Small::Log).then(|| disk.path("server.log"));
    let setup = Setup { environment, prefix: disk.prefix(), log };
    Some((Server::start_in(folder, setup).await, disk))
}

/// 64 MiB, and full between two looks of the server, so that it meets the shortage while writing; then known to be full;
/// then free.
async fn fills(small: Small, name: &str) {
    // What it wants free for itself is 72 MiB, and the log of the database takes 32: of 64 it would use nothing.
    let large = scaled(400, 160);
    let Some((mut server, disk)) = small_disk(small, large).await else { return };
    let mut practices = Practices::open(&server.api).await;
    practices.begin_round("full").await;
    let shared = Arc::new(practices);
    let load = shared.load(server.smtp, scaled(50, 12));
    tokio::time::sleep(Duration::from_millis(scaled(300, 1000))).await;
    disk.resize(SMALL_MEBIBYTES);
    disk.fill();
    // Two looks.
    tokio::time::sleep(Duration::from_secs(scaled(20, 7))).await;
    let at_mail = Client::new(server.smtp).send(shared.mail_of(5 << 10)).await;
    disk.free();
    // Room for all that was put off.
    disk.resize(scaled(4000, large));
    let mut sent = load.stop().await;
    assert!(server.is_alive(), "a full disk ends it");
    let practices = Arc::into_inner(shared).unwrap();
    sent.push(at_mail.clone());
    let again = practices.retry(server.smtp, &sent).await;
    sent.extend(again);
    let mut is_right = practices.check(&sent, Settled::Yes).await.is_right();
    let expected = match small {
        // Nobody waits for the log.
        Small::Log => End::Kept,
        Small::Blobs | Small::Database | Small::DatabaseAlone | Small::Spool => {
            End::PutOff("452 4.3.1".to_owned())
        }
    };
    is_right &= at_mail.end == expected;
    let measured = format!(
        "{}; when it is known: {:?}; longest answer {}; taken again after space is freed; lost 0, twice 0",
        counted(&sent),
        at_mail.end,
        seconds(longest(&sent))
    );
    report("X4", &format!("disk of {name} full (tmpfs of 64 MB)"), &measured, is_right);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_the_disk_of_the_database_is_full() {
    fills(Small::Database, "database, blobs and keys").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_the_disk_of_a_database_that_lies_apart_is_full() {
    fills(Small::DatabaseAlone, "a database that lies apart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_the_disk_of_the_blobs_is_full() {
    fills(Small::Blobs, "blobs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_the_disk_of_temporary_files_is_full() {
    fills(Small::Spool, "temporary files").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_the_disk_of_the_log_is_full() {
    fills(Small::Log, "the log").await;
}

/// Smaller than what two of the largest messages need: put off in words, kept whole if it was taken before that was
/// known, and taken as soon as there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_a_disk_of_64_mib_is_too_small_to_begin_with() {
    let Some((server, disk)) = small_disk(Small::Database, SMALL_MEBIBYTES).await else { return };
    let practices = Practices::open(&server.api).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let put_off = End::PutOff("452 4.3.1".to_owned());
    let mut sent = Vec::new();
    while sent.iter().filter(|one: &&Sent| one.end == put_off).count() < 3 && Instant::now() < deadline {
        sent.push(Client::new(server.smtp).send(practices.mail()).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let last = sent.last().map(|one| one.end.clone());
    let mut is_right = practices.check(&sent, Settled::No).await.is_right();
    disk.resize(scaled(400, 160));
    let again = practices.retry(server.smtp, &sent).await;
    sent.extend(again);
    is_right &= practices.check(&sent, Settled::Yes).await.is_right();
    let measured = format!("at MAIL: {last:?}; taken again on a larger disk; lost 0, twice 0");
    report("X4", "64 MB tmpfs for everything", &measured, is_right && last == Some(put_off));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_locked_by_another_process() {
    let server = Server::start(Setup { environment: vec![MANY.to_owned()], ..Setup::default() }).await;
    let mut practices = Practices::open(&server.api).await;
    practices.begin_round("locked").await;
    let shared = Arc::new(practices);
    let load = shared.load(server.smtp, scaled(50, 12));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let file = server.folder().join("data/syncmx.db");
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(5));
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let held = Duration::from_secs(scaled(60, 8));
    tokio::time::sleep(held).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut sent = load.stop().await;
    let practices = Arc::into_inner(shared).unwrap();
    let slowest = longest(&sent);
    let again = practices.retry(server.smtp, &sent).await;
    sent.extend(again);
    let is_right = practices.check(&sent, Settled::Yes).await.is_right();
    let measured = format!("{}; longest answer {}; lost 0, twice 0", counted(&sent), seconds(slowest));
    let fault = format!("SQLite locked by another process for {} s", held.as_secs());
    report("lock", &fault, &measured, is_right && slowest < Duration::from_secs(70));
}

const SMALL_MEBIBYTES: u32 = 64;
