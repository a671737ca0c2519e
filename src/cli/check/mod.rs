//! `syncmx check`: asks the real world, one line for each thing asked, green, yellow or red; each red one says how to
//! mend it.
//!
//! Promises to change nothing: no file or schema is made, what is written on trial is taken back. Everything that
//! waits for others runs side by side under a timeout; the lines come in a fixed order all the same.

mod certificates;
mod content;
mod local;
mod names;
mod policy;
mod ports;
mod report;
mod scanner;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::app;
use crate::auth::Probe;
use crate::cli::Failure;
use crate::config::Config;
use crate::smtp::tls::Certificates;

use report::Line;

/// `check [--blobs]`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Also read and open every stored message.
    #[arg(long)]
    blobs: bool,
    /// The port of HTTPS at mta-sts.<domain>, for a host whose proxy is not reached from here at 443.
    #[arg(long, value_name = "PORT", default_value_t = policy::HTTPS_PORT)]
    https_port: u16,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    config: &Config,
    file: Option<&Path>,
    arguments: &Arguments,
) -> Result<ExitCode, Failure> {
    let pairs = Certificates::survey(&config.tls, config.data_folder());
    let probe = Probe::new(&config.dns).map_err(|error| Failure::unreachable(&error))?;
    let (local, ports, scanner, (names, dates)) = tokio::join!(
        local::check(config),
        ports::check(config, &pairs),
        scanner::check(config),
        names::check(config, &probe, arguments.https_port),
    );
    let mut lines = vec![local::configuration(file)];
    lines.extend(local.lines);
    lines.push(local::clock(&pairs, local.last_delivery_at, local.clock_believed_at, &dates));
    lines.extend(certificates::check(config, &pairs));
    lines.extend(ports);
    lines.extend(scanner);
    lines.extend(names);
    report::print(&lines, arguments.json);
    let mut is_red = lines.iter().any(Line::is_red);
    let store = match local.store {
        None if arguments.blobs && local.is_torn => match app::open_torn_store(config).await {
            Ok(left) => Some(left),
            Err(Failure::No(said) | Failure::Unreachable(said) | Failure::Usage(said)) => {
                content::cannot_be_opened(&said, arguments.json);
                None
            }
        },
        store => store,
    };
    if let Some(store) = store {
        if arguments.blobs {
            is_red |= content::check(&store, arguments.json).await;
        }
        store.close().await;
    }
    Ok(if is_red { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// For one answer of a stranger.
const PATIENCE: Duration = Duration::from_secs(5);
