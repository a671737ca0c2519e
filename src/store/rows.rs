//! The rows of a batch, table by table, and how they are written: all of them in one way to the engine.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::id::{AccountId, EventId};
use crate::message::Text;
use crate::store::engine::{Connection, Value, query};
use crate::store::record;
use crate::store::row_keyring::RowKeySet;
use crate::store::row_seal::unreadable;
use crate::store::statement::{Insert, Row, Statement, Writes, row};

/// Everything that a batch writes.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Rows {
    pub(in crate::store) contacts: Vec<ContactRow>,
    pub(in crate::store) conversations: Vec<ConversationRow>,
    pub(in crate::store) messages: Vec<MessageRow>,
    pub(in crate::store) participants: Vec<ParticipantRow>,
    pub(in crate::store) thread_ids: Vec<ThreadIdRow>,
    pub(in crate::store) relay_jobs: Vec<RelayJobRow>,
    pub(in crate::store) marks: Vec<MarkRow>,
    pub(in crate::store) merges: Vec<MergeRow>,
    pub(in crate::store) daily_filings: Vec<DailyFilingRow>,
    pub(in crate::store) confirmations: Vec<ConfirmationRow>,
    pub(in crate::store) held: Vec<HeldRow>,
    pub(in crate::store) deliveries: Vec<DeliveryRow>,
    pub(in crate::store) addresses: Vec<DeliveryAddressRow>,
    pub(in crate::store) events: Vec<EventRow>,
}

impl Rows {
    /// Writes all of them, sealed where that is wanted. Parents before children: the engine checks references at once.
    pub(in crate::store) async fn write(
        mut self,
        connection: &mut Connection,
        keys: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        self.gather();
        self.name_owners();
        self.seal(keys).map_err(unreadable)?;
        let mut writes = Writes::new(connection.engine());
        writes.insert(self.contacts);
        writes.insert(self.conversations);
        writes.insert(self.messages);
        writes.insert(self.participants);
        writes.insert(self.thread_ids);
        writes.insert(self.relay_jobs);
        writes.insert(self.marks);
        writes.insert(self.daily_filings);
        writes.insert(self.confirmations);
        writes.insert(self.held);
        writes.insert(self.deliveries);
        writes.insert(self.addresses);
        writes.insert(self.events);
        writes.run(connection).await?;
        merge(connection, &self.merges).await
    }

    /// Makes the ids of an account's events follow the one before: the clock of another node, or ours before it was
    /// set, may have been ahead, and whoever pulls events asks for those behind the last one seen.
    pub(in crate::store) fn events_after(&mut self, last: &mut HashMap<AccountId, EventId>) {
        for event in &mut self.events {
            let account = AccountId::from_uuid(event.account_id);
            let id = EventId::from_uuid(event.event_id).behind(last.get(&account).copied());
            event.event_id = id.uuid();
            last.insert(account, id);
        }
    }

    /// R25: whose record a message is on is among its people, wherever it comes from: timelines are read from them
    /// alone.
    fn name_owners(&mut self) {
        let named = |person: &ParticipantRow| Some((person.message_id, person.contact_id?));
        let named: HashSet<(Uuid, Uuid)> = self.participants.iter().filter_map(named).collect();
        let unnamed = self.messages.iter().filter(|row| !named.contains(&(row.message_id, row.contact_id)));
        self.participants.extend(
            unnamed.map(|row| record::about(row.account_id, row.message_id, row.contact_id, row.sent_at)),
        );
    }

    /// One row for each key: a statement may not meet the same row twice (PostgreSQL refuses, and it saves work).
    fn gather(&mut self) {
        gather(
            &mut self.conversations,
            |row| (row.account_id, row.conversation_id),
            |first, later| first.last_at = first.last_at.max(later.last_at),
        );
        gather(
            &mut self.thread_ids,
            |row| (row.account_id, row.message_id_header.clone(), row.conversation_id),
            |first, later| first.is_own |= later.is_own,
        );
        gather(&mut self.relay_jobs, |row| (row.account_id, row.job_id), |_, _| {});
        gather(
            &mut self.marks,
            |row| (row.account_id, row.contact_id, row.user_id),
            |first, later| first.last_mail_at = first.last_mail_at.max(later.last_mail_at),
        );
        gather(
            &mut self.daily_filings,
            |row| (row.account_id, row.user_id, row.day),
            |first, later| first.filings += later.filings,
        );
        gather(&mut self.confirmations, |row| (row.account_id, row.user_id), |first, later| *first = later);
    }
}

/// R41: the younger conversation's messages move; links and reply tokens to it follow `merged_into`. Rare: one
/// pair of statements each.
async fn merge(connection: &mut Connection, merges: &[MergeRow]) -> Result<(), sqlx::Error> {
    for MergeRow { account_id, merged, into } in merges {
        for text in [
            "UPDATE conversations SET merged_into = $3 WHERE account_id = $1 AND conversation_id = $2",
            "UPDATE messages SET conversation_id = $3 WHERE account_id = $1 AND conversation_id = $2",
        ] {
            query(text).bind(account_id).bind(merged).bind(into).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// A conversation that was found to be part of an older one (R41).
#[derive(Clone, Debug)]
pub(in crate::store) struct MergeRow {
    pub(in crate::store) account_id: Uuid,
    pub(in crate::store) merged: Uuid,
    pub(in crate::store) into: Uuid,
}

fn gather<R, K: Eq + std::hash::Hash>(rows: &mut Vec<R>, key: impl Fn(&R) -> K, join: impl Fn(&mut R, R)) {
    let mut places = HashMap::new();
    let mut gathered: Vec<R> = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        let place = *places.entry(key(&row)).or_insert(gathered.len());
        match gathered.get_mut(place) {
            Some(first) => join(first, row),
            None => gathered.push(row),
        }
    }
    *rows = gathered;
}

row! {
    /// A contact that a filing made (R24).
    ContactRow into "contacts" {
        account_id: Uuid,
        contact_id: Uuid,
        name: String,
        name_key: String,
        email: String,
        email_key: String,
        other_emails: &'static str,
        created_by: &'static str,
        created_at: i64,
    }
}

row! {
    /// A new conversation; or a known one, of which only the time of its last message changes.
    ConversationRow into "conversations",
    then "ON CONFLICT (account_id, conversation_id) DO UPDATE SET last_at = excluded.last_at \
          WHERE excluded.last_at > conversations.last_at" {
        account_id: Uuid,
        conversation_id: Uuid,
        contact_id: Uuid,
        user_id: Option<Uuid>,
        subject: String,
        created_at: i64,
        last_at: i64,
    }
}

row! {
    /// A filed message.
    MessageRow into "messages" {
        account_id: Uuid,
        message_id: Uuid,
        conversation_id: Uuid,
        contact_id: Uuid,
        user_id: Option<Uuid>,
        direction: &'static str,
        kind: &'static str,
        sender: &'static str,
        subject: String,
        sent_at: i64,
        received_at: i64,
        message_id_header: String,
        in_reply_to: Option<String>,
        text: Text,
        new_text: Text,
        has_html: bool,
        flags: String,
        attachments: String,
        digest: Vec<u8>,
        size_bytes: i64,
        content_key: Option<Vec<u8>>,
        raw: Option<Arc<[u8]>>,
        blob: Option<String>,
        meeting: Option<String>,
    }
}

row! {
    /// Somebody on a message (R25); once, though it comes in again.
    ParticipantRow into "participants", then "ON CONFLICT (account_id, message_id, position) DO NOTHING" {
        account_id: Uuid,
        message_id: Uuid,
        position: i64,
        role: &'static str,
        name: Option<String>,
        email: String,
        contact_id: Option<Uuid>,
        user_id: Option<Uuid>,
        sent_at: i64,
    }
}

row! {
    /// A Message-ID that leads to a conversation (R40, R41).
    ThreadIdRow into "thread_ids",
    then "ON CONFLICT (account_id, message_id_header, conversation_id) DO UPDATE SET is_own = excluded.is_own \
          WHERE excluded.is_own AND NOT thread_ids.is_own" {
        account_id: Uuid,
        message_id_header: String,
        conversation_id: Uuid,
        is_own: bool,
    }
}

row! {
    /// Something to send (R46, R49): one message goes on once to each contact.
    RelayJobRow into "relay_jobs", then "ON CONFLICT (account_id, job_id) DO NOTHING" {
        account_id: Uuid,
        job_id: Uuid,
        message_id: Option<Uuid>,
        kind: &'static str,
        conversation_id: Option<Uuid>,
        user_id: Option<Uuid>,
        email_key: Option<String>,
        state: &'static str,
        attempts: i64,
        next_at: i64,
        created_at: i64,
    }
}

row! {
    /// A mark that is set; or a known one, of which only the time of its last mail changes: an explicit off stays
    /// off (R29).
    MarkRow into "sync_marks",
    then "ON CONFLICT (account_id, contact_id, user_id) DO UPDATE SET last_mail_at = excluded.last_mail_at \
          WHERE sync_marks.last_mail_at IS NULL OR excluded.last_mail_at > sync_marks.last_mail_at" {
        account_id: Uuid,
        contact_id: Uuid,
        user_id: Uuid,
        state: &'static str,
        since: i64,
        because: String,
        last_mail_at: i64,
    }
}

row! {
    /// Explicit filings (R52).
    DailyFilingRow into "daily_filings",
    then "ON CONFLICT (account_id, user_id, day) DO UPDATE SET filings = daily_filings.filings + excluded.filings" {
        account_id: Uuid,
        user_id: Uuid,
        day: i64,
        filings: i64,
    }
}

row! {
    /// What confirms a forwarding (R34); the latest counts.
    ConfirmationRow into "forwarding_confirmations",
    then "ON CONFLICT (account_id, user_id) DO UPDATE SET code = excluded.code, link = excluded.link, at = excluded.at" {
        account_id: Uuid,
        user_id: Uuid,
        code: Option<String>,
        link: Option<String>,
        at: i64,
    }
}

row! {
    /// A held message (R36).
    HeldRow into "held" {
        account_id: Uuid,
        delivery_id: Uuid,
        at: i64,
        reason: &'static str,
        why: String,
        user_id: Option<Uuid>,
        contact_id: Option<Uuid>,
        expires_at: i64,
        headers: String,
        size_bytes: i64,
        content_key: Vec<u8>,
        raw: Option<Arc<[u8]>>,
        blob: Option<String>,
        message_id_header: String,
        digest: Vec<u8>,
    }
}

row! {
    /// The trace of one recipient of one transaction (R3).
    DeliveryRow into "deliveries" {
        account_id: Uuid,
        delivery_id: Uuid,
        at: i64,
        peer: String,
        helo: String,
        tls: Option<String>,
        mail_from: Option<String>,
        rcpt: Option<String>,
        message_id_header: Option<String>,
        from_address: Option<String>,
        size_bytes: i64,
        auth: Option<Arc<str>>,
        outcome: &'static str,
        reason: &'static str,
        smtp: String,
        user_id: Option<Uuid>,
        contact_id: Option<Uuid>,
        message_id: Option<Uuid>,
        steps: String,
    }
}

row! {
    /// By which addresses a delivery is found (R5).
    DeliveryAddressRow into "delivery_addresses" {
        account_id: Uuid,
        address_hash: Vec<u8>,
        role: &'static str,
        delivery_id: Uuid,
    }
}

/// An event for the outbox. Not by macro: a column is called `type`.
#[derive(Clone, Debug)]
pub(in crate::store) struct EventRow {
    pub(in crate::store) account_id: Uuid,
    pub(in crate::store) event_id: Uuid,
    pub(in crate::store) type_name: &'static str,
    pub(in crate::store) at: i64,
    pub(in crate::store) conversation_id: Option<Uuid>,
    /// Of `message.held`.
    pub(in crate::store) delivery_id: Option<Uuid>,
    pub(in crate::store) data: String,
}

impl Row for EventRow {
    fn bind(self, values: &mut Vec<Value>) {
        values.extend([
            self.account_id.into(),
            self.event_id.into(),
            self.type_name.into(),
            self.at.into(),
            self.conversation_id.into(),
            self.delivery_id.into(),
            self.data.into(),
        ]);
    }
}

impl Insert for EventRow {
    fn statement() -> &'static Statement {
        static STATEMENT: Statement = Statement::new(
            "INSERT INTO events (account_id, event_id, type, at, conversation_id, delivery_id, data) VALUES",
            7,
            "",
        );
        &STATEMENT
    }
}
