//! `syncmx import`: an account that another copy has exported.
//!
//! It works beside a running server, which takes mail for the account once all of it is there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::admin::Output;
use crate::cli::transfer::take;
use crate::cli::{Failure, output};
use crate::config::Config;

/// `import FOLDER`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What `syncmx export --account` has made.
    folder: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Failure> {
    let report = take::import(config, &arguments.folder).await?;
    if arguments.output.is_json() {
        output::json(&report.json());
        return Ok(ExitCode::SUCCESS);
    }
    if report.was_done {
        output::line(&format!(
            "Account {} was imported from it before: nothing was changed.",
            report.account
        ));
    } else {
        let (messages, held) = (report.messages, report.held);
        output::line(&format!(
            "Account {} is imported: {} messages ({} known), {} held ({} known).",
            report.account, messages.taken, messages.known, held.taken, held.known
        ));
    }
    for note in &report.notes {
        output::line(&format!("- {note}"));
    }
    Ok(ExitCode::SUCCESS)
}
