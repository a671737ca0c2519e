//! `check --blobs`: reads every stored message of every account, and names each that does not open; where rows are
//! sealed, also contacts and traces.
//!
//! Promises to hold [`AT_ONCE`] messages in memory, to go on behind a damaged one, and to stop where not a message but
//! the store itself is at fault.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::cli::check::report::{self, Line};
use crate::cli::output;
use crate::id::AccountId;
use crate::store::examine::{ContentId, ContentKind};
use crate::store::{Store, StoreError};

/// Prints each damaged message as it is found, then the sum; says whether anything is red.
pub(super) async fn check(store: &Store, as_json: bool) -> bool {
    let mut count = Count { as_json, ..Count::default() };
    count.look_at_file(store).await;
    match store.all_account_ids().await {
        Err(error) => count.stop(&error),
        Ok(accounts) => {
            for (account, kind) in accounts.into_iter().flat_map(|id| KINDS.map(|kind| (id, kind))) {
                if count.stopped {
                    break;
                }
                look_at_account(store, account, kind, &mut count).await;
            }
        }
    }
    count.finish()
}

/// What is left of a damaged store is too little, or its keys do not fit.
pub(super) fn cannot_be_opened(said: &str, as_json: bool) {
    report::print(&[Line::red("content", "", said, RESTORE)], as_json);
}

async fn look_at_account(store: &Store, account: AccountId, kind: ContentKind, count: &mut Count) {
    let mut after = None;
    loop {
        let ids = match store.contents(account, kind, after, PAGE).await {
            Ok(ids) => ids,
            Err(error @ (StoreError::Corrupt { .. } | StoreError::Damaged { .. })) => {
                // What lies behind a damaged page of the index cannot be listed.
                let behind = after.map_or_else(|| "its start".to_owned(), |id: ContentId| id.to_string());
                count.damaged(
                    &format!("account {account}"),
                    &format!("the list ends behind {behind}: {error}"),
                );
                return;
            }
            Err(error) => return count.stop(&error),
        };
        let Some(last) = ids.last() else { return };
        after = Some(*last);
        let mut opened = futures_util::stream::iter(ids)
            .map(|id| async move { (id, store.try_to_open(account, id).await) })
            .buffered(AT_ONCE);
        while let Some((id, result)) = opened.next().await {
            count.read += 1;
            match result {
                Ok(()) => {}
                Err(
                    error @ (StoreError::Corrupt { .. } | StoreError::Damaged { .. } | StoreError::Seal(_)),
                ) => {
                    count.damaged(&id.to_string(), &format!("of account {account}: {}", error.one_line()));
                }
                Err(error) => return count.stop(&error),
            }
            count.show_progress();
        }
    }
}

#[derive(Default)]
struct Count {
    as_json: bool,
    has_faults: bool,
    stopped: bool,
    read: u64,
    damaged: u64,
    shown_at: Option<Instant>,
}

impl Count {
    async fn look_at_file(&mut self, store: &Store) {
        match store.database_faults().await {
            Ok(faults) if faults.is_empty() => {}
            Ok(faults) => self.faulty(&faults.join("; ")),
            Err(error) => self.faulty(&error.one_line()),
        }
    }

    fn faulty(&mut self, said: &str) {
        self.has_faults = true;
        self.print(&Line::red("database", "", said, RESTORE));
    }

    fn damaged(&mut self, subject: &str, said: &str) {
        self.damaged += 1;
        if self.damaged <= MAX_NAMED {
            self.print(&Line::red("content", subject, said, RESTORE));
        }
    }

    fn stop(&mut self, error: &StoreError) {
        self.stopped = true;
        let said = format!("cannot be read on: {}", error.one_line());
        self.print(&Line::red("content", "", said, "look at store.url and store.blobs, then check again"));
    }

    fn finish(&mut self) -> bool {
        let said = format!(
            "{} items read (messages, held mail, traces, contacts), {} damaged",
            self.read, self.damaged
        );
        let is_sound = self.damaged == 0 && !self.stopped;
        self.print(&if is_sound {
            Line::ok("content", "", said)
        } else {
            Line::red("content", "", said, RESTORE)
        });
        !is_sound || self.has_faults
    }

    fn print(&self, line: &Line) {
        report::print(std::slice::from_ref(line), self.as_json);
    }

    /// On standard error, so that the lines stay what they are.
    fn show_progress(&mut self) {
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= PROGRESS_PAUSE);
        if self.shown_at.is_some() && is_due {
            output::progress(&format!("{} items read, {} damaged", self.read, self.damaged));
        }
        if is_due {
            self.shown_at = Some(Instant::now());
        }
    }
}

const KINDS: [ContentKind; 4] =
    [ContentKind::Messages, ContentKind::Held, ContentKind::Deliveries, ContentKind::Contacts];
const PAGE: NonZeroU32 = NonZeroU32::new(500).expect("is not zero");
/// One is read while another is opened.
const AT_ONCE: usize = 4;
/// Whoever has more has lost the blobs, not some messages.
const MAX_NAMED: u64 = 1000;
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);
const RESTORE: &str = "put database and blobs back from their backup, or ask the sender for the mail";
