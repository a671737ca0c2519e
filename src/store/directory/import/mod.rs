//! Importing contacts from CSV or NDJSON, line by line, in bounded memory, for API and command alike.
//!
//! A bad line is reported with its number and does not stop the others. A contact is found by external id, else
//! by primary email (R21), and updated; what is not found is made. What an import leaves empty stays as it was.

mod parse;

use serde::Deserialize;

pub use parse::{Format, Parser, Row};

use crate::id::AccountId;
use crate::store::Store;
use crate::store::directory::{Change, ContactChange, CreatedBy, DirectoryError, NewContact};

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Contacts made.
    pub created: u64,
    /// Contacts updated, changed or not.
    pub updated: u64,
    /// Lines that were not taken, in order.
    pub failed: Vec<FailedLine>,
}

/// A line that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLine {
    /// Its number, from 1; of the first where a record has several.
    pub line: u64,
    /// Why.
    pub detail: String,
}

/// One import under way.
#[derive(Debug)]
pub struct Import {
    account: AccountId,
    parser: Parser,
    pending: Vec<Row>,
    report: ImportReport,
    stopped: bool,
}

impl Import {
    /// Begins one.
    #[must_use]
    pub fn new(account: AccountId, format: Format) -> Self {
        Self {
            account,
            parser: Parser::new(format),
            pending: Vec::new(),
            report: ImportReport::default(),
            stopped: false,
        }
    }

    /// Takes the next octets, cut anywhere; writes whole batches.
    ///
    /// # Errors
    /// `NotFound` for the account, or if the store fails: batches before stay written.
    pub async fn feed(&mut self, store: &Store, octets: &[u8]) -> Result<(), DirectoryError> {
        self.parser.feed(octets, &mut self.pending);
        while self.pending.len() >= BATCH_ROWS {
            let mut change = store.change().await?;
            let rows = self.pending.drain(..BATCH_ROWS).collect();
            self.write(&mut change, rows).await?;
            change.commit().await?;
        }
        Ok(())
    }

    /// Writes the last batch in a change of the caller's and reports.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub async fn finish(mut self, change: &mut Change) -> Result<ImportReport, DirectoryError> {
        change.require_account(self.account).await?;
        self.parser.finish(&mut self.pending);
        let rows = std::mem::take(&mut self.pending);
        self.write(change, rows).await?;
        Ok(self.report)
    }

    /// Contacts made or updated so far, for a progress bar.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.report.created + self.report.updated
    }

    async fn write(&mut self, change: &mut Change, rows: Vec<Row>) -> Result<(), DirectoryError> {
        for row in rows {
            if self.stopped {
                return Ok(());
            }
            let outcome = match row.contact {
                Ok(new) => change.import_contact(self.account, &new).await,
                Err(why) => Err(DirectoryError::Conflict(why)),
            };
            match outcome {
                Ok(Imported::Created) => self.report.created += 1,
                Ok(Imported::Updated) => self.report.updated += 1,
                Err(error @ (DirectoryError::Store(_) | DirectoryError::NotFound(_))) => return Err(error),
                Err(error) => self.fail(row.line, error.to_string()),
            }
        }
        Ok(())
    }

    fn fail(&mut self, line: u64, detail: String) {
        self.report.failed.push(FailedLine { line, detail });
        if self.report.failed.len() >= FAILED_MAX {
            let detail = format!("{FAILED_MAX} lines failed; this line and the rest were not taken");
            self.report.failed.push(FailedLine { line: line + 1, detail });
            self.stopped = true;
        }
    }
}

enum Imported {
    Created,
    Updated,
}

impl Change {
    async fn import_contact(
        &mut self,
        account: AccountId,
        new: &NewContact,
    ) -> Result<Imported, DirectoryError> {
        let Some(found) = self.find_contact(account, new).await? else {
            self.create_contact(account, new, CreatedBy::Import).await?;
            return Ok(Imported::Created);
        };
        let change = ContactChange {
            name: Some(new.name.clone()),
            email: Some(new.email.clone()),
            other_emails: Some(new.other_emails.clone()).filter(|others| !others.is_empty()),
            external_id: new.external_id.clone().map(Some),
        };
        self.update_contact(account, found, &change).await?;
        Ok(Imported::Updated)
    }
}

/// One line of NDJSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    name: String,
    email: String,
    #[serde(default)]
    other_emails: Vec<String>,
    #[serde(default)]
    external_id: Option<String>,
}

impl From<JsonLine> for NewContact {
    fn from(line: JsonLine) -> Self {
        Self {
            name: line.name,
            email: line.email,
            other_emails: line.other_emails,
            external_id: line.external_id,
        }
    }
}

/// Rows of one transaction: enough that the flush to disk is shared, few enough that mail does not wait for us.
const BATCH_ROWS: usize = 200;
/// After so many failed lines it is the wrong file.
const FAILED_MAX: usize = 1000;
