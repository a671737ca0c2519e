//! An account's export, imported: all of it is looked at first, and nothing written if anything is wrong with it.
//!
//! Promises that an import which is cut short is finished by running it again, that a finished one changes nothing when
//! it is run again, and that an account that is here for another reason is left alone. Mail is taken for the account
//! once all is there.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app;
use crate::cli::Failure;
use crate::cli::transfer::reader::{Reader, Rows};
use crate::config::Config;
use crate::id::AccountId;
use crate::keys::Keys;
use crate::store::import::{Claim, ImportError, Importer, Incoming, Inspector, Standing, Taken};
use crate::store::lines::Kind;
use crate::store::{Store, StoreError};

/// What was imported.
#[derive(Debug)]
pub(in crate::cli) struct Report {
    pub(in crate::cli) account: AccountId,
    /// Nothing was to be done: it was imported before.
    pub(in crate::cli) was_done: bool,
    /// Messages on record: new here, and known.
    pub(in crate::cli) messages: Taken,
    /// Messages in the review queue, likewise.
    pub(in crate::cli) held: Taken,
    /// What is to be known or done.
    pub(in crate::cli) notes: Vec<String>,
}

/// Imports it.
pub(in crate::cli) async fn import(config: &Config, folder: &Path) -> Result<Report, Failure> {
    let reader = Reader::open(folder, config.smtp.max_message_size).map_err(Failure::No)?;
    let account = AccountId::from_uuid(reader.header.account_id);
    let (keys, store) = app::open_store(config).await?;
    let imported = import_into(config, &keys, &store, &reader, account).await;
    store.close().await;
    imported
}

async fn import_into(
    config: &Config,
    keys: &Arc<Keys>,
    store: &Store,
    reader: &Reader,
    account: AccountId,
) -> Result<Report, Failure> {
    let export = reader.header.export_id;
    let standing = store.standing(account, export).await.map_err(unreachable)?;
    let notes = notes(config, keys, reader);
    let mut report =
        Report { account, was_done: false, messages: Taken::default(), held: Taken::default(), notes };
    match standing {
        Standing::Absent | Standing::Begun => {}
        Standing::Done => {
            report.was_done = true;
            return Ok(report);
        }
        Standing::Emptied => {
            return Err(Failure::No(format!(
                "everything in account {account} was erased since its import was begun: it cannot be gone on with, \
                 and nothing was changed"
            )));
        }
        Standing::Foreign => {
            return Err(Failure::No(format!(
                "account {account} is here already, and does not come from this export: nothing was changed"
            )));
        }
    }
    report.notes.extend(look_through(store, reader, account).await?);
    let same_hash_key = reader.header.keys.address_hash == keys.address_hash_id();
    let importer = store.importer(account, export, same_hash_key);
    for kind in Kind::ALL {
        // They are written in one piece: what is there is whole.
        let is_there = standing == Standing::Begun && matches!(kind, Kind::Account | Kind::Audit);
        if !is_there {
            let taken = write_kind(reader, &importer, *kind).await?;
            report.count(*kind, taken);
        }
    }
    let counts = json!({ "messages": report.messages.taken, "held": report.held.taken });
    importer.finish(counts).await.map_err(unreachable)?;
    Ok(report)
}

impl Report {
    fn count(&mut self, kind: Kind, taken: Taken) {
        if kind == Kind::Held {
            self.held = taken;
        } else if kind == Kind::Messages {
            self.messages = taken;
        }
        if taken.left_out > 0 {
            self.notes.push(format!(
                "{} of {} were of no use here and left out",
                taken.left_out,
                kind.name()
            ));
        }
    }

    pub(in crate::cli) fn json(&self) -> Value {
        json!({
            "account_id": self.account, "was_imported_before": self.was_done,
            "messages": self.messages.taken, "messages_known": self.messages.known,
            "held": self.held.taken, "held_known": self.held.known, "notes": self.notes,
        })
    }
}

/// The whole export, before anything of it is written. Returns what is odd, but no reason to refuse it.
async fn look_through(store: &Store, reader: &Reader, account: AccountId) -> Result<Vec<String>, Failure> {
    let mut inspector = Inspector::new(account);
    for kind in Kind::ALL {
        let mut rows = reader.rows(*kind).map_err(Failure::No)?;
        let mut claims = Vec::new();
        while let Some(line) = rows.next().map_err(Failure::No)? {
            let looked = inspector.look(*kind, &line).map_err(|why| Failure::No(rows.at(&why)))?;
            if let Some((id, content)) = &looked.content {
                reader.check_content(*kind, *id, content).map_err(|why| Failure::No(rows.at(&why)))?;
            }
            claims.extend(looked.claim);
            if claims.len() >= CLAIMS_AT_ONCE {
                refuse_claimed(store, account, &rows, &std::mem::take(&mut claims)).await?;
            }
        }
        refuse_claimed(store, account, &rows, &claims).await?;
    }
    let faults = inspector.finish().map_err(Failure::No)?;
    Ok(faults.into_iter().map(|fault| format!("the audit trail that comes with it: {fault}")).collect())
}

/// The envelope recipient alone picks the account (R39): no two accounts may have one.
async fn refuse_claimed(
    store: &Store,
    account: AccountId,
    rows: &Rows,
    claims: &[Claim],
) -> Result<(), Failure> {
    match store.claimed_elsewhere(account, claims).await.map_err(unreachable)? {
        None => Ok(()),
        Some(Claim::Conversation(id)) => {
            Err(Failure::No(rows.at(&format!("or one before: conversation {id} is in another account here"))))
        }
        Some(Claim::LocalPart(part)) => Err(Failure::No(
            rows.at(&format!("or one before: {part} is another account's sync address here")),
        )),
    }
}

async fn write_kind(reader: &Reader, importer: &Importer, kind: Kind) -> Result<Taken, Failure> {
    let mut rows = reader.rows(kind).map_err(Failure::No)?;
    let account = AccountId::from_uuid(reader.header.account_id);
    let mut inspector = Inspector::new(account);
    let mut all = Taken::default();
    let mut batch = Batch::default();
    while let Some(line) = rows.next().map_err(Failure::No)? {
        let looked = inspector.look(kind, &line).map_err(|why| Failure::No(rows.at(&why)))?;
        let content = match looked.content {
            None => None,
            Some((id, named)) => {
                Some(reader.content(kind, id, &named).map_err(|why| Failure::No(rows.at(&why)))?)
            }
        };
        batch.add(Incoming { line, content });
        if batch.is_full(kind) {
            batch.write(importer, kind, &rows, &mut all).await?;
        }
    }
    batch.write(importer, kind, &rows, &mut all).await?;
    Ok(all)
}

/// Lines that are written in one transaction.
#[derive(Default)]
struct Batch {
    lines: Vec<Incoming>,
    octets: usize,
}

impl Batch {
    fn add(&mut self, incoming: Incoming) {
        self.octets += incoming.line.len() + incoming.content.as_ref().map_or(0, |content| content.len());
        self.lines.push(incoming);
    }

    fn is_full(&self, kind: Kind) -> bool {
        let limit = if matches!(kind, Kind::Held | Kind::Messages) { MESSAGES_AT_ONCE } else { ROWS_AT_ONCE };
        self.lines.len() >= limit || self.octets >= OCTETS_AT_ONCE
    }

    async fn write(
        &mut self,
        importer: &Importer,
        kind: Kind,
        rows: &Rows,
        all: &mut Taken,
    ) -> Result<(), Failure> {
        let Self { lines, .. } = std::mem::take(self);
        if lines.is_empty() {
            return Ok(());
        }
        let count = lines.len();
        let taken = importer.write(kind, lines).await.map_err(|error| match error {
            ImportError::Store(error) => unreachable(error),
            ImportError::Line(_) | ImportError::Refused(_) => {
                Failure::No(rows.at(&format!("or one of the {} before: {error}", count - 1)))
            }
        })?;
        all.taken += taken.taken;
        all.known += taken.known;
        all.left_out += taken.left_out;
        Ok(())
    }
}

/// What the operator is to know: keys that are not here, domains that are others.
fn notes(config: &Config, keys: &Keys, reader: &Reader) -> Vec<String> {
    let mut notes = Vec::new();
    if reader.problems > 0 {
        notes.push(format!(
            "{} files or rows could not be read when it was exported: manifest.json names them",
            reader.problems
        ));
    }
    let ours = keys.reply_token_ids();
    for (id, name) in &reader.header.keys.reply_tokens {
        if !ours.contains(&(*id, name.clone())) {
            notes.push(format!(
                "reply addresses made with key {id} ({name}) are unknown here: add that [[reply_token]] of the old key file to this one's"
            ));
        }
    }
    if reader.header.keys.address_hash != keys.address_hash_id() {
        notes.push(
            "address_hash is another key here: traces of discarded mail cannot be searched by address, and late retries \
             of what was erased are not known"
                .to_owned(),
        );
    }
    for (kind, theirs, ours) in [
        ("sync", &reader.header.sync_domains, &config.domains.sync),
        ("reply", &reader.header.reply_domains, &config.domains.reply),
    ] {
        for domain in theirs.iter().filter(|domain| !ours.contains(domain)) {
            notes.push(format!("{domain} is no {kind} domain here: its addresses are refused"));
        }
    }
    notes
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreachable(error: StoreError) -> Failure {
    Failure::unreachable(&error)
}

const MESSAGES_AT_ONCE: usize = 64;
const ROWS_AT_ONCE: usize = 250;
const OCTETS_AT_ONCE: usize = 8 * 1024 * 1024;
const CLAIMS_AT_ONCE: usize = 200;
