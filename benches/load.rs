//! The load tool: how many different signed mails a second the program files, on this machine, client included.
//!
//! `cargo bench --bench load -- [--sessions N] [--mails N] [--per-session N] [--octets N] [--runs N] [--plain|--tls]`
//! or `cargo bench --bench load -- --preset issue [--runs N] [--scale N]`: the cases that have a target, in one table,
//! with N parts of a hundred of the mails. `--store postgres://…` (or `SYNCMX_BENCH_STORE`) takes an empty database in
//! place of a file; it is not emptied afterwards.
//!
//! Starts the release binary (or that of `SYNCMX_BINARY`) on a scratch folder with its own DNS zone, signs every mail
//! (rsa-sha256) before the clock starts, warms the caches, sends, and prints each run and the median: mails a second,
//! time from MAIL to the last 250, CPU of server and client a mail, and the most memory that the server held. It is a
//! tool, not a test: nothing here fails for being slow.

#[path = "support/mails.rs"]
mod mails;
#[path = "../tests/support/memory_of.rs"]
mod memory_of;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mails::{CONTACTS, HELO, MAIL_FROM, contact, cpu_of, signed_mails};
use memory_of::peak_kib;
use serde_json::{Value, json};
use syncmx::cli::demo::admin::AdminApi;
use syncmx::cli::demo::mailer::{Mailer, Security};
use syncmx::cli::demo::practice;
use syncmx::zone::{Zone, ZoneServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What to measure.
#[derive(Clone)]
struct Plan {
    sessions: usize,
    mails: usize,
    per_session: usize,
    octets: usize,
    runs: usize,
    modes: Vec<Mode>,
    preset: Option<Preset>,
    scale: usize,
    store: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    StartTls,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Preset {
    Issue,
}

/// A case with a target, as `--preset issue` measures it.
struct Case {
    name: &'static str,
    mode: Mode,
    sessions: usize,
    mails: usize,
    per_session: usize,
    octets: usize,
    target: &'static str,
}

const ISSUE: [Case; 5] = [
    Case {
        name: "64 sessions, 100 mails each",
        mode: Mode::Plain,
        sessions: 64,
        mails: 8000,
        per_session: 100,
        octets: 10 * 1024,
        target: "3,000/s, p99 60 ms, 400 us",
    },
    Case {
        name: "a STARTTLS connection a mail, 64 at once",
        mode: Mode::StartTls,
        sessions: 64,
        mails: 6000,
        per_session: 1,
        octets: 10 * 1024,
        target: "1,500/s",
    },
    Case {
        name: "one session alone",
        mode: Mode::Plain,
        sessions: 1,
        mails: 1500,
        per_session: 100,
        octets: 10 * 1024,
        target: "600/s",
    },
    Case {
        name: "1 MB mails, 8 sessions",
        mode: Mode::Plain,
        sessions: 8,
        mails: 480,
        per_session: 20,
        octets: 1024 * 1024,
        target: "200/s",
    },
    Case {
        name: "20 MB mails, 8 sessions",
        mode: Mode::Plain,
        sessions: 8,
        mails: 40,
        per_session: 5,
        octets: 20 * 1024 * 1024,
        target: "12/s, 600 MB",
    },
];

/// One run's figures.
#[derive(Clone, Copy)]
struct Figures {
    mails_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_us: f64,
    client_us: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let plan = Plan::from_arguments(std::env::args().skip(1))?;
    match plan.preset {
        Some(Preset::Issue) => measure_cases(&plan).await,
        None => measure(&plan).await,
    }
}

async fn measure(plan: &Plan) -> Result<()> {
    let server = Server::start(plan.store.as_deref()).await?;
    println!(
        "{} sessions at once, {} mails a session, {} mails of {} octets a run, rsa-sha256, {} cores",
        plan.sessions,
        plan.per_session,
        plan.mails,
        plan.octets,
        std::thread::available_parallelism()?
    );
    let mut first = 0;
    for mode in &plan.modes {
        let median = median_of(&server, plan, *mode, &mut first).await?;
        println!("{} median: {median}", mode.name());
    }
    println!("server held at most {} MB", server.most_memory_mb()?);
    Ok(())
}

/// Each case on a server of its own.
async fn measure_cases(plan: &Plan) -> Result<()> {
    let mut table = String::new();
    for case in ISSUE {
        let mails = (case.mails * plan.scale / 100).max(case.sessions);
        let Case { sessions, per_session, octets, mode, .. } = case;
        println!("{}, {mails} mails of {octets} octets", case.name);
        let server = Server::start(plan.store.as_deref()).await?;
        let measured = Plan { sessions, mails, per_session, octets, ..plan.clone() };
        let median = median_of(&server, &measured, mode, &mut 0).await?;
        let memory = server.most_memory_mb()?;
        table.push_str(&format!(
            "| {} | {} | {:.0} | {:.1} ms | {:.1} ms | {:.0} us | {memory} MB |\n",
            case.name, case.target, median.mails_per_second, median.p50_ms, median.p99_ms, median.server_us
        ));
    }
    println!("\n| case | target | mails/s | p50 | p99 | server CPU a mail | memory at most |");
    println!("|---|---|---|---|---|---|---|\n{table}");
    Ok(())
}

/// Warms up, then the median of some runs. `first` is the number of the first mail that has not been sent.
async fn median_of(server: &Server, plan: &Plan, mode: Mode, first: &mut usize) -> Result<Figures> {
    let security = mode.security()?;
    let warm = Plan { mails: (plan.sessions * 20).min(plan.mails), ..plan.clone() };
    run(server, &warm, &security, *first).await?;
    *first += warm.mails;
    let mut all = Vec::new();
    for number in 1..=plan.runs {
        let figures = run(server, plan, &security, *first).await?;
        *first += plan.mails;
        println!("{} run {number}: {figures}", mode.name());
        all.push(figures);
    }
    all.sort_by(|a, b| a.mails_per_second.total_cmp(&b.mails_per_second));
    all.get(all.len() / 2).copied().context("no run")
}

impl Plan {
    fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Self {
            sessions: 16,
            mails: 8000,
            per_session: 50,
            octets: 10 * 1024,
            runs: 3,
            modes: vec![Mode::Plain, Mode::StartTls],
            preset: None,
            scale: 100,
            store: std::env::var("SYNCMX_BENCH_STORE").ok(),
        };
        let mut arguments = arguments.peekable();
        while let Some(name) = arguments.next() {
            let target = match name.as_str() {
                "--plain" => {
                    plan.modes = vec![Mode::Plain];
                    continue;
                }
                "--tls" => {
                    plan.modes = vec![Mode::StartTls];
                    continue;
                }
                "--preset" => {
                    let name = arguments.next().unwrap_or_default();
                    ensure!(name == "issue", "unknown preset {name}: there is `issue`");
                    plan.preset = Some(Preset::Issue);
                    continue;
                }
                "--store" => {
                    plan.store = Some(arguments.next().context("--store takes a URL")?);
                    continue;
                }
                // Cargo's own.
                "--bench" => continue,
                "--sessions" => &mut plan.sessions,
                "--mails" => &mut plan.mails,
                "--per-session" => &mut plan.per_session,
                "--octets" => &mut plan.octets,
                "--runs" => &mut plan.runs,
                "--scale" => &mut plan.scale,
                _ => bail!("unknown argument {name}; the first lines of benches/load.rs say which there are"),
            };
            let number = arguments.next().with_context(|| format!("{name} takes a number"))?;
            *target = number.parse().with_context(|| format!("{name} {number}"))?;
            ensure!(*target > 0, "{name} must be at least 1");
        }
        ensure!(
            plan.preset.is_none() || plan.store.is_none(),
            "each case of a preset has an empty store of its own"
        );
        Ok(plan)
    }
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain   ",
            Self::StartTls => "STARTTLS",
        }
    }

    fn security(self) -> Result<Security> {
        Ok(match self {
            Self::Plain => Security::Plain,
            Self::StartTls => Security::starttls()?,
        })
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:6.0} mails/s   MAIL to 250: p50 {:6.2} ms, p99 {:6.2} ms   CPU a mail: server {:4.0} us, client {:4.0} us",
            self.mails_per_second, self.p50_ms, self.p99_ms, self.server_us, self.client_us
        )
    }
}

/// The program under load, and one user's sync address.
struct Server {
    child: Child,
    smtp: SocketAddr,
    http: SocketAddr,
    sync: String,
    _zone: ZoneServer,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start(store: Option<&str>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let zone = ZoneServer::start(Zone::parse(practice::ZONE)?).await?;
        let (child, smtp, http) = launch(folder.path(), zone.addr(), store)?;
        let api = AdminApi::new(&format!("http://{http}"), TOKEN)?;
        let sync = open_account(&api).await?;
        Ok(Self { child, smtp, http, sync, _zone: zone, _folder: folder })
    }

    /// User and system time of the server so far.
    fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.child.id().to_string())
    }

    /// How many messages since the start.
    async fn filed(&self) -> Result<u64> {
        let mut stream = TcpStream::connect(self.http).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let counts = text.lines().filter(|line| line.starts_with("syncmx_messages_total{outcome=\"filed\""));
        counts.map(|line| Ok(line.rsplit_once(' ').context("no number")?.1.parse::<u64>()?)).sum()
    }

    /// The most that was resident at once since the start.
    fn most_memory_mb(&self) -> Result<u64> {
        Ok(peak_kib(self.child.id()).context("no VmHWM in /proc")? / 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &Path, dns: SocketAddr, store: Option<&str>) -> Result<(Child, SocketAddr, SocketAddr)> {
    let shown = folder.display();
    let config = folder.join("syncmx.toml");
    let migrate = store.filter(|url| url.starts_with("postgres")).map(|_| "--migrate");
    let store = store.map_or_else(|| format!("sqlite://{shown}/data/syncmx.db"), str::to_owned);
    std::fs::write(
        &config,
        format!(
            "[smtp]\nlisten = [\"127.0.0.1:0\"]\nmax_connections_per_ip = 5000\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [dns]\nservers = [\"{dns}\"]\n[store]\nurl = \"{store}\"\n\
             blobs = \"file://{shown}/data/blobs\"\n[keys]\nfile = \"{shown}/data/keys.toml\"\n"
        ),
    )?;
    let program = std::env::var("SYNCMX_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_syncmx").to_owned());
    let mut child = Command::new(program)
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .args(migrate)
        .env("SYNCMX_ADMIN_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(folder.join("server.log"))?)
        .spawn()?;
    let stdout = child.stdout.take().context("no output of the server")?;
    for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)) {
        let line = line?;
        if let Some(rest) = line.strip_prefix("syncmx ready smtp=") {
            let (smtp, http) = rest.split_once(" http=").context("no http address")?;
            return Ok((child, smtp.parse()?, http.parse()?));
        }
    }
    bail!("the server did not start:\n{}", std::fs::read_to_string(folder.join("server.log"))?)
}

/// The user's sync address.
async fn open_account(api: &AdminApi) -> Result<String> {
    // R52 would stop the user after 500 mails.
    let settings = json!({ "internal_domains": ["praxis-morgenrot.test"], "daily_limit": 1_000_000_000 });
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text in the answer");
    let account =
        text(&api.post("/accounts", &json!({ "name": "Load", "settings": settings })).await?["id"])?;
    let body = json!({ "name": "Lena Albrecht", "emails": [], "role": "staff" });
    let user = text(&api.post(&format!("/accounts/{account}/users"), &body).await?["id"])?;
    let body = json!({ "address": MAIL_FROM, "verified": true });
    api.post(&format!("/accounts/{account}/users/{user}/emails"), &body).await?;
    for n in 0..CONTACTS {
        let body = json!({ "name": format!("Patient {n}"), "email": contact(n) });
        api.post(&format!("/accounts/{account}/contacts"), &body).await?;
    }
    let shown = api.get(&format!("/accounts/{account}/users/{user}")).await?;
    text(&shown["sync"]["sync_address"])
}

async fn run(server: &Server, plan: &Plan, security: &Security, first: usize) -> Result<Figures> {
    let mails = Arc::new(signed_mails(first, plan.mails, plan.octets)?);
    let filed_before = server.filed().await?;
    let (server_cpu, client_cpu) = (server.cpu()?, cpu_of("self")?);
    let start = Instant::now();
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..plan.sessions {
        let (mails, security, plan) = (Arc::clone(&mails), security.clone(), plan.clone());
        let (smtp, sync) = (server.smtp, server.sync.clone());
        sessions.spawn(async move { send_share(smtp, &sync, &security, &mails, session, &plan).await });
    }
    let mut times = Vec::with_capacity(plan.mails);
    while let Some(done) = sessions.join_next().await {
        times.extend(done??);
    }
    let elapsed = start.elapsed();
    let (server_cpu, client_cpu) = (server.cpu()? - server_cpu, cpu_of("self")? - client_cpu);
    let filed = server.filed().await? - filed_before;
    ensure!(filed == times.len() as u64, "{filed} of {} mails were filed", times.len());
    times.sort();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1));
    let millis = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
    let count = f64::from(u32::try_from(times.len())?);
    Ok(Figures {
        mails_per_second: count / elapsed.as_secs_f64(),
        p50_ms: millis(at(50)),
        p99_ms: millis(at(99)),
        server_us: server_cpu.as_secs_f64() * 1e6 / count,
        client_us: client_cpu.as_secs_f64() * 1e6 / count,
    })
}

/// Every `sessions`-th mail, in sessions of `per_session`; the times.
async fn send_share(
    smtp: SocketAddr,
    sync: &str,
    security: &Security,
    mails: &[Vec<u8>],
    session: usize,
    plan: &Plan,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let share: Vec<&Vec<u8>> = mails.iter().skip(session).step_by(plan.sessions).collect();
    let recipients = [sync.to_owned()];
    for (number, batch) in share.chunks(plan.per_session).enumerate() {
        let client =
            if plan.per_session == 1 { one_of_many(number * plan.sessions + session)? } else { CLIENT };
        let mut mailer = Mailer::connect(smtp, client, HELO, security).await?;
        for raw in batch {
            let start = Instant::now();
            let answers = mailer.send(MAIL_FROM, &recipients, raw).await?;
            times.push(start.elapsed());
            let reply = answers.decisive();
            ensure!(reply.code == 250, "answered {}", reply.text);
        }
        mailer.quit().await?;
    }
    Ok(times)
}

/// An address of another /21 for each of 512 connections: the server takes 300 handshakes a minute from one.
fn one_of_many(connection: usize) -> Result<IpAddr> {
    let number = u16::try_from(connection % 512)?;
    let [high, low] = (number * 8).to_be_bytes();
    Ok(IpAddr::V4(Ipv4Addr::new(127, high, low, 20)))
}

const TOKEN: &str = "smx_test_administrator_of_the_load_tool_0123456789abcdef";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 20));
