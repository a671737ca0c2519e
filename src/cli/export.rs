//! `syncmx export`: the record of one contact for people, or a whole account for another copy.
//!
//! It works beside a running server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::json;

use crate::cli::admin::{Output, print};
use crate::cli::transfer::contact::{InternalHistory, Wanted};
use crate::cli::transfer::{account, contact};
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::id::{AccountId, ContactId};

/// `export --contact ID | --account ID`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["contact", "account"]))]
pub(super) struct Arguments {
    /// The record of this contact, for people.
    #[arg(long, value_name = "ID")]
    contact: Option<ContactId>,
    /// Without a contact, the whole account in clear, for `syncmx import`; with one, the account that has it.
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// The folder to make; `contact-ID` or `account-ID` otherwise. It must not be there, or be empty.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Of a contact: what staff wrote among themselves below an answer, too.
    #[arg(long, requires = "contact")]
    internal_history: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { contact, account, out, internal_history, output } = arguments;
    match (contact, account) {
        (Some(contact), account) => {
            let target = out.unwrap_or_else(|| PathBuf::from(format!("contact-{contact}")));
            let internal_history =
                if internal_history { InternalHistory::Shown } else { InternalHistory::Withheld };
            let wanted = Wanted { contact, account, target: &target, internal_history };
            of_contact(config, &wanted, output).await
        }
        (None, Some(account)) => {
            let target = out.unwrap_or_else(|| PathBuf::from(format!("account-{account}")));
            let report = account::export(config, account, &target).await?;
            let shown = json!({
                "folder": report.folder, "rows": report.rows, "originals": report.files,
                "problems": report.problems,
            });
            print(&shown, output);
            if !output.is_json() {
                output::line(CLEAR);
            }
            ended(report.problems)
        }
        (None, None) => Err(Failure::Usage("--contact or --account is needed".to_owned())),
    }
}

async fn of_contact(config: &Config, wanted: &Wanted<'_>, shown: Output) -> Result<ExitCode, Failure> {
    let report = contact::export(config, wanted).await?;
    let answer = json!({
        "folder": report.folder, "messages": report.messages, "originals": report.files,
        "attachments": report.attachments, "withheld": report.withheld, "held": report.held,
        "problems": report.problems,
    });
    print(&answer, shown);
    if !shown.is_json() {
        output::line(CLEAR);
    }
    if !shown.is_json() && report.held > 0 {
        output::line(
            "Held mail that waits for this contact is on no record, and not in it: see `syncmx held list`.",
        );
    }
    ended(report.problems)
}

const CLEAR: &str = "Nothing in it is sealed, however the store is: whoever has the folder reads it. Erase it when it has served.";

/// All is in it, or the manifest names what is not.
fn ended(problems: u64) -> Result<ExitCode, Failure> {
    match problems {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::No(
            "1 file or row could not be read: manifest.json names it, the rest is there".to_owned(),
        )),
        many => Err(Failure::No(format!(
            "{many} files or rows could not be read: manifest.json names them, the rest is there"
        ))),
    }
}
