//! Messages and conversations as readers see them.

use serde_json::Value;
use uuid::Uuid;

use crate::filing::INTERNAL_HISTORY;
use crate::id::{AccountId, ContactId, ConversationId, MessageId, UserId};
use crate::store::directory::MERGES_MAX;
use crate::store::engine::{Builder, Connection, query_as};
use crate::store::views::{Key, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::wire::MeetingView;

/// A filed message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The record owner.
    pub contact: ContactId,
    /// The user on the practice's side.
    pub user: Option<UserId>,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// What sort of message.
    pub kind: String,
    /// How far the sender is known.
    pub sender: String,
    /// The decoded subject.
    pub subject: String,
    /// The author.
    pub from: Person,
    /// To, in order.
    pub to: Vec<Person>,
    /// Cc, in order.
    pub cc: Vec<Person>,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When it came in.
    pub received_at: Timestamp,
    /// Without angle brackets.
    pub message_id_header: String,
    /// Without angle brackets.
    pub in_reply_to: Option<String>,
    /// The whole text.
    pub text: String,
    /// Without quotes and signature.
    pub new_text: String,
    /// Whether it has an HTML part.
    pub has_html: bool,
    /// For the reader, such as `message_id_reused`.
    pub flags: Value,
    /// In the shape of the API.
    pub attachments: Value,
    /// R55: the meeting of its calendar part.
    pub meeting: Option<MeetingView>,
}

/// Somebody on a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// The display name.
    pub name: Option<String>,
    /// The address; empty if it was erased.
    pub email: String,
    /// The contact with it.
    pub contact: Option<ContactId>,
    /// The user with it.
    pub user: Option<UserId>,
}

/// A thread of messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Its id, after merges (R41).
    pub id: ConversationId,
    /// Whose record it is on.
    pub contact: ContactId,
    /// The user on the practice's side.
    pub user: Option<UserId>,
    /// The subject of its first message.
    pub subject: String,
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Where the next messages begin, if these are not all.
    pub next: Option<Key>,
}

impl Message {
    /// R27a: its quoted part is not for everybody.
    #[must_use]
    pub fn has_internal_history(&self) -> bool {
        self.flags.as_array().is_some_and(|flags| flags.iter().any(|flag| flag == INTERNAL_HISTORY))
    }

    /// How the record owner stands on it: `from`, `to` or `cc`. Where it is not named (a bounce, somebody else's
    /// answer): the side of the dialogue that is the contact's.
    #[must_use]
    pub fn owner_role(&self) -> &'static str {
        let is_owner = |person: &Person| person.contact == Some(self.contact);
        if is_owner(&self.from) {
            "from"
        } else if self.to.iter().any(is_owner) {
            "to"
        } else if self.cc.iter().any(is_owner) {
            "cc"
        } else {
            side_of_contact(&self.direction)
        }
    }
}

/// The side of the dialogue that is the contact's.
pub(super) fn side_of_contact(direction: &str) -> &'static str {
    if direction == "inbound" { "from" } else { "to" }
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    pub(super) message_id: Uuid,
    conversation_id: Uuid,
    contact_id: Uuid,
    user_id: Option<Uuid>,
    pub(super) direction: String,
    kind: String,
    sender: String,
    subject: String,
    pub(super) sent_at: i64,
    received_at: i64,
    message_id_header: String,
    in_reply_to: Option<String>,
    text: String,
    new_text: String,
    has_html: bool,
    flags: String,
    attachments: String,
    meeting: Option<String>,
}

#[derive(sqlx::FromRow)]
struct PersonRow {
    message_id: Uuid,
    role: String,
    name: Option<String>,
    email: String,
    contact_id: Option<Uuid>,
    user_id: Option<Uuid>,
}

/// The columns of [`Row`].
pub(super) const COLUMNS: &str = "m.message_id, m.conversation_id, m.contact_id, m.user_id, m.direction, m.kind, m.sender, m.subject,
     m.sent_at, m.received_at, m.message_id_header, m.in_reply_to, m.text, m.new_text, m.has_html, m.flags, m.attachments, m.meeting";

impl Store {
    /// One message; none if there is no such in this account.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn message(
        &self,
        account: AccountId,
        message: MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let mut connection = self.reader().acquire().await?;
        read_message(&mut connection, account, message).await
    }

    /// One conversation, found under the ids of those that were merged into it too (R41).
    ///
    /// # Errors
    /// If the database fails.
    pub async fn conversation(
        &self,
        account: AccountId,
        conversation: ConversationId,
        slice: Slice,
    ) -> Result<Option<Conversation>, StoreError> {
        let mut id = conversation.uuid();
        for _ in 0..MERGES_MAX {
            let row: Option<(Uuid, Option<Uuid>, String, Option<Uuid>)> = query_as(
                "SELECT contact_id, user_id, subject, merged_into FROM conversations
                 WHERE account_id = $1 AND conversation_id = $2",
            )
            .bind(account.uuid())
            .bind(id)
            .fetch_optional(self.reader())
            .await?;
            let Some((contact, user, subject, merged_into)) = row else { return Ok(None) };
            if let Some(older) = merged_into {
                id = older;
                continue;
            }
            let (messages, next) = self.messages_of(account, id, slice).await?;
            return Ok(Some(Conversation {
                id: ConversationId::from_uuid(id),
                contact: ContactId::from_uuid(contact),
                user: user.map(UserId::from_uuid),
                subject,
                messages,
                next,
            }));
        }
        Ok(None)
    }

    async fn messages_of(
        &self,
        account: AccountId,
        conversation: Uuid,
        slice: Slice,
    ) -> Result<(Vec<Message>, Option<Key>), StoreError> {
        let mut sql = Builder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM messages m WHERE m.account_id = ").push_bind(account.uuid());
        sql.push(" AND m.conversation_id = ").push_bind(conversation);
        if let Some(after) = slice.after {
            sql.push(" AND (m.sent_at, m.message_id) > (").push_bind(after.at);
            sql.push(", ").push_bind(after.id).push(")");
        }
        sql.push(" ORDER BY m.sent_at, m.message_id LIMIT ").push_bind(slice.fetch_limit());
        let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
        let page = slice.page(rows, |row| Key::of_time(row.sent_at, row.message_id));
        Ok((self.with_people(account, page.items).await?, page.next))
    }

    /// Adds to messages, in their order, who is on them.
    pub(super) async fn with_people(
        &self,
        account: AccountId,
        rows: Vec<Row>,
    ) -> Result<Vec<Message>, StoreError> {
        let mut connection = self.reader().acquire().await?;
        with_people(&mut connection, account, rows).await
    }
}

/// One message, read with a connection of the caller's: in a transaction, as that transaction leaves it.
pub(in crate::store) async fn read_message(
    connection: &mut Connection,
    account: AccountId,
    message: MessageId,
) -> Result<Option<Message>, StoreError> {
    let mut sql = Builder::new("SELECT ");
    sql.push(COLUMNS).push(" FROM messages m WHERE m.account_id = ").push_bind(account.uuid());
    sql.push(" AND m.message_id = ").push_bind(message.uuid());
    let rows: Vec<Row> = sql.build().fetch_all(&mut *connection).await?;
    Ok(with_people(connection, account, rows).await?.pop())
}

async fn with_people(
    connection: &mut Connection,
    account: AccountId,
    rows: Vec<Row>,
) -> Result<Vec<Message>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Builder::new(
        "SELECT message_id, role, name, email, contact_id, user_id FROM participants WHERE account_id = ",
    );
    sql.push_bind(account.uuid()).push(" AND message_id IN (");
    sql.push_list(rows.iter().map(|row| row.message_id));
    sql.push(") ORDER BY message_id, position");
    let people: Vec<PersonRow> = sql.build().fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| message_of(row, &people)).collect())
}

fn message_of(row: Row, people: &[PersonRow]) -> Message {
    let with_role = |role: &str| -> Vec<Person> {
        let of_this =
            people.iter().filter(|person| person.message_id == row.message_id && person.role == role);
        of_this.map(person_of).collect()
    };
    Message {
        from: with_role("from").into_iter().next().unwrap_or_default(),
        to: with_role("to"),
        cc: with_role("cc"),
        id: MessageId::from_uuid(row.message_id),
        conversation: ConversationId::from_uuid(row.conversation_id),
        contact: ContactId::from_uuid(row.contact_id),
        user: row.user_id.map(UserId::from_uuid),
        direction: row.direction,
        kind: row.kind,
        sender: row.sender,
        subject: row.subject,
        sent_at: Timestamp::from_millis(row.sent_at),
        received_at: Timestamp::from_millis(row.received_at),
        message_id_header: row.message_id_header,
        in_reply_to: row.in_reply_to,
        // Stored once where all of it is new.
        text: if row.text.is_empty() { row.new_text.clone() } else { row.text },
        new_text: row.new_text,
        has_html: row.has_html,
        flags: list(&row.flags),
        attachments: list(&row.attachments),
        meeting: row.meeting.as_deref().and_then(|meeting| serde_json::from_str(meeting).ok()),
    }
}

fn person_of(row: &PersonRow) -> Person {
    Person {
        name: row.name.clone(),
        email: row.email.clone(),
        contact: row.contact_id.map(ContactId::from_uuid),
        user: row.user_id.map(UserId::from_uuid),
    }
}

/// A stored JSON array.
fn list(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::Array(Vec::new()))
}
