//! `syncmx audit`: the audit trail (R64), and whether it is whole.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::app;
use crate::cli::admin::{self, Output};
use crate::cli::trace::accounts;
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::id::AccountId;

/// `audit …`
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Show the trail of an account, newest first.
    List {
        /// The account's id, or `operator`.
        #[arg(value_parser = admin::account_or_operator)]
        account: AccountId,
        /// At or after, RFC 3339.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Before, RFC 3339.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// `token:<id>`, `user:<id>` (by a link that they were sent), `operator` or `system`.
        #[arg(long)]
        actor: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Look for rows that were removed, changed or moved, and print the head of each chain: noted elsewhere, it shows
    /// later that nobody has rewritten the whole chain.
    Verify {
        /// Of this account alone.
        #[arg(long, value_name = "ID")]
        account: Option<AccountId>,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(config: &Config, command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::List { account, since, until, actor, output } => {
            let query = admin::query(&[("since", since), ("until", until), ("actor", actor)]);
            admin::request(config, "GET", &format!("/accounts/{account}/audit{query}"), None, output).await
        }
        AuditCommand::Verify { account, output } => verify(config, account, output).await,
    }
}

async fn verify(config: &Config, only: Option<AccountId>, shown: Output) -> Result<ExitCode, Failure> {
    let (_, store) = app::open_store(config).await?;
    let mut faults = 0;
    for account in accounts(&store, only).await.map_err(|error| Failure::unreachable(&error))? {
        let check = store.verify_audit(account).await.map_err(|error| Failure::unreachable(&error))?;
        faults += check.faults.len();
        if shown.is_json() {
            output::json(&json!({
                "account_id": account, "rows": check.rows, "head": check.head, "head_hash": check.head_hash,
                "faults": check.faults,
            }));
            continue;
        }
        output::line(&format!("{account}  {} rows, head {} {}", check.rows, check.head, check.head_hash));
        for fault in &check.faults {
            output::line(&format!("  {fault}"));
        }
    }
    store.close().await;
    match faults {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(Failure::No("1 row of the audit trail is not as it was written".to_owned())),
        many => Err(Failure::No(format!("{many} rows of the audit trail are not as they were written"))),
    }
}
