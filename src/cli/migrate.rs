//! `syncmx migrate`: brings the store's schema up to date, beside running servers too.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Failure, output};
use crate::config::Config;
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let version = Store::migrate(&config.store).await.map_err(|error| Failure::unreachable(&error))?;
    if arguments.json {
        output::json(&json!({ "schema_version": version }));
    } else {
        output::line(&format!("{} has schema version {version}", config.store.url));
    }
    Ok(ExitCode::SUCCESS)
}
