//! The load tool: how many different signed mails a second the program files, on this machine, client included.
//!
//! `cargo bench --bench load -- [--sessions N] [--mails N] [--per-session N] [--octets N] [--runs N] [--plain|--tls]`
//!
//! Starts the release binary on a scratch folder with its own DNS zone, signs every mail (rsa-sha256) before the clock
//! starts, warms the caches, sends, and prints each run and the median: mails a second, time from MAIL to the last
//! 250, CPU of server and client a mail. It is a tool, not a test: nothing here fails for being slow.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use syncmx::cli::demo::admin::AdminApi;
use syncmx::cli::demo::mailer::{Mailer, Security};
use syncmx::cli::demo::practice;
use syncmx::cli::demo::sign::{Algorithm, Signer};
use syncmx::zone::{Zone, ZoneServer};

/// What to measure.
#[derive(Clone)]
struct Plan {
    sessions: usize,
    mails: usize,
    per_session: usize,
    octets: usize,
    runs: usize,
    modes: Vec<Mode>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    StartTls,
}

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
    let server = Server::start().await?;
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
        let security = mode.security()?;
        let warm = Plan { mails: plan.sessions * 20, ..plan.clone() };
        run(&server, &warm, &security, first).await?;
        first += warm.mails;
        let mut all = Vec::new();
        for number in 1..=plan.runs {
            let figures = run(&server, &plan, &security, first).await?;
            first += plan.mails;
            println!("{} run {number}: {figures}", mode.name());
            all.push(figures);
        }
        all.sort_by(|a, b| a.mails_per_second.total_cmp(&b.mails_per_second));
        if let Some(median) = all.get(all.len() / 2) {
            println!("{} median: {median}", mode.name());
        }
    }
    Ok(())
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
                // Cargo's own.
                "--bench" => continue,
                "--sessions" => &mut plan.sessions,
                "--mails" => &mut plan.mails,
                "--per-session" => &mut plan.per_session,
                "--octets" => &mut plan.octets,
                "--runs" => &mut plan.runs,
                _ => bail!("unknown argument {name}; the first lines of benches/load.rs say which there are"),
            };
            let number = arguments.next().with_context(|| format!("{name} takes a number"))?;
            *target = number.parse().with_context(|| format!("{name} {number}"))?;
            ensure!(*target > 0, "{name} must be at least 1");
        }
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
    api: AdminApi,
    account: String,
    sync: String,
    _zone: ZoneServer,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let zone = ZoneServer::start(Zone::parse(practice::ZONE)?).await?;
        let (child, smtp, http) = launch(folder.path(), zone.addr())?;
        let api = AdminApi::new(&format!("http://{http}"), TOKEN)?;
        let (account, sync) = open_account(&api).await?;
        Ok(Self { child, smtp, api, account, sync, _zone: zone, _folder: folder })
    }

    /// User and system time of the server so far.
    fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &Path, dns: SocketAddr) -> Result<(Child, SocketAddr, SocketAddr)> {
    let shown = folder.display();
    let config = folder.join("syncmx.toml");
    std::fs::write(
        &config,
        format!(
            "[smtp]\nlisten = [\"127.0.0.1:0\"]\nmax_connections_per_ip = 5000\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [dns]\nservers = [\"{dns}\"]\n[store]\nurl = \"sqlite://{shown}/data/syncmx.db\"\n\
             blobs = \"file://{shown}/data/blobs\"\n[keys]\nfile = \"{shown}/data/keys.toml\"\n"
        ),
    )?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_syncmx"))
        .arg("serve")
        .arg("--config")
        .arg(&config)
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

async fn open_account(api: &AdminApi) -> Result<(String, String)> {
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
    Ok((account, text(&shown["sync"]["sync_address"])?))
}

async fn run(server: &Server, plan: &Plan, security: &Security, first: usize) -> Result<Figures> {
    let mails = Arc::new(signed_mails(first, plan.mails, plan.octets)?);
    let (server_cpu, client_cpu) = (server.cpu()?, cpu_of("self")?);
    let start = Instant::now();
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..plan.sessions {
        let (mails, security, plan) = (Arc::clone(&mails), security.clone(), plan.clone());
        let (smtp, sync) = (server.smtp, server.sync.clone());
        sessions.spawn(async move { send_share(smtp, &sync, &security, &mails, session, &plan).await });
    }
    let mut times = Vec::with_capacity(plan.mails);
    let mut last_trace = String::new();
    while let Some(done) = sessions.join_next().await {
        let (share, trace) = done??;
        times.extend(share);
        last_trace = trace;
    }
    let elapsed = start.elapsed();
    let (server_cpu, client_cpu) = (server.cpu()? - server_cpu, cpu_of("self")? - client_cpu);
    let delivery = server.api.get(&format!("/accounts/{}/deliveries/{last_trace}", server.account)).await?;
    ensure!(delivery["outcome"] == "filed", "the last mail was not filed: {delivery:#}");
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

/// Every `sessions`-th mail, in sessions of `per_session`; the times, and the last trace id.
async fn send_share(
    smtp: SocketAddr,
    sync: &str,
    security: &Security,
    mails: &[Vec<u8>],
    session: usize,
    plan: &Plan,
) -> Result<(Vec<Duration>, String)> {
    let mut times = Vec::new();
    let mut trace = String::new();
    let share: Vec<&Vec<u8>> = mails.iter().skip(session).step_by(plan.sessions).collect();
    let recipients = [sync.to_owned()];
    for batch in share.chunks(plan.per_session) {
        let mut mailer = Mailer::connect(smtp, CLIENT, HELO, security).await?;
        for raw in batch {
            let start = Instant::now();
            let answers = mailer.send(MAIL_FROM, &recipients, raw).await?;
            times.push(start.elapsed());
            let reply = answers.decisive();
            ensure!(reply.code == 250, "answered {}", reply.text);
            reply.trace().unwrap_or_default().clone_into(&mut trace);
        }
        mailer.quit().await?;
    }
    Ok((times, trace))
}

/// Mails `first..first + count`, all different, signed on every core.
fn signed_mails(first: usize, count: usize, octets: usize) -> Result<Vec<Vec<u8>>> {
    let threads = std::thread::available_parallelism()?.get();
    let share = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|thread| {
                let numbers = (first + thread * share).min(first + count)
                    ..(first + (thread + 1) * share).min(first + count);
                scope.spawn(move || -> Result<Vec<Vec<u8>>> {
                    let signer = Signer::new("praxis-morgenrot.test", "google", Algorithm::Rsa)?;
                    numbers.map(|number| Ok(signer.sign(&mail(number, octets))?)).collect()
                })
            })
            .collect();
        let mut mails = Vec::with_capacity(count);
        for share in shares {
            mails.extend(share.join().map_err(|_| anyhow::anyhow!("a signing thread ended"))??);
        }
        Ok(mails)
    })
}

/// A mail as practices send them: text, and the same as HTML, together about `octets` long.
fn mail(number: usize, octets: usize) -> Vec<u8> {
    let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
    let to = contact(number % CONTACTS);
    let mut head = format!(
        "From: Dr. Lena Albrecht <{MAIL_FROM}>\r\nTo: Patient <{to}>\r\nSubject: Your plan number {number}\r\n\
         Date: {date}\r\nMessage-ID: <load-{number}@praxis-morgenrot.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n--b1\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nDear patient,\r\n\r\n"
    );
    let half = octets.saturating_sub(head.len() + 120) / 2;
    let mut seed = number;
    words(&mut head, half, &mut seed);
    head.push_str("\r\n--b1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>");
    words(&mut head, half, &mut seed);
    head.push_str("</p></body></html>\r\n--b1--\r\n");
    head.into_bytes()
}

fn words(text: &mut String, octets: usize, seed: &mut usize) {
    let end = text.len() + octets;
    let mut column = 0;
    while text.len() < end {
        // A linear congruential generator: different texts, the same in every run.
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = WORDS.get((*seed >> 33) % WORDS.len()).copied().unwrap_or_default();
        text.push_str(word);
        column += word.len() + 1;
        text.push_str(if column > 64 { "\r\n" } else { " " });
        column = if column > 64 { 0 } else { column };
    }
}

fn contact(n: usize) -> String {
    format!("patient-{n}@web-post.test")
}

/// User and system time of a process (proc(5), fields 14 and 15 of stat).
fn cpu_of(process: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no stat")?;
    let ticks =
        |n: usize| -> Result<u32> { Ok(fields.split_whitespace().nth(n).context("no stat")?.parse()?) };
    // USER_HZ is 100 on every Linux architecture in use.
    Ok(Duration::from_millis(10) * (ticks(11)? + ticks(12)?))
}

const TOKEN: &str = "smx_test_administrator_of_the_load_tool_0123456789abcdef";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 20));
const HELO: &str = "mail-ed1-f41.google-mail.test";
const MAIL_FROM: &str = "lena.albrecht@praxis-morgenrot.test";
const CONTACTS: usize = 200;
const WORDS: [&str; 32] = [
    "shoulder",
    "exercise",
    "morning",
    "evening",
    "slowly",
    "repeat",
    "appointment",
    "please",
    "Thursday",
    "pain",
    "rest",
    "water",
    "the",
    "and",
    "with",
    "for",
    "twice",
    "report",
    "result",
    "laboratory",
    "insurance",
    "bring",
    "papers",
    "next",
    "week",
    "kind",
    "regards",
    "practice",
    "feel",
    "better",
    "stairs",
    "walk",
];
