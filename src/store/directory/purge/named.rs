//! Where somebody else's record names a contact or user who is erased: on messages and in their traces (`standing`), in
//! events. Whatever is there is walked in ranges of ids, a bounded piece in a transaction, so that filing goes on
//! meanwhile.

use uuid::Uuid;

use crate::address::EmailAddress;
use crate::id::{AccountId, ContactId};
use crate::store::directory::erase::Erased;
use crate::store::directory::purge::contact::left_of;
use crate::store::directory::purge::select::{addresses_of_contact, addresses_of_user};
use crate::store::directory::purge::{Job, PurgeOf, Stage, select};
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::query_as;
use crate::store::row_keys::position_of;
use crate::store::views::id_floor;
use crate::time::Timestamp;

impl Change {
    /// The end of a contact that a message has just made, with what has been written of it since: at once, in this
    /// transaction.
    pub(in crate::store::directory) async fn end_young_contact(
        &mut self,
        account: AccountId,
        contact: ContactId,
        made_at: Timestamp,
    ) -> Result<(), DirectoryError> {
        let floor = id_floor(made_at.plus_days(-1));
        let mut job = Job {
            id: Uuid::nil(),
            account,
            of: PurgeOf::Contact(contact),
            passed: floor,
            actor: String::new(),
            erased: Erased::default(),
            begun_at: self.now,
            stage: Stage::Names,
            texts: Vec::new(),
            floor,
            is_late: false,
        };
        while !self.take_out_piece(&mut job).await? {}
        Ok(())
    }

    /// The next piece of what a contact or user is taken out of. Returns whether nothing is left.
    pub(super) async fn take_out_piece(&mut self, job: &mut Job) -> Result<bool, DirectoryError> {
        match job.stage {
            Stage::Theirs => Ok(false),
            Stage::Traces => self.erase_traces(job).await.map(|()| false),
            Stage::Names => self.gather_names(job).await.map(|()| false),
            Stage::Messages => self.take_out_of_messages(job).await.map(|()| false),
            Stage::Events => self.take_out_of_events(job).await.map(|()| false),
            Stage::Hashes => self.end_piece(job).await,
        }
    }

    /// What is found by an address, whenever it came; then, in the transaction of the last of it, the end: nobody files
    /// any between the two.
    async fn end_piece(&mut self, job: &mut Job) -> Result<bool, DirectoryError> {
        let is_undo = job.is_undo();
        // First: what is taken out of held mail would hide that it waits for them.
        if !is_undo && (self.has_come_since(job).await? || self.take_out_of_held(job).await?) {
            return Ok(false);
        }
        if self.take_out_of_hashes(job).await? || !is_undo && self.take_out_of_late_ones(job).await? {
            return Ok(false);
        }
        match job.of {
            PurgeOf::Contact(contact) => self.erase_contact(job.account, contact).await?,
            PurgeOf::User(user) => self.erase_user(job.account, user).await?,
            PurgeOf::All | PurgeOf::Message(_) | PurgeOf::Mine(_) => {}
        }
        Ok(true)
    }

    /// Mail of theirs that was filed or held while they were taken out elsewhere: from the start, then.
    async fn has_come_since(&mut self, job: &mut Job) -> Result<bool, DirectoryError> {
        // What a user had is behind us; a contact's is found by index.
        let mut after = match job.of {
            PurgeOf::User(_) => job.late_floor(),
            PurgeOf::All | PurgeOf::Contact(_) | PurgeOf::Message(_) | PurgeOf::Mine(_) => Uuid::nil(),
        };
        let keys = self.row_keys(job.account).await?;
        let connection = self.on(job.account).await?;
        let held = select::held(&mut *connection, (job.account, &keys), job.of, Uuid::nil(), 1).await?;
        let mut has_come = !held.is_empty();
        while !has_come {
            let (messages, next) = select::messages(&mut *connection, job.account, job.of, after, 1).await?;
            has_come = !messages.is_empty();
            let Some(next) = next else { break };
            after = next;
        }
        if has_come {
            job.is_late = true;
            job.enter(Stage::Theirs);
        }
        Ok(has_come)
    }

    /// Those on file; and as they stand on messages: an address that has changed since is found too.
    async fn gather_names(&mut self, job: &mut Job) -> Result<(), DirectoryError> {
        let is_first = job.texts.is_empty();
        let (emails, next) = self.stands_as(job).await?;
        let mut texts: Vec<String> =
            emails.iter().filter(|email| !email.is_empty()).map(|email| email.to_lowercase()).collect();
        if is_first {
            texts.extend(self.own_addresses(job).await?.iter().map(EmailAddress::key));
        }
        job.texts.extend(texts);
        job.texts.sort_unstable();
        job.texts.dedup();
        match next {
            Some(next) => job.passed = next,
            None => job.enter(Stage::Messages),
        }
        Ok(())
    }

    async fn own_addresses(&mut self, job: &Job) -> Result<Vec<EmailAddress>, DirectoryError> {
        let keys = self.row_keys(job.account).await?;
        let (connection, whose) = (self.on(job.account).await?, (job.account, &keys));
        Ok(match job.of {
            PurgeOf::Contact(contact) => addresses_of_contact(connection, whose, contact.uuid()).await?,
            PurgeOf::User(user) => {
                let mut own = addresses_of_user(connection, whose, user.uuid()).await?;
                own.extend(self.sync_addresses_of(job.account, user).await?);
                own
            }
            PurgeOf::All | PurgeOf::Message(_) | PurgeOf::Mine(_) => Vec::new(),
        })
    }

    /// By which addresses they stand, linked, on the messages behind `job.passed`, as far as one look goes, and where
    /// to go on; none at the end.
    async fn stands_as(&mut self, job: &Job) -> Result<(Vec<String>, Option<Uuid>), DirectoryError> {
        // A contact's are found by index; a user's are looked for among all messages, range by range.
        let (looked_at, text, id): (Vec<(Uuid,)>, _, _) = match job.of {
            PurgeOf::Contact(contact) => (
                query_as(
                    "SELECT DISTINCT message_id FROM participants
                     WHERE account_id = $1 AND message_id > $2 AND contact_id = $4 ORDER BY message_id LIMIT $3",
                )
                .bind(job.account.uuid())
                .bind(job.passed)
                .bind(GATHERED_MESSAGES)
                .bind(contact.uuid())
                .fetch_all(self.on(job.account).await?)
                .await?,
                "SELECT message_id, position, email FROM participants
                 WHERE account_id = $1 AND message_id > $2 AND message_id <= $3 AND contact_id = $4",
                contact.uuid(),
            ),
            PurgeOf::User(user) => (
                query_as(
                    "SELECT message_id FROM messages WHERE account_id = $1 AND message_id > $2
                     ORDER BY message_id LIMIT $3",
                )
                .bind(job.account.uuid())
                .bind(job.passed)
                .bind(GATHERED_MESSAGES)
                .fetch_all(self.on(job.account).await?)
                .await?,
                "SELECT message_id, position, email FROM participants
                 WHERE account_id = $1 AND message_id > $2 AND message_id <= $3 AND user_id = $4",
                user.uuid(),
            ),
            PurgeOf::All | PurgeOf::Message(_) | PurgeOf::Mine(_) => return Ok((Vec::new(), None)),
        };
        let Some((last,)) = looked_at.last().copied() else { return Ok((Vec::new(), None)) };
        let found: Vec<(Uuid, i64, String)> = query_as(text)
            .bind(job.account.uuid())
            .bind(job.passed)
            .bind(last)
            .bind(id)
            .fetch_all(self.on(job.account).await?)
            .await?;
        let keys = self.row_keys(job.account).await?;
        let shown = found.into_iter().map(|(message, position, email)| {
            keys.show_or_nothing("participants.email", position_of(message, position), email)
        });
        Ok((shown.collect(), Some(last)))
    }

    /// Events about this person go; in events of conversations their name and addresses are taken out. Compared here:
    /// SQLite folds ASCII alone.
    async fn take_out_of_events(&mut self, job: &mut Job) -> Result<(), DirectoryError> {
        let events: Vec<(Uuid, Option<Uuid>, String)> = query_as(
            "SELECT event_id, conversation_id, data FROM events
             WHERE account_id = $1 AND event_id > $2 ORDER BY event_id LIMIT $3",
        )
        .bind(job.account.uuid())
        .bind(job.passed)
        .bind(EVENTS_AT_ONCE)
        .fetch_all(self.on(job.account).await?)
        .await?;
        let Some((last, ..)) = events.last() else {
            job.enter(Stage::Hashes);
            return Ok(());
        };
        job.passed = *last;
        let id = job.of.subject(job.account).to_string();
        // An address that is somebody else's, too, is theirs.
        let alone = self.addresses_of_nobody_else(job).await?;
        let keys = self.row_keys(job.account).await?;
        let mut gone = Vec::new();
        for (event, conversation, stored) in events {
            // What does not open shows nobody.
            let data = keys.show_or_nothing("events.data", event, stored);
            if conversation.is_none() && data.contains(&id) {
                gone.push(event);
                continue;
            }
            let Some(data) = left_of(&data, &alone) else { continue };
            self.put_event_data(job.account, event, &keys, data).await?;
        }
        self.run_on(job.account, "DELETE FROM events WHERE account_id = ", "event_id", &gone).await?;
        Ok(())
    }
}

/// Messages among which names are looked for at once: a range of keys is read, and nothing written.
const GATHERED_MESSAGES: i64 = 5_000;
/// Events, of which some may be written.
const EVENTS_AT_ONCE: i64 = 2_000;
