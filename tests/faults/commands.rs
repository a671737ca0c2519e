//! The anomaly loop of what is not filing: a purge, an undo, an import, rotations of keys. The command fails, or its
//! process ends, at the n-th call that changes or syncs a file, for every n; it is run again, a server is started where
//! there is something to finish. Afterwards all is as if nothing had been: nothing of the purged person on disk, nothing
//! lost of others, everything opens, and the audit trail verifies.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::api::Desk;
use crate::app::{TestApp, files_below, postgres, program};
use crate::beside::{octets, postgres_url, rows, stands_in};
use crate::interpose::{Fault, How, Interposer, SYNCS, WRITES};
use crate::ledger::NOISE;
use crate::mail::{ANNA, Draft, LENA};
use crate::server::{Server, Setup};
use crate::table::{random_below, report, scaled};

#[derive(Clone, Copy)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    async fn start(self) -> TestApp {
        let database = match self {
            Self::Postgres => Some(postgres::cluster().unwrap().database().await),
            Self::Sqlite => None,
        };
        TestApp::start_on_database(database).await
    }
}

/// A store as a day has left it, and what there is to do in it.
pub(crate) struct Day {
    pub(crate) folder: TempDir,
    pub(crate) account: String,
    pub(crate) neighbour: String,
    /// To be purged: their own mail, mail that they are copied on, held mail.
    wanda: String,
    /// To be taken back: it has made its contact.
    zita: String,
    /// The account's export.
    export: PathBuf,
}

impl Day {
    async fn spend(engine: Engine) -> Self {
        let app = engine.start().await;
        let (desk, other) = (Desk::open(&app).await, Desk::open(&app).await);
        let wanda = desk.contact("Wanda Weggang", WANDA).await;
        let large = format!("{}\r\n", NOISE.get(..200 << 10).unwrap());
        let file = async |desk: &Desk, draft: Draft<'_>| {
            let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &draft.raw()).await).await;
            message["id"].as_str().unwrap().to_owned()
        };
        let to_wanda = || Draft { to: WANDA, subject: "Weggangsbefund", ..Draft::default() };
        file(&desk, Draft { id: "w1", ..to_wanda() }).await;
        file(&desk, Draft { id: "w2", text: &large, ..to_wanda() }).await;
        file(&desk, Draft { id: "a1", fields: "Cc: wanda.weggang@web-post.test\r\n", ..Draft::default() })
            .await;
        file(&desk, Draft { id: "a2", text: &large, ..Draft::default() }).await;
        file(&other, Draft { id: "o1", text: &large, ..Draft::default() }).await;
        let from = "Wanda Weggang <wanda.weggang@web-post.test>";
        let raw =
            Draft { id: "w3", from, to: "lena.albrecht@praxis-morgenrot.test", ..Draft::default() }.raw();
        desk.expect_filed(&app.send(&ANNA, &desk.auto, &raw).await).await;
        let (to, fields) =
            ("tom@praxis-morgenrot.test", "Cc: Wanda Weggang <wanda.weggang@web-post.test>\r\n");
        let raw = Draft { id: "h1", to, fields, text: &large, ..Draft::default() }.raw();
        desk.expect(&app.send(&LENA, &desk.sync, &raw).await, "250 2.0.0", "held", "contact_only_in_cc")
            .await;
        let to = "Zita Zurueck <zita.zurueck@other-post.test>";
        let zita =
            file(&desk, Draft { id: "z1", to, subject: "Nehmezurueck", text: &large, ..Draft::default() })
                .await;
        let hook = desk.post("/webhooks", json!({ "url": "https://crm.test/hook", "events": ["*"] })).await;
        // Its secret is what matters; nothing is to be sent.
        desk.patch(&format!("/webhooks/{}", hook["id"].as_str().unwrap()), json!({ "state": "off" })).await;
        // Words stand in the index of the search, too.
        for word in ["Weggangsbefund", "Nehmezurueck"] {
            until(word, || async { !desk.get(&format!("/search?q={word}")).await["items"][0].is_null() })
                .await;
        }
        let folder = left_by(app).await;
        let export = folder.path().join("export");
        let (account, neighbour) = (desk.account, other.account);
        let day = Self { folder, account, neighbour, wanda, zita, export };
        succeeds(
            day.folder.path(),
            &["export", "--account", &day.account, "--out", day.export.to_str().unwrap()],
        );
        day
    }
}

/// One for all tests that run now; they work on copies.
pub(crate) async fn day(engine: Engine) -> Arc<Day> {
    static DAYS: [Mutex<Weak<Day>>; 2] = [const { Mutex::const_new(Weak::new()) }; 2];
    let mut shared = DAYS[engine as usize].lock().await;
    if let Some(day) = shared.upgrade() {
        return day;
    }
    let day = Arc::new(Day::spend(engine).await);
    *shared = Arc::downgrade(&day);
    day
}

/// A store of one neighbour, into which the account is imported.
async fn other_store(engine: Engine) -> TempDir {
    let app = engine.start().await;
    let desk = Desk::open(&app).await;
    desk.expect_filed(&app.send(&LENA, &desk.sync, &Draft::default().raw()).await).await;
    left_by(app).await
}

/// What it has stored when it is killed.
async fn left_by(mut app: TestApp) -> TempDir {
    app.kill();
    copied(app.folder()).await
}

/// The data and the configuration, in a folder of its own, with a database of its own.
pub(crate) async fn copied(from: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files_below(&from.join("data")) {
        let to = folder.path().join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&file, to).unwrap();
    }
    let config = std::fs::read_to_string(from.join("syncmx.toml")).unwrap();
    let (old, new) = (from.display().to_string(), folder.path().display().to_string());
    let mut config = config.replace(&old, &new);
    if let Some(url) = postgres_url(from) {
        config = config.replace(&url, &postgres::cluster().unwrap().copy_of(&url).await);
    }
    std::fs::write(folder.path().join("syncmx.toml"), config).unwrap();
    folder
}

pub(crate) fn run(folder: &Path, environment: &[String], arguments: &[&str]) -> Output {
    let config = folder.join("syncmx.toml");
    let mut command = program(arguments);
    command.args(["--config", config.to_str().unwrap()]);
    command.envs(environment.iter().filter_map(|setting| setting.split_once('=')));
    command.output().unwrap()
}

#[track_caller]
fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, &[], arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is done, again and again.
#[derive(Clone, Copy)]
pub(crate) enum Deed {
    Import,
    Purge,
    RotateAccounts,
    RotateMaster,
    Undo,
}

impl Deed {
    pub(crate) fn arguments(self, day: &Day) -> Vec<String> {
        let words: Vec<&str> = match self {
            Self::Import => vec!["import", day.export.to_str().unwrap()],
            Self::Purge => vec!["purge", "--contact", &day.wanda, "--account", &day.account],
            Self::RotateAccounts => vec!["keys", "rotate", "account", "--all"],
            Self::RotateMaster => vec!["keys", "rotate", "master"],
            Self::Undo => vec!["message", "undo", &day.account, &day.zita],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// What stands nowhere afterwards.
    pub(crate) const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Import | Self::RotateAccounts | Self::RotateMaster => &[],
            Self::Purge => &["wanda", "weggang"],
            Self::Undo => &["nehmezurueck", "zurueck"],
        }
    }

    /// To its end, after whatever has been.
    pub(crate) async fn finish(self, day: &Day, folder: TempDir, blobs: Option<usize>) -> TempDir {
        let wanted = self.arguments(day);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        match self {
            Self::Import => {
                succeeds(folder.path(), &wanted);
                let again = succeeds(folder.path(), &[&wanted[..], &["--json"]].concat());
                assert!(again.contains("\"was_imported_before\":true"), "{again}");
                folder
            }
            Self::RotateAccounts => {
                succeeds(folder.path(), &wanted);
                let keys = succeeds(folder.path(), &["keys", "list", "account", "--json"]);
                // Two practices and the operator: none has been given a key twice.
                assert_eq!(keys.lines().count(), 3, "{keys}");
                folder
            }
            Self::RotateMaster => {
                succeeds(folder.path(), &wanted);
                for key in masters(folder.path()).iter().filter(|key| key["state"] == "opening") {
                    assert_eq!((&key["accounts"], &key["older_keys"]), (&0.into(), &0.into()), "{key}");
                    succeeds(folder.path(), &["keys", "revoke", "master", key["id"].as_str().unwrap()]);
                }
                assert_eq!(masters(folder.path()).len(), 1);
                folder
            }
            Self::Purge | Self::Undo => {
                let url = postgres_url(folder.path());
                let setting = url.iter().map(|url| format!("SYNCMX_STORE__URL={url}")).collect();
                let server =
                    Server::start_in(folder, Setup { environment: setting, ..Setup::default() }).await;
                if let Some(url) = url {
                    name_database(server.folder(), &url);
                }
                // It may be done; then there is none such.
                let again = run(server.folder(), &[], &wanted);
                assert!(matches!(again.status.code(), Some(0 | 1)), "{again:?}");
                until("nothing is left on disk", || async {
                    let is_there = |blobs| files_below(&server.folder().join("data/blobs")).len() == blobs;
                    words_in(server.folder(), self.words()).await.is_empty() && blobs.is_none_or(is_there)
                })
                .await;
                assert!(server.damaged().is_empty());
                server.into_folder()
            }
        }
    }
}

fn masters(folder: &Path) -> Vec<Value> {
    let said = succeeds(folder, &["keys", "list", "master", "--json"]);
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// In the place of the one that the configuration names.
fn name_database(folder: &Path, url: &str) {
    let path = folder.join("syncmx.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let named = |line: &str| match line.strip_prefix("url = ") {
        Some(_) => format!("url = \"{url}\"\n"),
        None => format!("{line}\n"),
    };
    std::fs::write(path, config.lines().map(named).collect::<String>()).unwrap();
}

/// Those that stand in any file of a store, or in any row of PostgreSQL's, in any case.
pub(crate) async fn words_in(folder: &Path, words: &[&'static str]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for file in files_below(&folder.join("data")) {
        let octets = octets(&file).to_ascii_lowercase();
        found.extend(words.iter().filter(|word| memchr::memmem::find(&octets, word.as_bytes()).is_some()));
    }
    if let Some(url) = postgres_url(folder) {
        let rows = rows(&url).await;
        found.extend(words.iter().filter(|word| stands_in(&rows, word)));
    }
    found
}

/// What the store says of both accounts, but for times and ids that differ by nature.
#[derive(PartialEq, Eq)]
pub(crate) struct Outcome {
    rows: BTreeMap<String, Vec<String>>,
    pub(crate) blobs: usize,
}

impl Outcome {
    /// Everything opens, the trail verifies, and this is what there is.
    pub(crate) fn of(folder: &Path, accounts: &[&str]) -> Self {
        let red = crate::server::red(folder, &[]);
        assert!(red.is_empty(), "{red:?}");
        succeeds(folder, &["audit", "verify"]);
        let mut rows = BTreeMap::new();
        let out = tempfile::tempdir().unwrap();
        for account in accounts {
            let out = out.path().join(account);
            succeeds(folder, &["export", "--account", account, "--out", out.to_str().unwrap()]);
            for file in
                files_below(&out).iter().filter(|file| file.extension().is_some_and(|end| end == "ndjson"))
            {
                // It says how often something was tried.
                if file.ends_with("rows/audit.ndjson") {
                    continue;
                }
                let text = std::fs::read_to_string(file).unwrap();
                let mut lines: Vec<String> = text.lines().map(lasting).collect();
                lines.sort();
                rows.insert(file.strip_prefix(out.parent().unwrap()).unwrap().display().to_string(), lines);
            }
        }
        Self { rows, blobs: files_below(&folder.join("data/blobs")).len() }
    }

    #[track_caller]
    pub(crate) fn must_be(&self, expected: &Self, n: u64) {
        assert_eq!(
            self.rows.keys().collect::<Vec<_>>(),
            expected.rows.keys().collect::<Vec<_>>(),
            "call {n}"
        );
        for (file, lines) in &self.rows {
            assert!(
                *lines == expected.rows[file],
                "call {n}: {file}:\n{lines:#?}\n{:#?}",
                expected.rows[file]
            );
        }
    }
}

/// A line without what is made anew each time.
fn lasting(line: &str) -> String {
    let mut row: Value = serde_json::from_str(line).unwrap();
    for made in ["at", "erased_at", "event_id", "settled_at", "passed"] {
        row.as_object_mut().unwrap().remove(made);
    }
    row.to_string()
}

/// What a deed is done to, and by which words.
pub(crate) struct Task {
    pub(crate) deed: Deed,
    pub(crate) day: Arc<Day>,
    pub(crate) store: TempDir,
    wanted: Vec<String>,
}

impl Task {
    pub(crate) async fn new(deed: Deed, engine: Engine) -> Self {
        let day = day(engine).await;
        let store = match deed {
            Deed::Import => other_store(engine).await,
            Deed::Purge | Deed::RotateAccounts | Deed::RotateMaster | Deed::Undo => {
                copied(day.folder.path()).await
            }
        };
        assert_eq!(words_in(store.path(), deed.words()).await.is_empty(), deed.words().is_empty());
        let wanted = deed.arguments(&day);
        Self { deed, day, store, wanted }
    }

    /// Begins it.
    pub(crate) fn run(&self, folder: &Path, environment: &[String]) -> Output {
        let wanted: Vec<&str> = self.wanted.iter().map(String::as_str).collect();
        run(folder, environment, &wanted)
    }

    /// To its end; what there is then.
    pub(crate) async fn finish(&self, folder: TempDir, expected: Option<&Outcome>) -> Outcome {
        let blobs = expected.filter(|_| !self.deed.words().is_empty()).map(|expected| expected.blobs);
        let folder = self.deed.finish(&self.day, folder, blobs).await;
        let accounts = [self.day.account.as_str(), self.day.neighbour.as_str()];
        let accounts = if matches!(self.deed, Deed::Import) { &accounts[..1] } else { &accounts[..] };
        let outcome = Outcome::of(folder.path(), accounts);
        if let Some(url) = postgres_url(folder.path()) {
            postgres::cluster().unwrap().drop_database(&url).await;
        }
        outcome
    }
}

/// At each n, or some of them.
async fn every_call(deed: Deed, name: &str) {
    let Some(interposer) = Interposer::new() else { return };
    let task = Task::new(deed, Engine::Sqlite).await;

    // Undisturbed.
    let folder = copied(task.store.path()).await;
    let fault = Fault { kinds: WRITES | SYNCS, calls: (u64::MAX, u64::MAX), how: How::Ends };
    interposer.arm(fault);
    let first = task.run(folder.path(), &interposer.environment(&folder.path().join("data")));
    let calls = interposer.calls();
    assert!(first.status.success() && calls > 10, "{calls} {first:?}");
    let expected = task.finish(folder, None).await;

    for (how, word) in [(How::Ends, "the process ends at"), (How::InputOutput, "EIO at")] {
        let step = scaled(1, calls);
        // How many calls there are differs a little.
        let (mut n, mut rounds) = (1 + random_below(step * 3 / 4), 0);
        loop {
            let folder = copied(task.store.path()).await;
            let fault = Fault { kinds: WRITES | SYNCS, calls: (n, n), how };
            interposer.arm(fault);
            let ended = task.run(folder.path(), &interposer.environment(&folder.path().join("data")));
            let failed = interposer.failed();
            interposer.disarm();
            let is_sound = ended.status.signal() == Some(9) || matches!(ended.status.code(), Some(0 | 1 | 3));
            assert!(is_sound, "call {n}: {ended:?}");
            if failed == 0 || n > MOST_CALLS {
                break;
            }
            task.finish(folder, Some(&expected)).await.must_be(&expected, n);
            (n, rounds) = (n + step, rounds + 1);
        }
        let measured = format!("{calls} calls, {rounds} rounds; then run again: as if nothing had been");
        report("loop", &format!("{name}: {word} the n-th call"), &measured, rounds > 0 && n <= MOST_CALLS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_r60_a_purge_of_a_contact() {
    every_call(Deed::Purge, "purge of a contact").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_r70a_an_undo() {
    every_call(Deed::Undo, "undo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_an_import() {
    every_call(Deed::Import, "import of an account").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_a_rotation_of_the_accounts_keys() {
    every_call(Deed::RotateAccounts, "rotation of the accounts' keys").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_a_rotation_of_the_master_key() {
    every_call(Deed::RotateMaster, "rotation of the master key").await;
}

const WANDA: &str = "wanda.weggang@web-post.test";
/// Each of them takes fewer.
const MOST_CALLS: u64 = 5_000;
