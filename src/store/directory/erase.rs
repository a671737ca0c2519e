//! R60: the one place where what belongs to a message or a held mail is erased. Whatever is stored of messages by
//! their ids is erased here, in one transaction, a bounded number at once.
//!
//! The keys that seal the raw messages go with their rows, so a copy of a blob cannot be read by anybody; the blobs
//! themselves are noted in the same transaction and removed right after it. A keyed hash stays of each message that is
//! young enough to be sent again: a retry does not bring it back.

use std::collections::HashSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::StoreError;
use crate::store::blobs::BlobName;
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{Builder, Connection, Fetched, query, query_as};
use crate::store::row_keys::{Index, RowKeys};
use crate::store::statement::{insert, row};

/// What an erasure took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Messages.
    pub messages: u64,
    /// Their attachments.
    pub attachments: u64,
    /// Octets of the messages as received.
    pub bytes: u64,
    /// Held messages.
    pub held: u64,
    /// Delivery traces.
    pub deliveries: u64,
    /// Blobs.
    pub blobs: u64,
}

impl Erased {
    pub(super) const fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.attachments += other.attachments;
        self.bytes += other.bytes;
        self.held += other.held;
        self.deliveries += other.deliveries;
        self.blobs += other.blobs;
    }

    /// As events and the audit trail show it.
    pub(super) fn counts(&self) -> Value {
        json!({
            "messages": self.messages, "attachments": self.attachments, "blobs": self.blobs,
            "bytes": self.bytes, "held": self.held, "deliveries": self.deliveries,
        })
    }
}

/// How much goes with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// R61: the content. Its trace stays for its own time, and its Message-ID, so that answers still find their thread.
    Content,
    /// R60: everything.
    Everything,
}

/// A message that is to be erased.
#[derive(sqlx::FromRow)]
pub(super) struct Doomed {
    pub(super) message_id: Uuid,
    pub(super) conversation_id: Uuid,
    pub(super) contact_id: Uuid,
    message_id_header: String,
    digest: Vec<u8>,
    attachments: String,
    size_bytes: i64,
    blob: Option<String>,
    pub(super) received_at: i64,
}

impl Doomed {
    /// As [`doomed`] reads it: its attachments in clear. Digest and Message-ID stay as the columns hold them.
    fn show(mut self, keys: &RowKeys) -> Self {
        self.attachments = keys.show_or_nothing("messages.attachments", self.message_id, self.attachments);
        self
    }
}

/// A held mail that is to be erased.
#[derive(sqlx::FromRow)]
struct DoomedHeld {
    message_id_header: String,
    digest: Vec<u8>,
    blob: Option<String>,
    at: i64,
}

row! {
    /// What was erased, for [`TOMBSTONE_DAYS`].
    TombstoneRow into "tombstones",
    then "ON CONFLICT (account_id, hash) DO UPDATE SET erased_at = excluded.erased_at" {
        account_id: Uuid,
        hash: Vec<u8>,
        erased_at: i64,
    }
}

impl Change {
    /// Erases these messages. At most some hundred at once: it is one transaction.
    pub(super) async fn erase_messages(
        &mut self,
        account: AccountId,
        ids: &[Uuid],
        extent: Extent,
    ) -> Result<Erased, DirectoryError> {
        let keys = self.row_keys(account).await?;
        let doomed = doomed(self.on(account).await?, (account, &keys), ids).await?;
        if doomed.is_empty() {
            return Ok(Erased::default());
        }
        let ids: Vec<Uuid> = doomed.iter().map(|message| message.message_id).collect();
        let mut erased = count(&doomed);
        let buried = doomed.iter().map(|m| (m.message_id_header.clone(), m.digest.clone(), m.received_at));
        self.entomb(account, &keys, buried.collect()).await?;
        self.blobs.extend(doomed.iter().filter_map(|m| m.blob.as_deref().and_then(BlobName::parse)));
        let threads = Threads::of(self.on(account).await?, account, &doomed).await?;
        self.erase_events_of(account, &threads, &ids).await?;
        self.forget_answers_about(account, &ids).await?;
        if extent == Extent::Everything {
            let traces = traces_of(self.on(account).await?, account, &doomed, None).await?;
            erased.deliveries = self.erase_deliveries(account, &traces).await?;
        }
        for text in OF_MESSAGES {
            self.run_on(account, text, "message_id", &ids).await?;
        }
        // The job of a first copy has the id of its message, a further one names it.
        for column in ["job_id", "message_id"] {
            self.run_on(account, "DELETE FROM relay_jobs WHERE account_id = ", column, &ids).await?;
        }
        self.tidy_threads(account, &threads, &doomed, extent).await?;
        Ok(erased)
    }

    /// Erases these held mails with their traces and events.
    pub(super) async fn erase_held_mails(
        &mut self,
        account: AccountId,
        ids: &[Uuid],
    ) -> Result<Erased, DirectoryError> {
        let text = "SELECT message_id_header, digest, blob, at FROM held WHERE account_id = ";
        let doomed: Vec<DoomedHeld> =
            read_of(self.on(account).await?, account, text, "delivery_id", ids).await?;
        let keys = self.row_keys(account).await?;
        let buried = doomed.iter().map(|held| (held.message_id_header.clone(), held.digest.clone(), held.at));
        self.entomb(account, &keys, buried.collect()).await?;
        let blobs: Vec<BlobName> =
            doomed.iter().filter_map(|held| held.blob.as_deref().and_then(BlobName::parse)).collect();
        let mut erased = Erased { held: doomed.len() as u64, blobs: blobs.len() as u64, ..Erased::default() };
        self.blobs.extend(blobs);
        for text in OF_HELD {
            self.run_on(account, text, "delivery_id", ids).await?;
        }
        erased.deliveries = self.erase_deliveries(account, ids).await?;
        Ok(erased)
    }

    /// Traces, and by which addresses they are found. Returns how many there were.
    pub(super) async fn erase_deliveries(
        &mut self,
        account: AccountId,
        ids: &[Uuid],
    ) -> Result<u64, DirectoryError> {
        let hashes = "DELETE FROM delivery_addresses WHERE account_id = ";
        self.run_on(account, hashes, "delivery_id", ids).await?;
        let rows = "DELETE FROM deliveries WHERE account_id = ";
        self.run_on(account, rows, "delivery_id", ids).await
    }

    /// R60: a keyed hash of each that may still be sent again. `messages` are Message-ID and digest, as the columns
    /// hold them, and when it came; of what does not open, nothing can be known again.
    async fn entomb(
        &mut self,
        account: AccountId,
        rows: &RowKeys,
        messages: Vec<(String, Vec<u8>, i64)>,
    ) -> Result<(), DirectoryError> {
        let young = self.now.plus_days(-TOMBSTONE_DAYS).as_millis();
        let erased_at = self.now.as_millis();
        let keys = self.store.inner.keys.clone();
        let mut rows: Vec<TombstoneRow> = messages
            .into_iter()
            .filter(|(.., received_at)| *received_at > young)
            .filter_map(|(header, digest, _)| {
                let header = rows.show_index(Index::MessageId, header).ok()?;
                let digest = rows.show_octets(Index::Digest, digest).ok()?;
                Some(keys.message_hash(account, &header, &digest).to_vec())
            })
            .map(|hash| TombstoneRow { account_id: account.uuid(), hash, erased_at })
            .collect();
        // A statement may not meet the same row twice: the same mail may be held for two users.
        rows.sort_by(|a, b| a.hash.cmp(&b.hash));
        rows.dedup_by(|a, b| a.hash == b.hash);
        Ok(insert(self.on(account).await?, rows).await?)
    }

    /// Events of these messages; their data names people and subjects. What was held before it was filed, or before it
    /// was found to be there already, has its event under the delivery, and a held mail keeps its id.
    async fn erase_events_of(
        &mut self,
        account: AccountId,
        threads: &Threads,
        ids: &[Uuid],
    ) -> Result<(), DirectoryError> {
        let text = "SELECT event_id, data FROM events WHERE account_id = ";
        let events: Vec<(Uuid, String)> =
            read_of(self.on(account).await?, account, text, "conversation_id", &threads.all()).await?;
        let doomed: HashSet<Uuid> = ids.iter().copied().collect();
        let keys = self.row_keys(account).await?;
        let mut gone = Vec::new();
        for (event, data) in events {
            // One that does not open is one of theirs for all that is known, and of no use to anybody.
            let data = keys.show("events.data", event, data).ok();
            if data.is_none_or(|data| ids_in(&data).any(|id| doomed.contains(&id))) {
                gone.push(event);
            }
        }
        self.run_on(account, "DELETE FROM events WHERE account_id = ", "event_id", &gone).await?;
        self.run_on(account, "DELETE FROM events WHERE account_id = ", "delivery_id", ids).await?;
        for ids in ids.chunks(IDS_AT_ONCE) {
            let mut sql = Builder::new("DELETE FROM events WHERE account_id = ");
            sql.push_bind(account.uuid());
            sql.push(" AND delivery_id IN (SELECT delivery_id FROM deliveries WHERE account_id = ");
            sql.push_bind(account.uuid()).push(" AND message_id IN (");
            sql.push_list(ids.iter().copied()).push("))");
            sql.build::<()>().execute(self.on(account).await?).await?;
        }
        Ok(())
    }

    /// Erases traces of these messages, with their events, as long as there are more of them than a transaction takes: who
    /// sends a mail again and again leaves any number of them (R70). Returns how many; none when what is left may go with
    /// the messages.
    pub(super) async fn erase_surplus_traces(
        &mut self,
        account: AccountId,
        ids: &[Uuid],
    ) -> Result<u64, DirectoryError> {
        let keys = self.row_keys(account).await?;
        let doomed = doomed(self.on(account).await?, (account, &keys), ids).await?;
        let mut traces =
            traces_of(self.on(account).await?, account, &doomed, Some(TRACES_AT_ONCE + 1)).await?;
        if traces.len() <= TRACES_AT_ONCE {
            return Ok(0);
        }
        traces.truncate(TRACES_AT_ONCE);
        self.run_on(account, "DELETE FROM events WHERE account_id = ", "delivery_id", &traces).await?;
        self.erase_deliveries(account, &traces).await
    }

    /// Remembered answers that show one of these messages.
    async fn forget_answers_about(&mut self, account: AccountId, ids: &[Uuid]) -> Result<(), DirectoryError> {
        let doomed: HashSet<Uuid> = ids.iter().copied().collect();
        let shows = |response: &str| ids_in(response).any(|id| doomed.contains(&id));
        self.forget_answers(account, "%message_id%", shows).await
    }

    /// What conversations still say of the messages that are gone: their subject, and Message-IDs.
    async fn tidy_threads(
        &mut self,
        account: AccountId,
        threads: &Threads,
        doomed: &[Doomed],
        extent: Extent,
    ) -> Result<(), DirectoryError> {
        self.tidy_subjects(account, &threads.all()).await?;
        if extent == Extent::Content {
            return Ok(());
        }
        let text = "SELECT DISTINCT conversation_id FROM messages WHERE account_id = ";
        let alive: Vec<(Uuid,)> =
            read_of(self.on(account).await?, account, text, "conversation_id", &threads.roots).await?;
        let (alive, empty): (Vec<Uuid>, Vec<Uuid>) =
            threads.roots.iter().partition(|root| alive.contains(&(**root,)));
        let forget = "DELETE FROM thread_ids WHERE account_id = ";
        self.run_on(account, forget, "conversation_id", &threads.with_merged(&empty)).await?;
        let alive = threads.with_merged(&alive);
        if alive.is_empty() {
            return Ok(());
        }
        let mut sql = Builder::new(forget);
        sql.push_bind(account.uuid()).push(" AND conversation_id IN (").push_list(alive.iter().copied());
        sql.push(") AND message_id_header IN (");
        sql.push_list(doomed.iter().map(|message| message.message_id_header.as_str()));
        // R41: what a message that stays refers to is still known.
        sql.push(
            ") AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.account_id = thread_ids.account_id
             AND m.conversation_id IN (",
        );
        sql.push_list(alive).push(
            ") AND (m.message_id_header = thread_ids.message_id_header
             OR m.in_reply_to = thread_ids.message_id_header))",
        );
        sql.build::<()>().execute(self.on(account).await?).await?;
        Ok(())
    }

    /// A conversation is called as the first message that is left; one without messages, nothing.
    async fn tidy_subjects(&mut self, account: AccountId, threads: &[Uuid]) -> Result<(), DirectoryError> {
        let keys = self.row_keys(account).await?;
        let subject = "UPDATE conversations SET subject = COALESCE((SELECT m.subject FROM messages m
             WHERE m.account_id = conversations.account_id AND m.conversation_id = conversations.conversation_id
             ORDER BY m.sent_at, m.message_id LIMIT 1), '') WHERE account_id = ";
        if keys.are_clear() {
            self.run_on(account, subject, "conversation_id", threads).await?;
            return Ok(());
        }
        // What is sealed for the message's row does not open in the conversation's.
        for thread in threads {
            let first: Option<(Uuid, String)> = query_as(
                "SELECT message_id, subject FROM messages WHERE account_id = $1 AND conversation_id = $2
                 ORDER BY sent_at, message_id LIMIT 1",
            )
            .bind(account.uuid())
            .bind(thread)
            .fetch_optional(self.on(account).await?)
            .await?;
            let subject = match first {
                Some((message, subject)) => keys.show_or_nothing("messages.subject", message, subject),
                None => String::new(),
            };
            query("UPDATE conversations SET subject = $3 WHERE account_id = $1 AND conversation_id = $2")
                .bind(account.uuid())
                .bind(thread)
                .bind(keys.hide("conversations.subject", thread, subject)?)
                .execute(self.on(account).await?)
                .await?;
        }
        Ok(())
    }

    /// `text` ends in `account_id = `; goes on with a list of ids.
    pub(super) async fn run_on(
        &mut self,
        account: AccountId,
        text: &'static str,
        column: &'static str,
        ids: &[Uuid],
    ) -> Result<u64, DirectoryError> {
        let mut done = 0;
        for ids in ids.chunks(IDS_AT_ONCE) {
            let mut sql = Builder::new(text);
            sql.push_bind(account.uuid()).push(format_args!(" AND {column} IN ("));
            sql.push_list(ids.iter().copied()).push(")");
            done += sql.build::<()>().execute(self.on(account).await?).await?;
        }
        Ok(done)
    }
}

/// The messages that are there, of these.
pub(super) async fn doomed(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    ids: &[Uuid],
) -> Result<Vec<Doomed>, StoreError> {
    let text = "SELECT message_id, conversation_id, contact_id, message_id_header, digest, attachments, size_bytes, blob,
         received_at FROM messages WHERE account_id = ";
    let found: Vec<Doomed> = read_of(connection, account, text, "message_id", ids).await?;
    Ok(found.into_iter().map(|message| message.show(keys)).collect())
}

/// What erasing them takes away, traces apart.
pub(super) fn count(doomed: &[Doomed]) -> Erased {
    let attachments = |list: &str| serde_json::from_str::<Vec<Value>>(list).map_or(0, |list| list.len());
    Erased {
        messages: doomed.len() as u64,
        attachments: doomed.iter().map(|message| attachments(&message.attachments) as u64).sum(),
        bytes: doomed.iter().map(|message| u64::try_from(message.size_bytes).unwrap_or_default()).sum(),
        blobs: doomed.iter().filter(|message| message.blob.is_some()).count() as u64,
        ..Erased::default()
    }
}

/// The traces of these messages, `limit` of each kind at most: of every way they came in, and of recipients that were
/// refused the same mail.
pub(super) async fn traces_of(
    connection: &mut Connection,
    account: AccountId,
    doomed: &[Doomed],
    limit: Option<usize>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let limit = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let mut traces: Vec<(Uuid,)> = Vec::new();
    for doomed in doomed.chunks(IDS_AT_ONCE) {
        let text = "SELECT delivery_id FROM deliveries WHERE account_id = ";
        let mut ways = Builder::new(text);
        ways.push_bind(account.uuid()).push(" AND message_id IN (");
        ways.push_list(doomed.iter().map(|message| message.message_id)).push(") LIMIT ").push_bind(limit);
        traces.extend(ways.build::<(Uuid,)>().fetch_all(&mut *connection).await?);
        let mut refused = Builder::new(text);
        refused
            .push_bind(account.uuid())
            .push(" AND message_id IS NULL AND outcome <> 'held' AND message_id_header IN (");
        refused.push_list(doomed.iter().map(|message| message.message_id_header.as_str()));
        refused.push(") LIMIT ").push_bind(limit);
        traces.extend(refused.build::<(Uuid,)>().fetch_all(&mut *connection).await?);
    }
    Ok(traces.into_iter().map(|(id,)| id).collect())
}

/// Rows whose `column` is one of these ids; `text` ends in `account_id = `.
pub(super) async fn read_of<T: Fetched>(
    connection: &mut Connection,
    account: AccountId,
    text: &'static str,
    column: &'static str,
    ids: &[Uuid],
) -> Result<Vec<T>, sqlx::Error> {
    let mut found = Vec::new();
    for ids in ids.chunks(IDS_AT_ONCE) {
        let mut sql = Builder::new(text);
        sql.push_bind(account.uuid()).push(format_args!(" AND {column} IN ("));
        sql.push_list(ids.iter().copied()).push(")");
        found.extend(sql.build().fetch_all(&mut *connection).await?);
    }
    Ok(found)
}

/// Ids in one statement: an engine takes some ten thousand values at most.
const IDS_AT_ONCE: usize = 1_000;
/// Traces that go in one transaction.
const TRACES_AT_ONCE: usize = 2_000;

/// The conversations of some messages, and those that were merged into them (R41), whose events still name them.
pub(super) struct Threads {
    roots: Vec<Uuid>,
    /// (conversation, the one it was merged into)
    merged: Vec<(Uuid, Uuid)>,
}

impl Threads {
    async fn of(
        connection: &mut Connection,
        account: AccountId,
        doomed: &[Doomed],
    ) -> Result<Self, sqlx::Error> {
        let text = "SELECT conversation_id, merged_into FROM conversations WHERE merged_into IS NOT NULL AND account_id = ";
        let contacts = each_once(doomed.iter().map(|message| message.contact_id));
        Ok(Self {
            roots: each_once(doomed.iter().map(|message| message.conversation_id)),
            merged: read_of(connection, account, text, "contact_id", &contacts).await?,
        })
    }

    fn all(&self) -> Vec<Uuid> {
        self.with_merged(&self.roots)
    }

    /// These, and what leads to them; each step finds at least one more, so it ends.
    fn with_merged(&self, roots: &[Uuid]) -> Vec<Uuid> {
        let mut known = roots.to_vec();
        loop {
            let next = self.merged.iter().filter(|(id, into)| known.contains(into) && !known.contains(id));
            let next: Vec<Uuid> = next.map(|(id, _)| *id).collect();
            if next.is_empty() {
                return known;
            }
            known.extend(next);
        }
    }
}

fn each_once(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Everything between quotation marks that is an id.
fn ids_in(json: &str) -> impl Iterator<Item = Uuid> {
    json.split('"').filter(|part| part.len() == UUID_CHARS).filter_map(|part| Uuid::try_parse(part).ok())
}

/// What is stored of messages under their ids, in the order that the foreign keys ask for. Each text ends in the
/// account and goes on with the ids.
const OF_MESSAGES: &[&str] = &[
    "DELETE FROM participants WHERE account_id = ",
    "DELETE FROM search_documents WHERE account_id = ",
    "DELETE FROM search_waiting WHERE account_id = ",
    "DELETE FROM messages WHERE account_id = ",
];
/// The same for held mail, under the ids of their deliveries.
const OF_HELD: &[&str] = &["DELETE FROM events WHERE account_id = ", "DELETE FROM held WHERE account_id = "];
const UUID_CHARS: usize = 36;
/// R60: senders give up after five days (RFC 5321 section 4.5.4.1), archives and mailboxes that forward may take
/// weeks.
pub(super) const TOMBSTONE_DAYS: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_that_were_merged_over_others_belong_to_the_oldest() {
        let [a, b, c, d] = [1, 2, 3, 4].map(Uuid::from_u128);
        let threads = Threads { roots: vec![a, d], merged: vec![(c, b), (b, a)] };
        assert_eq!(threads.with_merged(&[a]), [a, b, c]);
        assert_eq!(threads.with_merged(&[d]), [d]);
        assert_eq!(threads.all(), [a, d, b, c]);
    }

    #[test]
    fn ids_are_found_wherever_they_stand_between_quotation_marks() {
        let id = Uuid::now_v7();
        let json = format!("{{\"a\":[{{\"b\":\"{id}\"}}],\"c\":\"x {id}\",\"d\":\"{}\"}}", "z".repeat(36));
        assert_eq!(ids_in(&json).collect::<Vec<_>>(), [id]);
    }
}
