//! The review queue: held mail that waits for a person (R36).

use serde_json::Value;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::id::{AccountId, ContactId, DeliveryId, UserId};
use crate::store::engine::Builder;
use crate::store::row_keys::RowKeys;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// A held message; its delivery explains it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldMail {
    /// The delivery.
    pub id: DeliveryId,
    /// When it came.
    pub at: Timestamp,
    /// The reason code.
    pub reason: String,
    /// The same in one sentence.
    pub why: String,
    /// The user it waits for.
    pub user: Option<UserId>,
    /// The contact it would go to.
    pub contact: Option<ContactId>,
    /// When it is erased.
    pub expires_at: Timestamp,
    /// `from`, `to` and `subject`, in the shape of the API; and for searching `cc` and `original`, which it does not
    /// show.
    pub headers: Value,
}

/// Which held messages to list.
#[derive(Clone, Debug, Default)]
pub struct HeldFilter {
    /// For this reason.
    pub reason: Option<String>,
    /// That would go to this contact, or name its primary email.
    pub contact: Option<ContactId>,
    /// That wait for this user.
    pub user: Option<UserId>,
}

#[derive(sqlx::FromRow)]
struct Row {
    delivery_id: Uuid,
    at: i64,
    reason: String,
    why: String,
    user_id: Option<Uuid>,
    contact_id: Option<Uuid>,
    expires_at: i64,
    headers: String,
}

impl Store {
    /// One held message; none if there is no such in this account.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn held_mail(
        &self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<Option<HeldMail>, StoreError> {
        let mut sql = select(account);
        sql.push(" AND delivery_id = ").push_bind(delivery.uuid());
        let row: Option<Row> = sql.build().fetch_optional(self.reader()).await?;
        let Some(row) = row else { return Ok(None) };
        held_of(row, &self.row_keys(account).await?).map(Some)
    }

    /// Held messages of an account, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn held_mails(
        &self,
        account: AccountId,
        filter: &HeldFilter,
        slice: Slice,
    ) -> Result<Page<HeldMail>, StoreError> {
        // R36: a contact made later has what came before it was one.
        let contact = match filter.contact {
            None => None,
            Some(contact) => {
                let on_file = self.contact(account, contact).await?;
                Some((contact, on_file.and_then(|on_file| EmailAddress::parse(&on_file.email))))
            }
        };
        let keys = self.row_keys(account).await?;
        let wanted = usize::try_from(slice.fetch_limit()).unwrap_or(usize::MAX);
        let (mut after, mut held) = (slice.after.map(|after| after.id), Vec::new());
        loop {
            let mut sql = select(account);
            if let Some(reason) = &filter.reason {
                sql.push(" AND reason = ").push_bind(reason.clone());
            }
            if let Some(user) = filter.user {
                sql.push(" AND user_id = ").push_bind(user.uuid());
            }
            if let Some(after) = after {
                sql.push(" AND delivery_id < ").push_bind(after);
            }
            let piece = if contact.is_some() { LOOKED_AT_ONCE } else { slice.fetch_limit() };
            sql.push(" ORDER BY delivery_id DESC LIMIT ").push_bind(piece);
            let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
            let is_last = contact.is_none() || rows.is_empty();
            after = rows.last().map(|row| row.delivery_id).or(after);
            for row in rows {
                // Compared here: SQLite folds ASCII alone.
                let is_theirs = contact.as_ref().is_none_or(|(contact, email)| {
                    let headers =
                        || keys.show_or_nothing("held.headers", row.delivery_id, row.headers.clone());
                    row.contact_id == Some(contact.uuid()) || names_one_of(&headers(), email.as_slice())
                });
                if is_theirs {
                    let emptied = row.emptied();
                    held.push(match held_of(row, &keys) {
                        // It waits there for somebody to decide on it, or for its end; the others are shown whole.
                        Err(StoreError::Damaged { .. }) => held_of(emptied, &RowKeys::CLEAR),
                        read => read,
                    }?);
                }
            }
            if is_last || held.len() >= wanted {
                held.truncate(wanted);
                return Ok(slice.page(held, |held: &HeldMail| Key::of_id(held.id.uuid())));
            }
        }
    }
}

impl Row {
    /// What is left of a held mail whose row does not open.
    fn emptied(&self) -> Self {
        Self { reason: self.reason.clone(), why: DAMAGED.to_owned(), headers: "{}".to_owned(), ..*self }
    }
}

/// Why a held mail whose row does not open waits.
const DAMAGED: &str = "the row of this held mail is damaged: its names and subject cannot be shown";

/// Whether what the review queue keeps of a held mail names one of these addresses, in any case.
pub(in crate::store) fn names_one_of(headers: &str, addresses: &[EmailAddress]) -> bool {
    let folded = headers.to_lowercase();
    // It stands as a JSON string of its own.
    addresses.iter().any(|address| folded.contains(&Value::from(address.key()).to_string()))
}

/// Held mails that are looked at together, where each is read.
const LOOKED_AT_ONCE: i64 = 500;

fn select(account: AccountId) -> Builder {
    let mut sql = Builder::new(
        "SELECT delivery_id, at, reason, why, user_id, contact_id, expires_at, headers FROM held WHERE account_id = ",
    );
    sql.push_bind(account.uuid());
    sql
}

fn held_of(row: Row, keys: &RowKeys) -> Result<HeldMail, StoreError> {
    let id = row.delivery_id;
    Ok(HeldMail {
        id: DeliveryId::from_uuid(row.delivery_id),
        at: Timestamp::from_millis(row.at),
        reason: row.reason,
        why: keys.show("held.why", id, row.why)?,
        user: row.user_id.map(UserId::from_uuid),
        contact: row.contact_id.map(ContactId::from_uuid),
        expires_at: Timestamp::from_millis(row.expires_at),
        headers: serde_json::from_str(&keys.show("held.headers", id, row.headers)?).unwrap_or_default(),
    })
}
