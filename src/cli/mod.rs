//! The command line (CONTRACT, "Command line"): one file per command.
//!
//! Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 the store or network could not be reached. What goes
//! wrong is one line on standard error.

mod admin;
mod audit;
mod check;
pub mod demo;
mod demo_command;
mod dkim_key;
mod dns;
mod explain;
mod export;
mod import;
mod inspect;
mod keys;
mod local_api;
mod log_sink;
mod migrate;
mod output;
mod purge;
mod records;
mod trace;
mod transfer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::app::App;
use crate::cli::log_sink::LogSink;
use crate::config::{Config, LogFormat};
use crate::store::Store;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The answer is no: exit 1.
    #[error("{0}")]
    No(String),
    /// Store or network could not be reached: exit 3.
    #[error("{0}")]
    Unreachable(String),
    /// Wrong usage or configuration: exit 2.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// An error of store or network as one line, its causes included.
    pub fn unreachable(error: &dyn std::error::Error) -> Self {
        Self::Unreachable(one_line(error))
    }

    const fn exit_code(&self) -> u8 {
        match self {
            Self::No(_) => 1,
            Self::Unreachable(_) => 3,
            Self::Usage(_) => 2,
        }
    }
}

/// Files email onto CRM contact records: a mail exchanger.
#[derive(Debug, Parser)]
#[command(name = "syncmx", version, propagate_version = true)]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, env = "SYNCMX_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run SMTP and HTTP.
    Serve(ServeArguments),
    /// Bring the store's schema up to date; `serve` does so by itself with SQLite.
    Migrate(migrate::Arguments),
    /// Run on a throw-away data folder with a demo practice, and show what becomes of its mail.
    Demo(demo_command::Arguments),
    /// Ask the real world whether mail can come in: DNS, certificate, ports, store, clock, disk.
    Check(check::Arguments),
    /// Print the zone records to publish for the configured domains.
    Dns(dns::Arguments),
    /// Explain what would become of mails, rule by rule; stores nothing.
    Explain(explain::Arguments),
    /// Authenticate and parse mails; needs no store.
    Inspect(inspect::Arguments),
    /// Create, show and set accounts.
    #[command(subcommand)]
    Account(admin::AccountCommand),
    /// Create and show users, rotate and disconnect their sync addresses.
    #[command(subcommand)]
    User(admin::UserCommand),
    /// Create, show and import contacts.
    #[command(subcommand)]
    Contact(admin::ContactCommand),
    /// Mint and revoke reply addresses.
    #[command(subcommand)]
    ReplyAddress(admin::ReplyAddressCommand),
    /// List, rotate and revoke keys: of reply addresses, master keys, accounts' keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Take filed mail back from the record.
    #[command(subcommand)]
    Message(admin::MessageCommand),
    /// List held mail, file or discard it.
    #[command(subcommand)]
    Held(admin::HeldCommand),
    /// Show what goes through the smarthost.
    #[command(subcommand)]
    Relay(admin::RelayCommand),
    /// Make a DKIM key for what the relay sends, and print the records to publish.
    DkimKey(dkim_key::Arguments),
    /// Create, list and delete API tokens.
    #[command(subcommand)]
    Token(admin::TokenCommand),
    /// Find deliveries and print why they ended as they did.
    Trace(trace::Arguments),
    /// Erase a message, a contact, a user, or everything in an account.
    Purge(purge::Arguments),
    /// Write the record of a contact for people, or a whole account for another copy, into a folder.
    Export(export::Arguments),
    /// Take up an account that another copy has exported.
    Import(import::Arguments),
    /// Show the audit trail, and verify that it is whole.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

#[derive(Debug, clap::Args)]
struct ServeArguments {
    /// Bring the schema of a PostgreSQL store up to date first.
    #[arg(long)]
    migrate: bool,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(arguments.config.as_deref(), environment()) {
        Ok(config) => config,
        Err(error) => return fail(&Failure::Usage(error.to_string())),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::unreachable(&error)),
    };
    let done = runtime.block_on(Box::pin(carry_out(arguments.command, config, arguments.config.as_deref())));
    // A disk that hangs keeps its thread, and must not keep the process.
    runtime.shutdown_timeout(LEFTOVER_LIMIT);
    done.unwrap_or_else(|failure| fail(&failure))
}

const LEFTOVER_LIMIT: Duration = Duration::from_secs(1);

#[expect(clippy::cognitive_complexity, reason = "one arm a command")]
async fn carry_out(command: Command, config: Config, file: Option<&Path>) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(arguments) => serve(&config, file, &arguments).await,
        Command::Migrate(arguments) => migrate::run(&config, &arguments).await,
        Command::Demo(arguments) => demo_command::run(arguments).await,
        Command::Check(arguments) => Box::pin(check::run(&config, file, &arguments)).await,
        Command::Dns(arguments) => dns::run(&config, &arguments),
        Command::Explain(arguments) => Box::pin(explain::run(&config, arguments)).await,
        Command::Inspect(arguments) => Box::pin(inspect::run(&config, arguments)).await,
        Command::Account(command) => admin::account(&config, command).await,
        Command::User(command) => admin::user(&config, command).await,
        Command::Contact(command) => admin::contact(&config, command).await,
        Command::ReplyAddress(command) => admin::reply_address(&config, command).await,
        Command::Keys(command) => Box::pin(keys::run(&config, command)).await,
        Command::Held(command) => admin::held(&config, command).await,
        Command::Relay(command) => admin::relay(&config, command).await,
        Command::DkimKey(arguments) => dkim_key::run(&config, &arguments),
        Command::Token(command) => admin::token(&config, command).await,
        Command::Trace(arguments) => trace::run(&config, arguments).await,
        Command::Message(command) => admin::message(&config, command).await,
        Command::Purge(arguments) => purge::run(&config, arguments).await,
        Command::Export(arguments) => Box::pin(export::run(&config, arguments)).await,
        Command::Import(arguments) => Box::pin(import::run(&config, arguments)).await,
        Command::Audit(command) => audit::run(&config, command).await,
    }
}

async fn serve(
    config: &Config,
    file: Option<&Path>,
    arguments: &ServeArguments,
) -> Result<ExitCode, Failure> {
    let log = start_logging(config);
    let served = serve_until_stopped(config, file, arguments).await;
    log.flush();
    served
}

async fn serve_until_stopped(
    config: &Config,
    file: Option<&Path>,
    arguments: &ServeArguments,
) -> Result<ExitCode, Failure> {
    if arguments.migrate {
        Store::migrate(&config.store).await.map_err(|error| Failure::unreachable(&error))?;
    }
    let admin_token = std::env::var("SYNCMX_ADMIN_TOKEN").ok().filter(|token| !token.is_empty());
    let app = App::start(config, admin_token.as_deref()).await?;
    app.announce();
    app.run(|| Config::load(file, environment())).await?;
    Ok(ExitCode::SUCCESS)
}

/// The variables that are text; another cannot be one of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Logs go to standard error; standard output is for what was asked.
fn start_logging(config: &Config) -> LogSink {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let filter: tracing_subscriber::filter::Targets = config.log.level.parse().unwrap_or_default();
    // An endpoint's bad certificate is that webhook's attempt, not an error of ours.
    let filter = filter.with_target("rustls_platform_verifier", tracing_subscriber::filter::LevelFilter::OFF);
    let registry = tracing_subscriber::registry().with(filter);
    let sink = LogSink::start(std::io::stderr(), config.log.format);
    // A second start in one process (tests) keeps the first subscriber.
    let _second = match config.log.format {
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(sink.clone())).try_init()
        }
        LogFormat::Text => registry
            .with(tracing_subscriber::fmt::layer().with_ansi(output::is_coloured()).with_writer(sink.clone()))
            .try_init(),
    };
    sink
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("syncmx: {failure}");
    ExitCode::from(failure.exit_code())
}

/// An error and its causes, joined by colons, without line breaks.
#[must_use]
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line.replace(['\n', '\r'], " ")
}
