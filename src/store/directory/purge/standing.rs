//! Where a contact or user who is erased stands on the messages of others: by a link, or by an address alone. A mail
//! from before they were on file, or to an alternate address (R22), bears no link, and names them all the same (R63).
//!
//! An address that somebody else in the account is found by, too, is theirs: only what is linked to who is erased goes
//! then.

use std::collections::HashMap;

use uuid::Uuid;

use crate::address::EmailAddress;
use crate::id::AccountId;
use crate::store::directory::erase::read_of;
use crate::store::directory::purge::contact::left_of;
use crate::store::directory::purge::elsewhere::Trace;
use crate::store::directory::purge::select::is_nobody_elses;
use crate::store::directory::purge::{Job, PurgeOf, Stage};
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{Builder, query, query_as};
use crate::store::row_keys::{RowKeys, position_of};
use crate::store::search::people_terms;

/// Somebody on a message.
#[derive(sqlx::FromRow)]
pub(super) struct Person {
    message_id: Uuid,
    position: i64,
    email: String,
    contact_id: Option<Uuid>,
    user_id: Option<Uuid>,
}

impl Person {
    fn show(mut self, keys: &RowKeys) -> Self {
        let place = position_of(self.message_id, self.position);
        self.email = keys.show_or_nothing("participants.email", place, self.email);
        self
    }

    /// Whether this is who is erased. `alone` are the folded addresses that are nobody else's.
    fn is(&self, of: PurgeOf, alone: &[String]) -> bool {
        let is_linked = match of {
            PurgeOf::Contact(contact) => self.contact_id == Some(contact.uuid()),
            PurgeOf::User(user) => self.user_id == Some(user.uuid()),
            PurgeOf::All | PurgeOf::Message(_) | PurgeOf::Mine(_) => false,
        };
        let is_nobody_known = self.contact_id.is_none() && self.user_id.is_none();
        is_linked || is_nobody_known && alone.contains(&self.email.to_lowercase())
    }
}

impl Change {
    /// The next piece of all messages of the account.
    pub(super) async fn take_out_of_messages(&mut self, job: &mut Job) -> Result<(), DirectoryError> {
        // Who ends with an undo stands on no message, and those that name the address did so without them.
        let people =
            if job.is_undo() { Vec::new() } else { self.people_behind(job.account, job.passed).await? };
        let Some(last) = people.last().map(|person| person.message_id) else {
            job.enter(Stage::Events);
            return Ok(());
        };
        let alone = self.addresses_of_nobody_else(job).await?;
        let mut messages: Vec<Uuid> = people.iter().map(|person| person.message_id).collect();
        messages.dedup();
        self.take_out_of_people(job, people, &messages, &alone).await?;
        job.passed = last;
        Ok(())
    }

    /// These messages, with everybody on them: what they, their traces and the search say of who is erased.
    pub(super) async fn take_out_of_people(
        &mut self,
        job: &Job,
        people: Vec<Person>,
        messages: &[Uuid],
        alone: &[String],
    ) -> Result<(), DirectoryError> {
        self.take_out_of_meetings(job.account, messages, alone).await?;
        let theirs: Vec<Person> = people.into_iter().filter(|person| person.is(job.of, alone)).collect();
        self.take_out_of_search(job.account, &theirs).await?;
        self.take_out_of_traces_of(job.account, &theirs, alone).await?;
        // A contact's own id goes too; a user's stays: what hangs on it is of nobody's name.
        let blank = match job.of {
            PurgeOf::Contact(_) => {
                "UPDATE participants SET contact_id = NULL, name = NULL, email = ''
                 WHERE account_id = $1 AND message_id = $2 AND position = $3"
            }
            PurgeOf::All | PurgeOf::Message(_) | PurgeOf::Mine(_) | PurgeOf::User(_) => {
                "UPDATE participants SET name = NULL, email = ''
                 WHERE account_id = $1 AND message_id = $2 AND position = $3"
            }
        };
        for person in theirs {
            query(blank)
                .bind(job.account.uuid())
                .bind(person.message_id)
                .bind(person.position)
                .execute(self.on(job.account).await?)
                .await?;
        }
        Ok(())
    }

    /// Everybody on these messages.
    pub(super) async fn people_on(
        &mut self,
        account: AccountId,
        messages: &[Uuid],
    ) -> Result<Vec<Person>, DirectoryError> {
        let text =
            "SELECT message_id, position, email, contact_id, user_id FROM participants WHERE account_id = ";
        let people: Vec<Person> =
            read_of(self.on(account).await?, account, text, "message_id", messages).await?;
        let keys = self.row_keys(account).await?;
        Ok(people.into_iter().map(|person| person.show(&keys)).collect())
    }

    /// Everybody on the next few messages, in the order of these; of each message all.
    async fn people_behind(
        &mut self,
        account: AccountId,
        after: Uuid,
    ) -> Result<Vec<Person>, DirectoryError> {
        let mut people: Vec<Person> = query_as(
            "SELECT message_id, position, email, contact_id, user_id FROM participants
             WHERE account_id = $1 AND message_id > $2 ORDER BY message_id, position LIMIT $3",
        )
        .bind(account.uuid())
        .bind(after)
        .bind(PEOPLE_AT_ONCE)
        .fetch_all(self.on(account).await?)
        .await?;
        let last = people.last().map(|person| person.message_id);
        if let Some(last) = last.filter(|_| people.len() as u64 == PEOPLE_AT_ONCE.unsigned_abs()) {
            // The last message may be cut.
            people.retain(|person| person.message_id != last);
            if people.is_empty() {
                return self.people_on(account, &[last]).await;
            }
        }
        let keys = self.row_keys(account).await?;
        Ok(people.into_iter().map(|person| person.show(&keys)).collect())
    }

    /// R55: an organiser is an address alone, and need not be among the people of a message.
    async fn take_out_of_meetings(
        &mut self,
        account: AccountId,
        messages: &[Uuid],
        alone: &[String],
    ) -> Result<(), DirectoryError> {
        let text = "SELECT message_id, meeting FROM messages WHERE meeting IS NOT NULL AND account_id = ";
        let meetings: Vec<(Uuid, String)> =
            read_of(self.on(account).await?, account, text, "message_id", messages).await?;
        let keys = self.row_keys(account).await?;
        for (message, stored) in meetings {
            let meeting = keys.show_or_nothing("messages.meeting", message, stored);
            let Some(left) = left_of(&meeting, alone) else { continue };
            query("UPDATE messages SET meeting = $3 WHERE account_id = $1 AND message_id = $2")
                .bind(account.uuid())
                .bind(message)
                .bind(keys.hide("messages.meeting", message, left)?)
                .execute(self.on(account).await?)
                .await?;
        }
        Ok(())
    }

    /// Of the addresses by which the erased one is known: those that are nobody else's.
    pub(super) async fn addresses_of_nobody_else(
        &mut self,
        job: &Job,
    ) -> Result<Vec<String>, DirectoryError> {
        let keys = self.row_keys(job.account).await?;
        let (connection, whose) = (self.on(job.account).await?, (job.account, &keys));
        let mut alone = Vec::new();
        for text in &job.texts {
            if is_nobody_elses(&mut *connection, whose, text, job.of.subject(job.account)).await? {
                alone.push(text.clone());
            }
        }
        Ok(alone)
    }

    /// The messages on which this person stands are found by the addresses there no more.
    async fn take_out_of_search(
        &mut self,
        account: AccountId,
        people: &[Person],
    ) -> Result<(), DirectoryError> {
        let mut messages: HashMap<&str, Vec<Uuid>> = HashMap::new();
        for person in people {
            messages.entry(person.email.as_str()).or_default().push(person.message_id);
        }
        for (email, messages) in messages {
            let Some(address) = EmailAddress::parse(email) else { continue };
            let [from, to] = people_terms(&self.store.inner.keys, account, &address);
            let mut sql = Builder::new("UPDATE search_documents SET people = REPLACE(REPLACE(people, ");
            sql.push_bind(from).push(", ''), ").push_bind(to).push(", '') WHERE account_id = ");
            sql.push_bind(account.uuid()).push(" AND message_id IN (").push_list(messages).push(")");
            sql.build::<()>().execute(self.on(account).await?).await?;
        }
        Ok(())
    }

    async fn take_out_of_traces_of(
        &mut self,
        account: AccountId,
        people: &[Person],
        alone: &[String],
    ) -> Result<(), DirectoryError> {
        let mut names: HashMap<Uuid, Vec<String>> = HashMap::new();
        for person in people {
            let names = names.entry(person.message_id).or_insert_with(|| alone.to_vec());
            // Somebody who was taken out before has none, and nothing is in every word.
            if !person.email.is_empty() {
                names.push(person.email.to_lowercase());
            }
        }
        let messages: Vec<Uuid> = names.keys().copied().collect();
        let traces = self.traces(account, "message_id", &messages).await?;
        let addresses_of = |trace: &Trace| {
            trace.message_id.and_then(|message| names.get(&message)).map_or(alone, Vec::as_slice)
        };
        self.take_out_of_traces(account, traces, addresses_of).await
    }
}

/// Rows of people that are read in one transaction, but for a message that has more.
const PEOPLE_AT_ONCE: i64 = 500;
