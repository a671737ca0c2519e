//! Messages found by what stands in them, newest first.
//!
//! The index names candidates, or a record holds them; each is read and decided on by [`SearchQuery`], so that both
//! engines answer the same. A record is searched as it is, whatever of it is indexed by now. A call reads a bounded
//! number of candidates: a part of the list may be short, and its `next` goes on.

use uuid::Uuid;

use crate::id::{AccountId, ContactId, ConversationId, MessageId, UserId};
use crate::store::engine::search::Matching;
use crate::store::engine::{Builder, Connection, Engine};
use crate::store::row_keys::{RowKeys, position_of};
use crate::store::search::{IndexQuery, SearchQuery, SnippetPart, TEXT_MAX_CHARS};
use crate::store::views::timeline::{push_record, push_until};
use crate::store::views::{Key, Page, Person, Slice, if_it_opens};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// On whose record to look. Without either, everywhere in the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchFilter {
    /// What is on this contact's timeline (R25).
    pub contact: Option<ContactId>,
    /// Of this conversation, or one that was merged into it (R41).
    pub conversation: Option<ConversationId>,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its id.
    pub message: MessageId,
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
    /// The decoded subject.
    pub subject: String,
    /// The author.
    pub from: Person,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// A piece of the new text.
    pub snippet: Vec<SnippetPart>,
}

#[derive(sqlx::FromRow)]
struct Row {
    place: i64,
    message_id: Uuid,
    conversation_id: Uuid,
    contact_id: Uuid,
    user_id: Option<Uuid>,
    direction: String,
    kind: String,
    subject: String,
    sent_at: i64,
    new_text: String,
}

#[derive(sqlx::FromRow)]
struct PersonRow {
    message_id: Uuid,
    position: i64,
    role: String,
    name: Option<String>,
    email: String,
    contact_id: Option<Uuid>,
    user_id: Option<Uuid>,
}

impl Row {
    const fn key(&self) -> Key {
        Key::of_time(self.place, self.message_id)
    }

    fn shown(mut self, keys: &RowKeys) -> Result<Self, StoreError> {
        let id = self.message_id;
        self.subject = keys.show("messages.subject", id, self.subject)?;
        self.new_text = keys.show("messages.new_text", id, self.new_text)?;
        if !keys.are_clear()
            && let Some((end, _)) = self.new_text.char_indices().nth(TEXT_MAX_CHARS)
            && let Some(beginning) = self.new_text.get(..end)
        {
            self.new_text = beginning.to_owned();
        }
        Ok(self)
    }
}

impl PersonRow {
    fn shown(mut self, keys: &RowKeys) -> Result<Self, StoreError> {
        let place = position_of(self.message_id, self.position);
        self.name = keys.show_some("participants.name", place, self.name)?;
        self.email = keys.show("participants.email", place, self.email)?;
        Ok(self)
    }
}

impl Store {
    /// Part of what a search finds.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn search(
        &self,
        account: AccountId,
        query: &SearchQuery,
        filter: SearchFilter,
        slice: Slice,
    ) -> Result<Page<Hit>, StoreError> {
        let index = query.index(account, &self.inner.keys);
        let conversation = match filter.conversation {
            Some(asked) => match self.conversation_root(account, asked).await? {
                Some(root) => Some(root),
                None => return Ok(Page { items: Vec::new(), next: None }),
            },
            None => None,
        };
        let keys = self.row_keys(account).await?;
        let limit = usize::try_from(slice.limit).unwrap_or(usize::MAX);
        let piece = (limit + 1).min(if keys.are_clear() { PIECE } else { SEALED_PIECE });
        let mut connection = self.reader().acquire().await?;
        let (mut hits, mut after, mut read) = (Vec::new(), slice.after, 0);
        loop {
            let sql = match (filter.contact, conversation) {
                (None, None) => {
                    candidates_of_index(connection.engine(), (account, &keys), &index, after, piece)
                }
                (contact, conversation) => {
                    candidates_of_record((account, &keys), contact, conversation, after, piece)
                }
            };
            let rows: Vec<Row> = sql.build().fetch_all(&mut connection).await?;
            let is_last = rows.len() < piece;
            read += rows.len();
            after = rows.last().map(Row::key).or(after);
            hits.extend(decide(&mut connection, (account, &keys), query, rows).await?);
            if hits.len() > limit {
                hits.truncate(limit);
                let next = hits.last().map(|(key, _)| *key);
                return Ok(Page { items: hits.into_iter().map(|(_, hit)| hit).collect(), next });
            }
            if is_last || read >= CANDIDATES_MAX {
                let next = after.filter(|_| !is_last);
                return Ok(Page { items: hits.into_iter().map(|(_, hit)| hit).collect(), next });
            }
        }
    }
}

/// Those of the candidates that are looked for.
async fn decide(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    query: &SearchQuery,
    rows: Vec<Row>,
) -> Result<Vec<(Key, Hit)>, StoreError> {
    let mut found: Vec<(Row, Vec<SnippetPart>)> = Vec::new();
    for row in rows {
        let Some(mut row) = if_it_opens("search", row.message_id, row.shown(keys))? else { continue };
        let text = std::mem::take(&mut row.new_text);
        let snippet = query.find(&row.subject, &text).map(|found| found.snippet(&text));
        found.extend(snippet.map(|snippet| (row, snippet)));
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Builder::new(
        "SELECT message_id, position, role, name, email, contact_id, user_id FROM participants WHERE account_id = ",
    );
    sql.push_bind(account.uuid()).push(" AND message_id IN (");
    sql.push_list(found.iter().map(|(row, _)| row.message_id)).push(")");
    if !query.names_people() {
        sql.push(" AND role = 'from'");
    }
    sql.push(" ORDER BY message_id, position");
    let people: Vec<PersonRow> = sql.build().fetch_all(connection).await?;
    let people =
        people.into_iter().map(|person| if_it_opens("search", person.message_id, person.shown(keys)));
    let people: Vec<PersonRow> = people.filter_map(Result::transpose).collect::<Result<_, StoreError>>()?;
    let hits = found.into_iter().filter_map(|(row, snippet)| {
        let on_it = people.iter().filter(|person| person.message_id == row.message_id);
        let from = on_it.clone().find(|person| person.role == "from");
        let to = on_it.filter(|person| matches!(person.role.as_str(), "to" | "cc"));
        let author = from.map(|person| person.email.as_str()).unwrap_or_default();
        let is_wanted = query.is_between(author, &to.map(|person| person.email.as_str()).collect::<Vec<_>>());
        is_wanted.then(|| (row.key(), hit_of(row, from, snippet)))
    });
    Ok(hits.collect())
}

fn hit_of(row: Row, from: Option<&PersonRow>, snippet: Vec<SnippetPart>) -> Hit {
    let from = from.map_or_else(Person::default, |person| Person {
        name: person.name.clone(),
        email: person.email.clone(),
        contact: person.contact_id.map(ContactId::from_uuid),
        user: person.user_id.map(UserId::from_uuid),
    });
    Hit {
        message: MessageId::from_uuid(row.message_id),
        conversation: ConversationId::from_uuid(row.conversation_id),
        contact: ContactId::from_uuid(row.contact_id),
        user: row.user_id.map(UserId::from_uuid),
        direction: row.direction,
        kind: row.kind,
        subject: row.subject,
        from,
        sent_at: Timestamp::from_millis(row.sent_at),
        snippet,
    }
}

fn select(place: &'static str, keys: &RowKeys) -> Builder {
    let mut sql = Builder::new("SELECT ");
    sql.push(place).push(
        " AS place, m.message_id, m.conversation_id, m.contact_id, m.user_id, m.direction, m.kind, m.subject, m.sent_at, ",
    );
    if keys.are_clear() {
        sql.push("SUBSTR(m.new_text, 1, ").push(TEXT_MAX_CHARS).push(") AS new_text");
    } else {
        // What is sealed is cut when it is open.
        sql.push("m.new_text");
    }
    sql
}

/// The next candidates of the account's index.
fn candidates_of_index(
    engine: Engine,
    (account, keys): (AccountId, &RowKeys),
    query: &IndexQuery,
    after: Option<Key>,
    piece: usize,
) -> Builder {
    let matching = Matching::of(engine);
    let mut sql = select("d.place", keys);
    matching.push(&mut sql, account, query, engine);
    let place = matching.place;
    if let Some(after) = after {
        sql.push(format_args!(" AND {place} < ")).push_bind(after.at);
    }
    sql.push(format_args!(" ORDER BY {place} DESC LIMIT {piece}"));
    sql
}

/// The next messages of a record; the index has no part in it: a record is small beside what a word may stand in.
fn candidates_of_record(
    (account, keys): (AccountId, &RowKeys),
    contact: Option<ContactId>,
    conversation: Option<ConversationId>,
    after: Option<Key>,
    piece: usize,
) -> Builder {
    let mut sql = select("m.sent_at", keys);
    sql.push(" FROM ");
    match (contact, conversation) {
        (Some(contact), None) => {
            let limit = i64::try_from(piece).unwrap_or(i64::MAX);
            push_record(&mut sql, account, contact, after, limit);
            sql.push(" AS r CROSS JOIN messages m WHERE m.message_id = r.message_id AND m.account_id = ");
            sql.push_bind(account.uuid());
        }
        (contact, conversation) => {
            sql.push("messages m WHERE m.account_id = ").push_bind(account.uuid());
            sql.push(" AND m.conversation_id = ").push_bind(conversation.map(ConversationId::uuid));
            push_until(&mut sql, after, "m.sent_at", "m.message_id");
            if let Some(contact) = contact {
                sql.push(
                    " AND EXISTS (SELECT 1 FROM participants p WHERE p.account_id = m.account_id
                     AND p.message_id = m.message_id AND p.contact_id = ",
                );
                sql.push_bind(contact.uuid()).push(")");
            }
        }
    }
    sql.push(format_args!(" ORDER BY m.sent_at DESC, m.message_id DESC LIMIT {piece}"));
    sql
}

/// Candidates read at once: with texts at their limit they fit into memory many times.
const PIECE: usize = 64;
/// The same where rows are sealed: a text is read whole before it can be cut.
const SEALED_PIECE: usize = 8;
/// Candidates that one call decides on.
const CANDIDATES_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use crate::store::views::tests::expect_no_walk_through_the_account;

    #[tokio::test]
    async fn candidates_are_read_without_walking_through_the_account() {
        let (account, contact, conversation) =
            (AccountId::generate(), ContactId::generate(), ConversationId::generate());
        let query = SearchQuery::parse("knee -pain from:a@b.test").unwrap();
        let index = query.index(account, &Keys::generate().unwrap());
        for after in [None, Some(Key::of_time(1, Uuid::now_v7()))] {
            for sql in [
                candidates_of_index(Engine::Sqlite, (account, &RowKeys::CLEAR), &index, after, PIECE),
                candidates_of_record((account, &RowKeys::CLEAR), Some(contact), None, after, PIECE),
                candidates_of_record((account, &RowKeys::CLEAR), None, Some(conversation), after, PIECE),
                candidates_of_record(
                    (account, &RowKeys::CLEAR),
                    Some(contact),
                    Some(conversation),
                    after,
                    PIECE,
                ),
            ] {
                expect_no_walk_through_the_account(&sql).await;
            }
        }
    }
}
