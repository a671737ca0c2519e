//! A whole account as a folder that another copy can import.
//!
//! Promises one point in time, a file's worth of memory, and that what is damaged is named in the manifest while the
//! rest goes on. The export is in the audit trail before anything is written.

use std::path::{Path, PathBuf};

use serde_json::json;
use uuid::Uuid;

use crate::app;
use crate::cli::Failure;
use crate::cli::transfer::folder::{Folder, Lines, Stream};
use crate::cli::transfer::{
    ACCOUNT, FORMAT, Header, KeyNames, MAX_LINE_OCTETS, content_path, rows_path, unwritable,
};
use crate::config::Config;
use crate::id::AccountId;
use crate::keys::Keys;
use crate::store::audit::{Act, Actor};
use crate::store::export::{Snapshot, Written};
use crate::store::lines::{ContentFile, Kind};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// What was exported.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Report {
    pub(in crate::cli) folder: PathBuf,
    /// Rows of all kinds.
    pub(in crate::cli) rows: u64,
    /// Messages, held ones too, as `.eml`.
    pub(in crate::cli) files: u64,
    /// What could not be read, or not be written.
    pub(in crate::cli) problems: u64,
}

/// Exports it.
pub(in crate::cli) async fn export(
    config: &Config,
    account: AccountId,
    target: &Path,
) -> Result<Report, Failure> {
    let (keys, store) = app::open_store(config).await?;
    let exported = export_from(config, &keys, &store, account, target).await;
    store.close().await;
    exported
}

async fn export_from(
    config: &Config,
    keys: &Keys,
    store: &Store,
    account: AccountId,
    target: &Path,
) -> Result<Report, Failure> {
    let unreachable = |error: StoreError| Failure::unreachable(&error);
    if store.account(account).await.map_err(unreachable)?.is_none() {
        return Err(Failure::No(format!("there is no account {account}")));
    }
    let export = Uuid::now_v7();
    let mut folder =
        Folder::create(target, &json!(header(config, keys, account, export))).map_err(unwritable(target))?;
    // R64: first, so that the trail in the export tells of it too.
    let act = Act {
        account,
        at: Timestamp::now(),
        actor: Actor::Operator.to_string(),
        action: "export".to_owned(),
        object: "account".to_owned(),
        detail: Some(json!({ "export_id": export })),
    };
    store.note(vec![act]).await.map_err(unreachable)?;
    let snapshot = store.snapshot(account).await.map_err(unreachable)?;
    let mut snapshot = snapshot.ok_or_else(|| Failure::No(format!("there is no account {account}")))?;
    if snapshot.is_being_purged().await.map_err(unreachable)? {
        return Err(Failure::No(
            "something is being erased in this account: export it when that is done".to_owned(),
        ));
    }
    let mut report = Report::default();
    for kind in Kind::ALL {
        write_kind(&mut folder, &mut snapshot, *kind, &mut report).await?;
    }
    folder.write("README.txt", README.as_bytes()).map_err(unwritable(target))?;
    report.problems = folder.problems();
    report.folder = folder.finish().map_err(unwritable(target))?;
    Ok(report)
}

fn header(config: &Config, keys: &Keys, account: AccountId, export: Uuid) -> Header {
    Header {
        format: FORMAT,
        kind: ACCOUNT.to_owned(),
        account_id: account.uuid(),
        export_id: export,
        made_at: Timestamp::now().to_rfc3339(),
        made_by: concat!("syncmx ", env!("CARGO_PKG_VERSION")).to_owned(),
        keys: KeyNames { address_hash: keys.address_hash_id(), reply_tokens: keys.reply_token_ids() },
        sync_domains: config.domains.sync.clone(),
        reply_domains: config.domains.reply.clone(),
    }
}

async fn write_kind(
    folder: &mut Folder,
    snapshot: &mut Snapshot,
    kind: Kind,
    report: &mut Report,
) -> Result<(), Failure> {
    let path = rows_path(kind);
    let failed = |error| Failure::Unreachable(format!("cannot write {path}: {error}"));
    let mut rows = folder.open(&path).map_err(failed)?;
    let mut after = None;
    loop {
        let page = snapshot.lines(kind, after).await.map_err(|error| Failure::unreachable(&error))?;
        for line in page.lines {
            write_line(folder, snapshot, &mut rows, kind, line, report).await?;
        }
        for why in page.unread {
            folder.miss(&path, why).map_err(failed)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    folder.close(rows, Lines::Count).map(|_| ()).map_err(failed)
}

async fn write_line(
    folder: &mut Folder,
    snapshot: &mut Snapshot,
    rows: &mut Stream,
    kind: Kind,
    line: Written,
    report: &mut Report,
) -> Result<(), Failure> {
    let unwritten = |error| Failure::Unreachable(format!("cannot write the export: {error}"));
    let content = match line.content_id() {
        None => None,
        Some(id) => {
            let path = content_path(kind, id);
            match snapshot.content(&line).await {
                Ok(None) => None,
                Ok(Some(raw)) => {
                    let entry = folder.write(&path, &raw).map_err(unwritten)?;
                    report.files += 1;
                    entry.size.zip(entry.sha256).map(|(size, sha256)| ContentFile { size, sha256 })
                }
                Err(
                    error @ (StoreError::Corrupt { .. } | StoreError::Damaged { .. } | StoreError::Seal(_)),
                ) => {
                    folder.miss(&path, error.one_line()).map_err(unwritten)?;
                    None
                }
                Err(error) => return Err(Failure::unreachable(&error)),
            }
        }
    };
    let id = line.content_id();
    let line = line.finish(content).map_err(|error| Failure::unreachable(&error))?;
    if line.len() as u64 >= MAX_LINE_OCTETS {
        let what = id.map_or_else(|| rows_path(kind), |id| content_path(kind, id));
        return folder
            .miss(&what, "its row is too long for an import: left out".to_owned())
            .map_err(unwritten);
    }
    report.rows += 1;
    rows.line(&line).map_err(unwritten)
}

const README: &str = "\
This is everything that syncmx keeps of one account, for another copy of it:

    syncmx import FOLDER

manifest.json   names every file with its size and SHA-256; a file with a \"problem\" could not be read
rows/           one file for each kind of row, one JSON object a line; times are Unix milliseconds UTC
messages/       the messages on record as they were received, under our trace fields
held/           the messages in the review queue, likewise

Not in it: keys. Reply addresses go on working if the [[reply_token]] keys of the old key file are in the new one before
it serves; the hashes of addresses and of what was erased mean something if `address_hash` is there too. API tokens and
the secrets of webhooks are made anew.

Nothing in this folder is sealed, even if the store it comes from is: whoever has it reads all of it. Erase it when it has been imported.
";
