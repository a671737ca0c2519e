//! `syncmx purge`: erases by message, contact, user or account (R60), to its end.
//!
//! It works beside a running server: pieces of both take turns.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::json;

use crate::cli::Failure;
use crate::cli::admin::{Output, print};
use crate::cli::local_api::LocalApi;
use crate::config::Config;
use crate::id::AccountId;

/// `purge --message ID | --contact ID | --user ID | --all`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["message", "contact", "user", "all"]))]
pub(super) struct Arguments {
    /// One message.
    #[arg(long, value_name = "ID")]
    message: Option<String>,
    /// A contact and its record.
    #[arg(long, value_name = "ID")]
    contact: Option<String>,
    /// A user and what is on record for them.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Everything in the account.
    #[arg(long)]
    all: bool,
    /// The account's id.
    #[arg(long, value_name = "ID")]
    account: AccountId,
    /// Count only; nothing is erased.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { message, contact, user, all, account, dry_run, output } = arguments;
    let body = json!({
        "message_id": message, "contact_id": contact, "user_id": user, "all": all, "dry_run": dry_run,
    });
    let api = LocalApi::open(config).await?;
    let mut answer = api.call("POST", &format!("/accounts/{account}/purge"), Some(body)).await?;
    if !dry_run && answer.get("done").and_then(serde_json::Value::as_bool) == Some(false) {
        api.finish_purges().await?;
        answer = json!({ "done": true });
    }
    print(&answer, output);
    api.close().await;
    Ok(ExitCode::SUCCESS)
}
