//! `syncmx purge`: erases by message, contact, user or account (R60), to its end.
//!
//! It works beside a running server: pieces of both take turns.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

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
        "message_id": &message, "contact_id": &contact, "user_id": &user, "all": all, "dry_run": dry_run,
    });
    let api = LocalApi::open(config).await?;
    let mut answer = api.call("POST", &format!("/accounts/{account}/purge"), Some(body)).await?;
    if !dry_run && answer.get("done").and_then(Value::as_bool) == Some(false) {
        let finished = api.finish_purges().await;
        let object = match (&message, &contact, &user) {
            (Some(id), ..) => format!("messages/{id}"),
            (_, Some(id), _) => format!("contacts/{id}"),
            (.., Some(id)) => format!("users/{id}"),
            (None, None, None) => "account".to_owned(),
        };
        // Another that failed is not this one's affair.
        answer = match counts_of(&api, account, &object).await? {
            Some(counts) => counts,
            None => finished.map(|()| json!({ "done": false }))?,
        };
    }
    print(&answer, output);
    api.close().await;
    Ok(ExitCode::SUCCESS)
}

/// What a purge that has ended says in the audit trail, whoever ended it; none if it goes on.
async fn counts_of(api: &LocalApi, account: AccountId, object: &str) -> Result<Option<Value>, Failure> {
    let mut path = format!("/accounts/{account}/audit?limit=200");
    loop {
        let page = api.call("GET", &path, None).await?;
        let rows = page.get("items").and_then(Value::as_array).into_iter().flatten();
        for row in rows.filter(|row| row.get("object").and_then(Value::as_str) == Some(object)) {
            match row.get("action").and_then(Value::as_str) {
                Some("purge.done") => {
                    let mut counts = row.get("detail").cloned().unwrap_or_default();
                    counts["done"] = Value::from(true);
                    return Ok(Some(counts));
                }
                // Where it began: what ended before was another.
                Some("purge") => return Ok(None),
                _ => {}
            }
        }
        let Some(next) = page.get("next").and_then(Value::as_str) else { return Ok(None) };
        path = format!("/accounts/{account}/audit?limit=200&cursor={next}");
    }
}
