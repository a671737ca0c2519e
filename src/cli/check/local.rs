//! What lies on this host: configuration, keys, store, disks, clock.

use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::app;
use crate::certificate::Facts;
use crate::cli::check::report::Line;
use crate::cli::{Failure, one_line};
use crate::clock::Distance;
use crate::config::{Config, StoreUrl};
use crate::keys::{KeyFileError, Keys, MasterKey, Origin};
use crate::smtp::room;
use crate::smtp::tls::Surveyed;
use crate::store::examine::Schema;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// What was found.
pub(super) struct Local {
    pub(super) lines: Vec<Line>,
    /// Open, if it can be opened.
    pub(super) store: Option<Store>,
    /// A part of its database is gone.
    pub(super) is_torn: bool,
    /// The newest of all deliveries.
    pub(super) last_delivery_at: Option<Timestamp>,
    /// When something was last ended by the clock.
    pub(super) clock_believed_at: Option<Timestamp>,
}

/// The configuration has been read, or there would be no check.
pub(super) fn configuration(file: Option<&Path>) -> Line {
    match file {
        Some(path) => Line::ok("config", &path.display().to_string(), "read"),
        None => Line::ok("config", "", "none: the built-in defaults, which serve this host alone"),
    }
}

pub(super) async fn check(config: &Config) -> Local {
    let schema = Schema::of(&config.store).await;
    let mut local = Local {
        lines: Vec::new(),
        store: None,
        is_torn: matches!(schema, Err(StoreError::Corrupt { .. })),
        last_delivery_at: None,
        clock_believed_at: None,
    };
    local.lines.push(keys(config, &schema));
    let store = store(config, schema).await;
    match store {
        Err(line) => local.lines.push(line),
        Ok(store) => {
            local.lines.push(writing(&store).await);
            local.last_delivery_at = last_delivery_at(&store).await;
            local.clock_believed_at = store.clock_mark().await.ok().flatten().map(|mark| mark.believed_at);
            local.store = Some(store);
        }
    }
    local.lines.extend(disks(config));
    local
}

fn keys(config: &Config, schema: &Result<Schema, StoreError>) -> Line {
    let path = &config.keys.file;
    let shown = path.display().to_string();
    if !path.exists() {
        return match schema {
            Ok(Schema::Absent) => Line::ok("keys", &shown, "not there yet: made on first start"),
            Ok(_) | Err(_) => Line::red(
                "keys",
                &shown,
                "missing, though there is a store",
                "put the file back from its backup; without it nothing stored can be read",
            ),
        };
    }
    // There is a file: none is made.
    match Keys::open(&config.keys) {
        Ok(keys) => {
            let MasterKey { id, origin, .. } = keys.master.current();
            let from = if origin == Origin::File { "" } else { origin.holder() };
            let said = format!("for its owner alone; master key {id} {from}");
            Line::ok("keys", &shown, said.trim_end())
        }
        Err(error @ (KeyFileError::Source { .. } | KeyFileError::NoMaster { .. })) => {
            Line::red("keys", &shown, one_line(&error), "let syncmx read its master key there")
        }
        Err(error) => Line::red(
            "keys",
            &shown,
            one_line(&error),
            format!(
                "chmod 600 {shown}, as the user that syncmx runs as, or put the file back from its backup"
            ),
        ),
    }
}

/// Opens what needs no change to be opened.
async fn store(config: &Config, schema: Result<Schema, StoreError>) -> Result<Store, Line> {
    let shown = config.store.url.to_string();
    let red = |said: String, mend: &str| Err(Line::red("store", &shown, said, mend));
    match schema {
        Err(error) => return red(error.one_line(), mending(&error)),
        Ok(Schema::Absent) => return Err(Line::ok("store", &shown, "not there yet: made on first start")),
        Ok(Schema::Newer(version)) => {
            let said = format!("has schema version {version}, which is newer than this program");
            return red(said, "run the newer syncmx, or put back the database from before the upgrade");
        }
        Ok(Schema::Behind(missing)) => {
            let said = format!("its schema lacks {missing} changes of this program");
            let mend = match &config.store.url {
                StoreUrl::Postgres(_) => "run `syncmx migrate`",
                StoreUrl::Sqlite(_) => "start `syncmx serve`, which makes them",
            };
            return Err(Line::warn("store", &shown, said, mend));
        }
        Ok(Schema::Current) if !config.keys.file.exists() => {
            return red("cannot be opened without its keys".to_owned(), "see keys");
        }
        Ok(Schema::Current) => {}
    }
    match app::open_store(config).await {
        Ok((_, store)) => Ok(store),
        Err(Failure::No(said) | Failure::Unreachable(said) | Failure::Usage(said)) => red(
            said,
            "put back the key file or the database that belong together, or end what holds the database",
        ),
    }
}

const fn mending(error: &StoreError) -> &'static str {
    match error {
        StoreError::Away { .. } => "start the database server, and let syncmx reach it and log in",
        StoreError::Unfit { .. } => "change that setting of the database server",
        StoreError::SchemaBehind { .. } => "run `syncmx migrate`",
        StoreError::RowsBetween { .. } | StoreError::RowsClear { .. } | StoreError::RowsSealed { .. } => {
            "let store.seal_rows say how the rows are, or change them with `syncmx migrate`"
        }
        StoreError::Corrupt { .. } | StoreError::Damaged { .. } => {
            "put the database back from its backup, with its -wal file; `check --blobs` names what is lost"
        }
        StoreError::Locked { .. } | StoreError::TimedOut => "end the other program that holds the database",
        StoreError::Closed
        | StoreError::Commit(_)
        | StoreError::Database(_)
        | StoreError::Defect(_)
        | StoreError::Migration(_)
        | StoreError::Importing
        | StoreError::NoSuchAccount
        | StoreError::SchemaNewer { .. }
        | StoreError::Seal(_)
        | StoreError::Unusable { .. }
        | StoreError::WrongMasterKey { .. } => {
            "let the user that syncmx runs as read and write database, blobs and their folders"
        }
    }
}

async fn writing(store: &Store) -> Line {
    match store.try_to_write().await {
        Ok(()) => Line::ok("store", "", "schema current; a row and a blob were written and taken back"),
        Err(error) => {
            Line::red("store", "", format!("cannot be written: {}", error.one_line()), mending(&error))
        }
    }
}

async fn last_delivery_at(store: &Store) -> Option<Timestamp> {
    let mut last = None;
    for account in store.all_account_ids().await.ok()? {
        last = last.max(store.last_delivery_at(account).await.ok().flatten());
    }
    last
}

/// What `serve` watches: below `needed` it puts mail off with 452.
fn disks(config: &Config) -> Vec<Line> {
    let needed = room::needed_bytes(config.smtp.max_message_size);
    config.mail_folders().iter().map(|folder| disk(folder, needed)).collect()
}

fn disk(folder: &Path, needed: u64) -> Line {
    let shown = folder.display().to_string();
    // What is not there yet will be made below what is.
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    match room::free_bytes(existing) {
        Err(error) => Line::red("disk", &shown, error.to_string(), "let syncmx's user look into the folder"),
        Ok(free) => {
            let said = format!("{} MiB free, {} MiB are needed", free / MIB, needed / MIB);
            let mend = "make room: below what is needed mail is put off with 452 4.3.1";
            if free < needed {
                Line::red("disk", &shown, said, mend)
            } else if free < needed.saturating_mul(SCARCE_TIMES) {
                Line::warn("disk", &shown, said, mend)
            } else {
                Line::ok("disk", &shown, said)
            }
        }
    }
}

/// The clock against whatever bears a time: this program's file, the certificates, the newest delivery, the server's
/// last work by the clock, and the Date of the web servers that were asked. The DNS tells no time.
pub(super) fn clock(
    pairs: &[Surveyed],
    last_delivery_at: Option<Timestamp>,
    believed_at: Option<Timestamp>,
    dates: &[Timestamp],
) -> Line {
    let now = Timestamp::now();
    let mut earliest: Vec<(&str, Timestamp)> = Vec::new();
    earliest.extend(program_file_at().map(|at| ("this program's file", at)));
    let leaves = pairs.iter().filter_map(|pair| pair.leaf.as_ref().ok());
    let facts = leaves.filter_map(|leaf| Facts::read(leaf).ok());
    earliest.extend(facts.map(|facts| ("the certificate's beginning", facts.not_before)));
    earliest.extend(last_delivery_at.map(|at| ("the newest delivery", at)));
    earliest.extend(believed_at.map(|at| (LAST_BELIEVED, at)));
    compare(now, &earliest, dates)
}

fn compare(now: Timestamp, earliest: &[(&str, Timestamp)], dates: &[Timestamp]) -> Line {
    let mend = "set the clock, and let NTP keep it (timedatectl set-ntp true)";
    let millis = |at: Timestamp| i128::from(at.as_millis());
    let shown = now.to_rfc3339();
    for (what, at) in earliest {
        if millis(*at) - millis(now) > LATE_MILLIS {
            let said = format!("{shown} is before {what} ({})", at.to_rfc3339());
            return Line::red("clock", "", said, mend);
        }
    }
    let believed = earliest.iter().find(|(what, _)| *what == LAST_BELIEVED);
    if let Some((what, at)) = believed.filter(|(_, at)| Distance::of(now, *at) == Distance::Ahead) {
        let said = format!("{shown} is more than two days after {what} ({})", at.to_rfc3339());
        let mend = "set the clock if it is wrong; if it is right, the server ends nothing before it has run for a day";
        return Line::warn("clock", "", said, mend);
    }
    let names: Vec<&str> = earliest.iter().map(|(what, _)| *what).collect();
    let apart = dates.iter().map(|date| (millis(*date) - millis(now)).abs()).max();
    match apart {
        Some(apart) if apart > APART_MILLIS => {
            let said = format!("{shown} is {} s from the Date of the policy's web server", apart / 1000);
            Line::warn("clock", "", said, mend)
        }
        Some(_) => {
            let said =
                format!("{shown}, not before {}, and as the policy's web server says", names.join(", "));
            Line::ok("clock", "", said)
        }
        None => {
            let said =
                format!("{shown}, not before {}; nobody else was asked for the time", names.join(", "));
            Line::ok("clock", "", said)
        }
    }
}

/// When the file was written: nobody runs a program before it is there.
fn program_file_at() -> Option<Timestamp> {
    let written = std::fs::metadata(std::env::current_exe().ok()?).ok()?.modified().ok()?;
    let millis = written.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(Timestamp::from_millis(i64::try_from(millis).ok()?))
}

/// Of the store, however many servers it has.
const LAST_BELIEVED: &str = "the server's last hourly work";
const MIB: u64 = 1 << 20;
/// Below so many times what is needed, somebody should look.
const SCARCE_TIMES: u64 = 4;
/// Clocks of file servers and of nodes beside us are never quite ours.
const LATE_MILLIS: i128 = 5 * 60 * 1000;
/// RFC 6376 signatures and TLS bear more; a difference like this is no coincidence.
const APART_MILLIS: i128 = 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_what_has_happened_is_red_and_one_far_from_others_is_yellow() {
        let now = Timestamp::from_millis(1_795_315_445_120);
        let later = |millis: i64| Timestamp::from_millis(now.as_millis() + millis);
        let minutes = 60 * 1000;
        let state = |earliest: i64, date: i64| {
            compare(now, &[("the newest delivery", later(earliest))], &[now, later(date)]).state()
        };
        assert_eq!(state(5 * minutes, minutes), "ok");
        assert_eq!(state(5 * minutes + 1, 0), "red");
        assert_eq!(state(0, -minutes - 1), "warn");
        let days = 24 * 60 * minutes;
        let started = |believed: i64| compare(now, &[(LAST_BELIEVED, later(believed))], &[now]).state();
        assert_eq!(started(-2 * days), "ok");
        assert_eq!(started(-2 * days - 1), "warn", "nothing is ended by it yet");
        assert_eq!(started(5 * minutes + 1), "red");
    }

    #[test]
    fn a_disk_is_red_below_what_is_needed_and_yellow_before() {
        let folder = std::env::temp_dir().join("not/there/yet");
        let free = room::free_bytes(&std::env::temp_dir()).unwrap();
        assert!(disk(&folder, free * 2).is_red());
        assert!(!disk(&folder, free / 2).is_red());
        assert_eq!(room::needed_bytes(1) / MIB, 64);
    }
}
