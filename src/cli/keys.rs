//! `syncmx keys list | rotate | revoke`: the keys that reply addresses are made with, master keys, and accounts' keys.
//!
//! Reply-token keys are a matter of the key file alone; a running server on this file takes a change up within a
//! second, or on SIGHUP. Master and account keys are rotated beside running servers, too. A rotation that was
//! interrupted is gone on with by the same command, and no other is begun.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::app;
use crate::cli::admin::Output;
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::id::AccountId;
use crate::keys::{self, KeyFileError, MasterKeyId, Origin};
use crate::store::Store;
use crate::store::directory::DirectoryError;

/// `keys …`
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List keys by id; of reply addresses the oldest first: the last one makes new addresses.
    List {
        /// Of which kind.
        #[arg(value_enum, default_value = "reply")]
        kind: Kind,
        #[command(flatten)]
        output: Output,
    },
    /// Put a new key in the place of one, which is still good for what was made with it.
    Rotate(RotateArguments),
    /// Take a retired key away: `revoke ID` of reply addresses, which then answer 550, or `revoke master ID`.
    Revoke {
        /// The key's id; `master` before that of a master key.
        #[arg(value_name = "[KIND] ID", required = true, num_args = 1..=2)]
        key: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct RotateArguments {
    /// Of which kind.
    #[arg(value_enum, default_value = "reply")]
    kind: Kind,
    /// Whose key.
    account: Option<AccountId>,
    /// Every account's key.
    #[arg(long, conflicts_with = "account")]
    all: bool,
    /// Add a master key that only opens as yet, so that other hosts can be given the key file first.
    #[arg(long)]
    prepare: bool,
    #[command(flatten)]
    output: Output,
}

/// Which keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// An account's, which wraps the keys of its messages.
    Account,
    /// Which wraps the accounts' keys.
    Master,
    /// Of reply addresses.
    Reply,
}

pub(super) async fn run(config: &Config, command: KeysCommand) -> Result<ExitCode, Failure> {
    match command {
        KeysCommand::List { kind, output } => list(config, kind, output).await?,
        KeysCommand::Rotate(arguments) => rotate(config, arguments).await?,
        KeysCommand::Revoke { key } => revoke(config, &key).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(config: &Config, kind: Kind, output: Output) -> Result<(), Failure> {
    match kind {
        Kind::Account => {
            let (_, store) = app::open_store(config).await?;
            let retired = store.retired_keys().await.map_err(|error| Failure::unreachable(&error))?;
            for (account, number, since) in retired {
                let (number, since) = (number.as_i64(), since.to_rfc3339());
                let json =
                    json!({ "account_id": account, "number": number, "state": "retired", "since": since });
                say(output, &json, &format!("{account}  {number:3}  retired  {since}"));
            }
            store.close().await;
        }
        Kind::Master => list_masters(config, output).await?,
        Kind::Reply => {
            let tokens = keys::reply_tokens(&config.keys.file).map_err(|error| failure(&error))?;
            for (n, key) in tokens.iter().enumerate() {
                let state = if n + 1 == tokens.len() { "issuing" } else { "retired" };
                say(output, &json!({ "id": key.id, "state": state }), &format!("{:3}  {state}", key.id));
            }
        }
    }
    Ok(())
}

async fn list_masters(config: &Config, output: Output) -> Result<(), Failure> {
    let (keys, store) = app::open_store(config).await?;
    let uses = store.master_uses().await.map_err(|error| Failure::unreachable(&error))?;
    for (n, key) in keys.master.all().iter().enumerate() {
        let state = if n == 0 { "wrapping" } else { "opening" };
        let used = uses.get(&Some(key.id)).copied().unwrap_or_default();
        let (accounts, older, from) = (used.accounts, used.older_keys, key.origin.as_str());
        let json = json!({
            "id": key.id.to_string(), "state": state, "from": from, "accounts": accounts, "older_keys": older,
        });
        let text = format!("{}  {state}  {from}  {accounts} accounts, {older} of their older keys", key.id);
        say(output, &json, &text);
    }
    if let Some(used) = uses.get(&None) {
        let (accounts, older) = (used.accounts, used.older_keys);
        let json = json!({ "id": null, "state": "unnamed", "accounts": accounts, "older_keys": older });
        say(output, &json, &format!("{:8}  unnamed  {accounts} accounts, {older} of their older keys", "-"));
    }
    store.close().await;
    Ok(())
}

async fn rotate(config: &Config, arguments: RotateArguments) -> Result<(), Failure> {
    let RotateArguments { kind, account, all, prepare, output } = arguments;
    let wants_account = kind == Kind::Account;
    if wants_account != (account.is_some() || all) || prepare && kind != Kind::Master {
        return Err(Failure::Usage(
            "keys rotate [reply] | keys rotate master [--prepare] | keys rotate account ID | keys rotate account --all"
                .to_owned(),
        ));
    }
    match kind {
        Kind::Account => rotate_accounts(config, account, output).await,
        Kind::Master if prepare => prepare_master(config, output),
        Kind::Master => rotate_master(config, output).await,
        Kind::Reply => {
            let id = keys::rotate(&config.keys.file).map_err(|error| failure(&error))?;
            say(output, &json!({ "id": id, "state": "issuing" }), &format!("{id:3}  issuing"));
            Ok(())
        }
    }
}

fn prepare_master(config: &Config, output: Output) -> Result<(), Failure> {
    if config.keys.has_source() {
        return Err(Failure::No(
            "the key file does not hold the master key: add the new one where it is".to_owned(),
        ));
    }
    let id = keys::prepare_master(&config.keys.file).map_err(|error| failure(&error))?;
    say(output, &json!({ "id": id.to_string(), "state": "opening" }), &format!("{id}  opening"));
    Ok(())
}

/// One that was interrupted is gone on with: no further key is made then.
async fn rotate_master(config: &Config, output: Output) -> Result<(), Failure> {
    let unreachable = |error| Failure::unreachable(&error);
    let (keys, store) = app::open_store(config).await?;
    let uses = store.master_uses().await.map_err(unreachable)?;
    let current = keys.master.current();
    let is_under_way = uses.keys().flatten().any(|id| *id != current.id);
    if current.origin == Origin::File && !is_under_way {
        keys::rotate_master(&config.keys.file).map_err(|error| failure(&error))?;
        keys.master.read_again().map_err(|error| failure(&error))?;
    }
    let rewrapped = store.rewrap_account_keys().await.map_err(unreachable)?;
    let id = keys.master.current().id;
    let json = json!({ "id": id.to_string(), "state": "wrapping", "rewrapped": rewrapped });
    say(output, &json, &format!("{id}  wrapping  {rewrapped} keys wrapped anew"));
    store.close().await;
    Ok(())
}

async fn rotate_accounts(config: &Config, account: Option<AccountId>, output: Output) -> Result<(), Failure> {
    let (_, store) = app::open_store(config).await?;
    let accounts = match account {
        Some(account) => vec![account],
        None => store.all_account_ids().await.map_err(|error| Failure::unreachable(&error))?,
    };
    for account in accounts {
        rotate_account(&store, account, output).await?;
    }
    store.close().await;
    Ok(())
}

async fn rotate_account(store: &Store, account: AccountId, output: Output) -> Result<(), Failure> {
    let rotated = store.rotate_account_key(account, "operator").await.map_err(|error| match error {
        DirectoryError::Store(error) => Failure::unreachable(&error),
        error @ (DirectoryError::Conflict(_)
        | DirectoryError::Invalid { .. }
        | DirectoryError::NotFound(_)) => Failure::No(error.to_string()),
    })?;
    let (number, rewrapped) = (rotated.number.as_i64(), rotated.rewrapped);
    let state = if rotated.is_begun { "rotated" } else { "resumed" };
    let json = json!({ "account_id": account, "number": number, "state": state, "rewrapped": rewrapped });
    say(output, &json, &format!("{account}  {number:3}  {state}  {rewrapped} keys wrapped anew"));
    Ok(())
}

async fn revoke(config: &Config, key: &[String]) -> Result<(), Failure> {
    let path = &config.keys.file;
    match key.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [id] | ["reply", id] => {
            let id = id
                .parse()
                .map_err(|_| Failure::Usage(format!("`{id}` is no id of a reply key (0 to 255)")))?;
            keys::revoke(path, id).map_err(|error| failure(&error))
        }
        ["master", id] => revoke_master(config, path, id.parse().map_err(Failure::Usage)?).await,
        _ => Err(Failure::Usage("keys revoke ID | keys revoke master ID".to_owned())),
    }
}

/// Only what nothing is wrapped by: without it, that could never be read again.
async fn revoke_master(config: &Config, path: &Path, id: MasterKeyId) -> Result<(), Failure> {
    let_servers_look(path).await;
    let (keys, store) = app::open_store(config).await?;
    let uses = store.master_uses().await.map_err(|error| Failure::unreachable(&error))?;
    store.close().await;
    let current = keys.master.current();
    if current.id == id {
        return Err(failure(&KeyFileError::Wrapping(id)));
    }
    let of = |id| uses.get(&id).map_or(0, |used| used.accounts + used.older_keys);
    let needed = of(Some(id)) + of(None);
    if needed > 0 {
        return Err(Failure::No(format!(
            "master key {id} may not go: {needed} keys of accounts need it; run `syncmx keys rotate master` first"
        )));
    }
    let origin = keys.master.find(id).map_or(Origin::File, |key| key.origin);
    if origin != Origin::File {
        let place = origin.holder();
        return Err(Failure::No(format!("nothing needs master key {id} any more: take it out of {place}")));
    }
    let revoke = if current.origin == Origin::File { keys::revoke_master } else { keys::remove_master };
    revoke(path, id).map_err(|error| failure(&error))
}

/// Servers on this file look at it every second: after so long none wraps with a key that was the first before.
async fn let_servers_look(path: &Path) {
    let changed = tokio::fs::metadata(path).await.and_then(|found| found.modified());
    if let Some(age) = changed.ok().and_then(|at| at.elapsed().ok()) {
        tokio::time::sleep(SERVERS_LOOK.saturating_sub(age)).await;
    }
}

const SERVERS_LOOK: Duration = Duration::from_secs(3);

fn say(output: Output, json: &Value, text: &str) {
    let line = if output.is_json() { json.to_string() } else { text.to_owned() };
    output::line(&line);
}

fn failure(error: &KeyFileError) -> Failure {
    match error {
        KeyFileError::Issuing(_)
        | KeyFileError::NoSuchKey(_)
        | KeyFileError::NoSuchMaster(_)
        | KeyFileError::TooMany
        | KeyFileError::TooManyMasters
        | KeyFileError::Wrapping(_) => Failure::No(error.to_string()),
        KeyFileError::Malformed { .. }
        | KeyFileError::NoMaster { .. }
        | KeyFileError::NoRandomness
        | KeyFileError::OtherKeys
        | KeyFileError::Readable { .. }
        | KeyFileError::Source { .. }
        | KeyFileError::Unusable { .. } => Failure::unreachable(error),
    }
}
