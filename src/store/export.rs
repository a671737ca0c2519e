//! Everything of one account, read at one point in time: for an export that another copy imports.
//!
//! Promises that what is read fits together whatever is filed or erased meanwhile, and that a page or one message is
//! in memory at a time. Rows come as lines (see `lines`), opened where they are sealed; the content of a message is
//! opened on its own.

use serde::Serialize;
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::engine::{Builder, Transaction, Value, query_as, query_scalar};
use crate::store::line_seal::{self, Cell};
use crate::store::lines::{
    AccountLine, AuditLine, ConfirmationLine, ContactLine, ContentFile, ConversationLine, DailyFilingLine,
    DeliveryAddressLine, DeliveryLine, EventLine, HeldLine, Kind, Line, MarkLine, MessageLine, Participant,
    RelayDigestLine, RelayJobLine, SignerLine, SyncAddressLine, ThreadIdLine, TombstoneLine, UserEmailLine,
    UserLine, WebhookDeliveryLine, WebhookLine,
};
use crate::store::read::Content;
use crate::store::row_keyring::RowKeySet;
use crate::store::{Store, StoreError};

/// An account at one point in time.
#[derive(Debug)]
pub struct Snapshot {
    store: Store,
    account: AccountId,
    reader: Transaction,
    keys: RowKeySet,
}

/// Where a list of lines goes on.
#[derive(Clone, Debug)]
pub struct Place(Vec<Value>);

/// Some lines of a kind.
#[derive(Debug)]
pub struct Lines {
    /// In order.
    pub lines: Vec<Written>,
    /// Rows that do not open: which, and why. They are in no line, or empty in part where others refer to them.
    pub unread: Vec<String>,
    /// Where the next ones begin; none at the end.
    pub next: Option<Place>,
}

/// A line, and the content that belongs to it.
#[derive(Debug)]
pub struct Written {
    line: Open,
}

#[derive(Debug)]
enum Open {
    /// As it is written.
    Done(String),
    Held(Box<HeldLine>),
    Message(Box<MessageLine>),
}

impl Store {
    /// An account as it stands now. None if there is no such; the operator's is none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn snapshot(&self, account: AccountId) -> Result<Option<Snapshot>, StoreError> {
        let mut reader = self.inner.read.begin_reading().await?;
        // A bucket may take its time for a message.
        reader.allow_pauses().await?;
        let found: Option<i64> = query_scalar("SELECT created_at FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_optional(&mut *reader)
            .await?;
        if found.is_none() || account == AccountId::OPERATOR {
            return Ok(None);
        }
        // As it stands now: a key may be made anew meanwhile.
        let keys = self.inner.rows.of_all(&mut reader, [account, AccountId::OPERATOR]).await?;
        Ok(Some(Snapshot { store: self.clone(), account, reader, keys }))
    }
}

impl Snapshot {
    /// Whether something is being erased: half of it would be in an export.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_being_purged(&mut self) -> Result<bool, StoreError> {
        let count: i64 = query_scalar("SELECT COUNT(*) FROM purges WHERE account_id = $1")
            .bind(self.account.uuid())
            .fetch_one(&mut *self.reader)
            .await?;
        Ok(count > 0)
    }

    /// The next lines of a kind behind `after`, in the order of their keys.
    ///
    /// # Errors
    /// If the database fails, or a row is damaged.
    #[expect(clippy::cognitive_complexity, reason = "one arm a kind")]
    pub async fn lines(&mut self, kind: Kind, after: Option<Place>) -> Result<Lines, StoreError> {
        match kind {
            Kind::Account => self.plain::<AccountLine>(after).await,
            Kind::Audit => self.plain::<AuditLine>(after).await,
            Kind::Confirmations => self.plain::<ConfirmationLine>(after).await,
            Kind::Contacts => self.plain::<ContactLine>(after).await,
            Kind::Conversations => self.plain::<ConversationLine>(after).await,
            Kind::DailyFilings => self.plain::<DailyFilingLine>(after).await,
            Kind::Deliveries => self.plain::<DeliveryLine>(after).await,
            Kind::DeliveryAddresses => self.plain::<DeliveryAddressLine>(after).await,
            Kind::Events => self.plain::<EventLine>(after).await,
            Kind::Held => self.held(after).await,
            Kind::Marks => self.plain::<MarkLine>(after).await,
            Kind::Messages => self.messages(after).await,
            Kind::RelayDigests => self.plain::<RelayDigestLine>(after).await,
            Kind::RelayJobs => self.plain::<RelayJobLine>(after).await,
            Kind::Signers => self.plain::<SignerLine>(after).await,
            Kind::SyncAddresses => self.plain::<SyncAddressLine>(after).await,
            Kind::ThreadIds => self.plain::<ThreadIdLine>(after).await,
            Kind::Tombstones => self.plain::<TombstoneLine>(after).await,
            Kind::UserEmails => self.plain::<UserEmailLine>(after).await,
            Kind::Users => self.plain::<UserLine>(after).await,
            Kind::WebhookDeliveries => self.plain::<WebhookDeliveryLine>(after).await,
            Kind::Webhooks => self.plain::<WebhookLine>(after).await,
        }
    }

    /// The message as it was received, under our trace fields; none where nothing was (mail that the CRM registered),
    /// and for a line without content.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Corrupt`] where this one is to blame; others if the store is.
    pub async fn content(&mut self, line: &Written) -> Result<Option<Vec<u8>>, StoreError> {
        let (text, id) = match &line.line {
            Open::Done(_) => return Ok(None),
            Open::Held(line) => (
                "SELECT content_key, raw, blob FROM held WHERE account_id = $1 AND delivery_id = $2",
                line.delivery_id,
            ),
            Open::Message(line) => (
                "SELECT content_key, raw, blob FROM messages WHERE account_id = $1 AND message_id = $2",
                line.message_id,
            ),
        };
        let content: Option<Content> =
            query_as(text).bind(self.account.uuid()).bind(id).fetch_optional(&mut *self.reader).await?;
        self.store.open_content(self.account, id, content).await
    }

    async fn plain<L: Line>(&mut self, after: Option<Place>) -> Result<Lines, StoreError> {
        let Page { lines, unread, next } = self.page::<L>(after, PAGE).await?;
        let lines = lines.iter().map(|line| Ok(Open::Done(json(line)?))).map(|line| line.map(Written::from));
        Ok(Lines { lines: lines.collect::<Result<_, StoreError>>()?, unread, next })
    }

    async fn held(&mut self, after: Option<Place>) -> Result<Lines, StoreError> {
        let Page { lines, unread, next } = self.page::<HeldLine>(after, PAGE).await?;
        let lines = lines.into_iter().map(|line| Open::Held(Box::new(line)));
        Ok(Lines { lines: lines.map(Written::from).collect(), unread, next })
    }

    async fn messages(&mut self, after: Option<Place>) -> Result<Lines, StoreError> {
        let limit = self.messages_at_once(after.as_ref()).await?;
        let Page { lines: mut messages, mut unread, next } = self.page::<MessageLine>(after, limit).await?;
        let keys = self.keys.of(self.account)?;
        let people = self.people(&messages).await?;
        for (message_id, position, role, name, email, contact_id, user_id) in people {
            if let Some(message) = messages.iter_mut().find(|message| message.message_id == message_id) {
                let person = Participant { position, role, name, email, contact_id, user_id };
                message.participants.push(person);
            }
        }
        // Stored once where all of it is new.
        for message in messages.iter_mut().filter(|message| message.text.is_empty()) {
            message.text.clone_from(&message.new_text);
        }
        messages = those_that_open(messages, &mut unread, |message| {
            let id = message.message_id;
            let mut people = message.participants.iter_mut();
            people.try_for_each(|person| line_seal::open_participant(person, id, &keys)).map(|()| None)
        })?;
        let lines = messages.into_iter().map(|line| Open::Message(Box::new(line)));
        Ok(Lines { lines: lines.map(Written::from).collect(), unread, next })
    }

    async fn people(&mut self, messages: &[MessageLine]) -> Result<Vec<Person>, StoreError> {
        let mut sql = Builder::new(
            "SELECT message_id, position, role, name, email, contact_id, user_id FROM participants WHERE account_id = ",
        );
        sql.push_bind(self.account.uuid()).push(" AND message_id IN (");
        sql.push_list(messages.iter().map(|message| message.message_id).chain([Uuid::nil()]));
        sql.push(") ORDER BY message_id, position");
        Ok(sql.build().fetch_all(&mut *self.reader).await?)
    }

    /// Their texts may be large: so many that they stay within the budget, and at least one.
    async fn messages_at_once(&mut self, after: Option<&Place>) -> Result<usize, StoreError> {
        let mut sql = Builder::new("SELECT size_bytes FROM messages WHERE account_id = ");
        sql.push_bind(self.account.uuid());
        if let Some(Place(values)) = after {
            sql.push(" AND (message_id) > (").push_list(values.iter().cloned()).push(")");
        }
        sql.push(format_args!(" ORDER BY message_id LIMIT {PAGE_OF_MESSAGES}"));
        let sizes: Vec<(i64,)> = sql.build().fetch_all(&mut *self.reader).await?;
        Ok(that_fit(&sizes))
    }

    async fn page<L: Line>(&mut self, after: Option<Place>, limit: usize) -> Result<Page<L>, StoreError> {
        let mut sql = Builder::new(L::SELECT);
        sql.push_bind(self.account.uuid());
        if let Some(Place(values)) = after {
            sql.push(format_args!(" AND ({}) > (", L::KEY)).push_list(values).push(")");
        }
        sql.push(format_args!(" ORDER BY {} LIMIT {limit}", L::KEY));
        let stored: Vec<L> = sql.build().fetch_all(&mut *self.reader).await?;
        // By what is stored they are in order.
        let next = stored.last().filter(|_| stored.len() == limit).map(|last| Place(last.key()));
        let keys = line_seal::keys_of::<L>(&self.keys, self.account)?;
        let mut unread = Vec::new();
        let lines = those_that_open(stored, &mut unread, |line| line_seal::open(line, &keys))?;
        Ok(Page { lines, unread, next })
    }
}

/// Lines as the database has them, opened.
struct Page<L> {
    lines: Vec<L>,
    unread: Vec<String>,
    next: Option<Place>,
}

type Person = (Uuid, i64, String, Option<String>, String, Option<Uuid>, Option<Uuid>);

/// One that does not open costs itself alone.
fn those_that_open<L: Line>(
    lines: Vec<L>,
    unread: &mut Vec<String>,
    open: impl Fn(&mut L) -> Result<Option<StoreError>, StoreError>,
) -> Result<Vec<L>, StoreError> {
    let mut opened = Vec::with_capacity(lines.len());
    for mut line in lines {
        let (error, becomes, is_kept) = match open(&mut line) {
            Ok(None) => {
                opened.push(line);
                continue;
            }
            Ok(Some(error)) => (error, "is empty in part", true),
            Err(error @ StoreError::Damaged { .. }) => (error, "is left out", false),
            Err(error) => return Err(error),
        };
        unread.push(format!("the row of {} {becomes}: {}", name_of(&mut line), error.one_line()));
        opened.extend(Some(line).filter(|_| is_kept));
    }
    Ok(opened)
}

/// By its ids; nothing of what it says.
fn name_of(line: &mut impl Line) -> String {
    let ids = line.cells().into_iter().filter_map(|(column, cell)| match cell {
        Some(Cell::Id(id)) => Some(format!("{column} {id}")),
        Some(Cell::Json(_) | Cell::Octets(_) | Cell::Text(_)) | None => None,
    });
    ids.take(1).collect()
}

impl Written {
    /// The id under which its content is kept; none if this kind has none.
    #[must_use]
    pub fn content_id(&self) -> Option<Uuid> {
        match &self.line {
            Open::Done(_) => None,
            Open::Held(line) => Some(line.delivery_id),
            Open::Message(line) => Some(line.message_id),
        }
    }

    /// The line, naming its content.
    ///
    /// # Errors
    /// None that the shapes allow.
    pub fn finish(self, content: Option<ContentFile>) -> Result<String, StoreError> {
        match self.line {
            Open::Done(line) => Ok(line),
            Open::Held(mut line) => {
                line.content = content;
                json(&line)
            }
            Open::Message(mut line) => {
                line.content = content;
                json(&line)
            }
        }
    }
}

impl From<Open> for Written {
    fn from(line: Open) -> Self {
        Self { line }
    }
}

/// Of how many messages, whose octets as received these are, the texts are read at once: at least one.
pub(in crate::store) fn that_fit(sizes: &[(i64,)]) -> usize {
    let sums = sizes.iter().scan(0_i64, |sum, (size,)| {
        *sum = sum.saturating_add(*size);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= TEXTS_AT_ONCE).count().max(1)
}

fn json(line: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(line).map_err(|_| StoreError::Defect("a row has no JSON"))
}

const PAGE: usize = 500;
const PAGE_OF_MESSAGES: usize = 100;
/// Octets of messages as received; their texts are at most some times as large.
const TEXTS_AT_ONCE: i64 = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_in_pieces_of_a_bounded_size() {
        for (sizes, fit) in [
            (vec![(1,); 100], 100),
            (vec![(TEXTS_AT_ONCE / 2,); 3], 2),
            (vec![(TEXTS_AT_ONCE,), (1,)], 1),
            (vec![(TEXTS_AT_ONCE + 1,), (1,)], 1),
            (vec![(i64::MAX,); 2], 1),
        ] {
            assert_eq!(that_fit(&sizes), fit, "{sizes:?}");
        }
    }
}
