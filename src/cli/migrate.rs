//! `syncmx migrate`: brings the store's schema up to date, beside running servers too; with `--seal-rows` or
//! `--unseal-rows`, while none runs, its rows.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Failure, output};
use crate::config::Config;
use crate::keys::Keys;
use crate::store::{RowsAs, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seal the rows too, for `store.seal_rows = true`; every server must be stopped.
    #[arg(long, conflicts_with = "unseal_rows")]
    seal_rows: bool,
    /// Make sealed rows clear again, for `store.seal_rows = false`; every server must be stopped.
    #[arg(long)]
    unseal_rows: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    const fn rows(&self) -> Option<RowsAs> {
        match (self.seal_rows, self.unseal_rows) {
            (true, _) => Some(RowsAs::Sealed),
            (false, true) => Some(RowsAs::Clear),
            (false, false) => None,
        }
    }
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let version = Store::migrate(&config.store).await.map_err(|error| Failure::unreachable(&error))?;
    let rewritten = match arguments.rows() {
        None => None,
        Some(rows) => {
            let keys = Keys::open(&config.keys).map_err(|error| Failure::unreachable(&error))?;
            let rewritten = Store::rewrite_rows(&config.store, &keys, rows).await;
            Some(rewritten.map_err(|error| Failure::unreachable(&error))?)
        }
    };
    if arguments.json {
        output::json(&json!({ "schema_version": version, "rows_rewritten": rewritten }));
    } else {
        output::line(&format!("{} has schema version {version}", config.store.url));
        if let Some(rows) = rewritten {
            output::line(&format!(
                "{rows} rows were rewritten; now set store.seal_rows = {}",
                arguments.seal_rows
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
