//! `syncmx trace`: why did this mail (not) arrive? Finds deliveries of all accounts and prints their steps.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::address::EmailAddress;
use crate::app;
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::id::{AccountId, DeliveryId};
use crate::store::views::{Delivery, DeliveryFilter, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// `trace ID | --message-id M | --from A --since T`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["id", "message_id", "from", "to", "since"]))]
pub(super) struct Arguments {
    /// A trace id, as the SMTP reply quotes it.
    id: Option<DeliveryId>,
    /// A Message-ID.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// An exact From address.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// An exact recipient.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// At or after, RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// In this account alone.
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Failure> {
    let filter = filter(&arguments)?;
    let (_, store) = app::open_store(config).await?;
    let found = search(&store, &arguments, &filter).await.map_err(|error| Failure::unreachable(&error))?;
    store.close().await;
    for (account, delivery) in &found {
        print(*account, delivery, &arguments);
    }
    if found.is_empty() {
        return Err(Failure::No("no such delivery".to_owned()));
    }
    Ok(ExitCode::SUCCESS)
}

fn filter(arguments: &Arguments) -> Result<DeliveryFilter, Failure> {
    let address = |option: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match EmailAddress::parse(text) {
            Some(address) => Ok(Some(address)),
            None => Err(Failure::Usage(format!("{option}: `{text}` is no address"))),
        },
    };
    let since = match &arguments.since {
        None => None,
        Some(text) => Some(
            Timestamp::parse_rfc3339(text)
                .ok_or_else(|| Failure::Usage(format!("--since: `{text}` is no RFC 3339 time")))?,
        ),
    };
    Ok(DeliveryFilter {
        from: address("--from", &arguments.from)?,
        to: address("--to", &arguments.to)?,
        message_id: arguments.message_id.clone(),
        since,
        ..DeliveryFilter::default()
    })
}

/// Account by account: no query crosses them (R4). The operator's own holds what belongs to nobody.
async fn search(
    store: &Store,
    arguments: &Arguments,
    filter: &DeliveryFilter,
) -> Result<Vec<(AccountId, Delivery)>, StoreError> {
    let mut found = Vec::new();
    for account in accounts(store, arguments.account).await? {
        if let Some(id) = arguments.id {
            found.extend(store.delivery(account, id).await?.map(|delivery| (account, delivery)));
        } else {
            let page = store.deliveries(account, filter, Slice::first(MAX_SHOWN)).await?;
            found.extend(page.items.into_iter().map(|delivery| (account, delivery)));
        }
    }
    Ok(found)
}

pub(super) async fn accounts(store: &Store, only: Option<AccountId>) -> Result<Vec<AccountId>, StoreError> {
    if let Some(only) = only {
        return Ok(vec![only]);
    }
    let mut all = vec![AccountId::OPERATOR];
    let mut slice = Slice::first(MAX_SHOWN);
    loop {
        let Page { items, next } = store.accounts(slice).await?;
        all.extend(items.iter().map(|account| account.id));
        match next {
            Some(after) => slice = Slice { after: Some(after), ..slice },
            None => return Ok(all),
        }
    }
}

fn print(account: AccountId, delivery: &Delivery, arguments: &Arguments) {
    if arguments.json {
        output::json(&json!({
            "account_id": account, "id": delivery.id, "at": delivery.at.to_rfc3339(), "peer": delivery.peer,
            "helo": delivery.helo, "tls": delivery.tls, "mail_from": delivery.mail_from, "rcpt": delivery.rcpt,
            "message_id_header": delivery.message_id_header, "from": delivery.from, "size": delivery.size_bytes,
            "auth": delivery.auth, "outcome": delivery.outcome, "reason": delivery.reason, "smtp": delivery.smtp,
            "message_id": delivery.message, "steps": delivery.steps,
        }));
        return;
    }
    output::line(&format!(
        "{}  {}  {} ({})",
        delivery.id,
        delivery.at.to_rfc3339(),
        delivery.outcome,
        delivery.reason
    ));
    output::line(&format!("  {:<8} {}", "account", account));
    output::line(&format!("  {:<8} {} ({})", "client", delivery.peer, delivery.helo));
    for (name, value) in [("from", &delivery.from), ("rcpt", &delivery.rcpt)] {
        if let Some(value) = value {
            output::line(&format!("  {name:<8} {value}"));
        }
    }
    for step in delivery.steps.as_array().into_iter().flatten() {
        let text =
            |key: &str| step.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        output::line(&format!("  {:<8} {}", text("rule"), text("said")));
    }
    output::line(&format!("  {:<8} {}\n", "smtp", delivery.smtp));
}

const MAX_SHOWN: u32 = 100;
