//! How long after its 250 a mail's event is at the CRM, at a steady rate.
//!
//! `cargo bench --bench webhooks -- [--rate N] [--seconds N]`
//!
//! Starts the program on a scratch folder with its own DNS zone, and an HTTPS endpoint with a certificate of its own
//! authority; sends `rate` mails a second (100 by default) over 16 SMTP sessions, whatever the answers take, and prints
//! percentiles of the time from the 250 at the sender to the request at the endpoint. A request that comes before the
//! 250 counts as 0. It is a tool, not a test: nothing here fails for being slow.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a measurement that fails has no result")]

#[path = "../tests/e2e/endpoint.rs"]
mod endpoint;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use syncmx::cli::demo::admin::AdminApi;
use syncmx::cli::demo::mailer::{Mailer, Security};
use syncmx::cli::demo::practice;
use syncmx::cli::demo::sign::{Algorithm, Signer};
use syncmx::zone::{Zone, ZoneServer};

use endpoint::{Authority, HookServer};

#[tokio::main]
async fn main() -> Result<()> {
    let (rate, seconds) = plan(std::env::args().skip(1))?;
    let folder = tempfile::tempdir()?;
    let mut zone = Zone::parse(practice::ZONE)?;
    zone.add(HOST, "A", "127.0.0.1")?;
    let zone = ZoneServer::start(zone).await?;
    let authority = Authority::in_folder(folder.path());
    let hooks = HookServer::start(&authority, HOST).await;
    let server = Server::start(folder.path(), zone.addr(), &authority)?;
    let sync = server.open_account(hooks.port()).await?;
    let count = rate * seconds;
    let mails = mails(count)?;
    println!("{rate} mails a second for {seconds} s over {SESSIONS} sessions, one webhook over HTTPS");

    let start = Instant::now() + Duration::from_millis(500);
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..SESSIONS {
        let share: Vec<(usize, Vec<u8>)> =
            mails.iter().cloned().enumerate().skip(session).step_by(SESSIONS).collect();
        let (smtp, sync) = (server.smtp, sync.clone());
        sessions.spawn(async move { send(smtp, &sync, share, start, rate).await });
    }
    let mut accepted = HashMap::with_capacity(count);
    while let Some(done) = sessions.join_next().await {
        accepted.extend(done??);
    }
    let spent = start.elapsed();
    let received = hooks.wait_for("every mail", |all| all.len() >= count).await;
    let mut times = Vec::with_capacity(count);
    for one in &received {
        let id = one.data("message_id_header");
        let answered =
            accepted.remove(id.as_str().unwrap_or_default()).context("told twice, or never sent")?;
        times.push(one.at.saturating_duration_since(answered));
    }
    ensure!(accepted.is_empty(), "{} mails were never told", accepted.len());
    times.sort();
    let at = |percent: usize| times.get((count * percent / 100).min(count - 1)).map(Duration::as_secs_f64);
    let millis = |percent| at(percent).unwrap_or(f64::NAN) * 1000.0;
    let sent = f64::from(u32::try_from(count)?) / spent.as_secs_f64();
    println!(
        "{sent:.0} mails/s   250 to webhook: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        millis(50),
        millis(90),
        millis(99),
        millis(100)
    );
    Ok(())
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<(usize, usize)> {
    let (mut rate, mut seconds) = (100, 30);
    while let Some(name) = arguments.next() {
        let target = match name.as_str() {
            // Cargo's own.
            "--bench" => continue,
            "--rate" => &mut rate,
            "--seconds" => &mut seconds,
            _ => bail!("unknown argument {name}; the first lines of benches/webhooks.rs say which there are"),
        };
        let number = arguments.next().with_context(|| format!("{name} takes a number"))?;
        *target = number.parse().with_context(|| format!("{name} {number}"))?;
        ensure!(*target > 0, "{name} must be at least 1");
    }
    Ok((rate, seconds))
}

/// The program, and its addresses.
struct Server {
    child: Child,
    smtp: SocketAddr,
    api: AdminApi,
}

impl Server {
    fn start(folder: &Path, dns: SocketAddr, authority: &Authority) -> Result<Self> {
        let shown = folder.display();
        let config = folder.join("syncmx.toml");
        std::fs::write(
            &config,
            format!(
                "[smtp]\nlisten = [\"127.0.0.1:0\"]\n[http]\nlisten = \"127.0.0.1:0\"\n[dns]\nservers = [\"{dns}\"]\n\
                 [store]\nurl = \"sqlite://{shown}/data/syncmx.db\"\nblobs = \"file://{shown}/data/blobs\"\n\
                 [keys]\nfile = \"{shown}/data/keys.toml\"\n[webhook]\nallow_private = true\n"
            ),
        )?;
        let trust = authority.setting();
        let mut child = Command::new(env!("CARGO_BIN_EXE_syncmx"))
            .args(["serve", "--config"])
            .arg(&config)
            .envs(trust.split_once('='))
            .env("SYNCMX_ADMIN_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("server.log"))?)
            .spawn()?;
        let stdout = child.stdout.take().context("no output of the server")?;
        for line in BufReader::new(stdout).lines() {
            if let Some((smtp, http)) =
                line?.strip_prefix("syncmx ready smtp=").and_then(|rest| rest.split_once(" http="))
            {
                let api = AdminApi::new(&format!("http://{http}"), TOKEN)?;
                return Ok(Self { smtp: smtp.parse()?, api, child });
            }
        }
        bail!("the server did not start:\n{}", std::fs::read_to_string(folder.join("server.log"))?)
    }

    /// One user, their contacts, and a webhook. Gives the sync address.
    async fn open_account(&self, port: u16) -> Result<String> {
        // R52 would stop the user after 500 mails.
        let settings = json!({ "internal_domains": ["praxis-morgenrot.test"], "daily_limit": 1_000_000_000 });
        let made = self.api.post("/accounts", &json!({ "name": "Load", "settings": settings })).await?;
        let account = format!("/accounts/{}", made["id"].as_str().context("no account")?);
        let body = json!({ "name": "Lena Albrecht", "emails": [MAIL_FROM], "role": "staff" });
        let user = self.api.post(&format!("{account}/users"), &body).await?;
        for n in 0..CONTACTS {
            let body = json!({ "name": format!("Patient {n}"), "email": contact(n) });
            self.api.post(&format!("{account}/contacts"), &body).await?;
        }
        let hook = json!({ "url": format!("https://{HOST}:{port}/"), "events": ["message.filed"] });
        self.api.post(&format!("{account}/webhooks"), &hook).await?;
        Ok(user["sync"]["sync_address"].as_str().context("no sync address")?.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each mail at its time; gives the Message-IDs with the time of their 250.
async fn send(
    smtp: SocketAddr,
    sync: &str,
    share: Vec<(usize, Vec<u8>)>,
    start: Instant,
    rate: usize,
) -> Result<Vec<(String, Instant)>> {
    let mut mailer = Mailer::connect(smtp, CLIENT, HELO, &Security::Plain).await?;
    let mut accepted = Vec::with_capacity(share.len());
    for (number, raw) in share {
        let due = start + Duration::from_secs(1) * u32::try_from(number)? / u32::try_from(rate)?;
        tokio::time::sleep_until(due.into()).await;
        let answers = mailer.send(MAIL_FROM, &[sync.to_owned()], &raw).await?;
        let answered = Instant::now();
        let reply = answers.decisive();
        ensure!(reply.code == 250, "answered {}", reply.text);
        accepted.push((message_id(number), answered));
    }
    mailer.quit().await?;
    Ok(accepted)
}

fn mails(count: usize) -> Result<Vec<Vec<u8>>> {
    let signer = Signer::new("praxis-morgenrot.test", "google", Algorithm::Rsa)?;
    let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z").to_string();
    let text = "Please repeat the exercise in the morning and in the evening.\r\n".repeat(80);
    let mail = |number: usize| {
        let raw = format!(
            "From: Dr. Lena Albrecht <{MAIL_FROM}>\r\nTo: Patient <{}>\r\nSubject: Your plan number {number}\r\n\
             Date: {date}\r\nMessage-ID: <{}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n{text}",
            contact(number % CONTACTS),
            message_id(number)
        );
        Ok(signer.sign(raw.as_bytes())?)
    };
    (0..count).map(mail).collect()
}

fn message_id(number: usize) -> String {
    format!("load-{number}@praxis-morgenrot.test")
}

fn contact(n: usize) -> String {
    format!("patient-{n}@web-post.test")
}

const HOST: &str = "hooks.crm.test";
const TOKEN: &str = "smx_test_administrator_of_the_load_tool_0123456789abcdef";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 20));
const HELO: &str = "mail-ed1-f41.google-mail.test";
const MAIL_FROM: &str = "lena.albrecht@praxis-morgenrot.test";
const CONTACTS: usize = 200;
const SESSIONS: usize = 16;
