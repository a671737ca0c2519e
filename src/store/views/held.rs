//! The review queue: held mail that waits for a person (R36).

use serde_json::Value;
use uuid::Uuid;

use crate::id::{AccountId, ContactId, DeliveryId, UserId};
use crate::store::directory::escape_like;
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
    /// `from`, `to` and `subject`, in the shape of the API; and for searching `cc` and `original`, which it does not show.
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
        let keys = self.row_keys(account).await?;
        if let (Some(contact), false) = (filter.contact, keys.are_clear()) {
            return self.sealed_held_mails(account, filter, contact, slice).await;
        }
        let mut sql = select(account);
        if let Some(reason) = &filter.reason {
            sql.push(" AND reason = ").push_bind(reason.clone());
        }
        if let Some(user) = filter.user {
            sql.push(" AND user_id = ").push_bind(user.uuid());
        }
        if let Some(contact) = filter.contact {
            sql.push(" AND (contact_id = ").push_bind(contact.uuid());
            // R36: a contact made later has what came before it was one. The address stands as a JSON string of its own.
            if let Some(on_file) = self.contact(account, contact).await? {
                let quoted = Value::from(on_file.email.to_lowercase()).to_string();
                sql.push(" OR LOWER(headers) LIKE ").push_bind(format!("%{}%", escape_like(&quoted)));
                sql.push(" ESCAPE '\\'");
            }
            sql.push(")");
        }
        if let Some(after) = slice.after {
            sql.push(" AND delivery_id < ").push_bind(after.id);
        }
        sql.push(" ORDER BY delivery_id DESC LIMIT ").push_bind(slice.fetch_limit());
        let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
        let held = rows.into_iter().map(|row| held_of(row, &keys)).collect::<Result<_, _>>()?;
        Ok(slice.page(held, |held: &HeldMail| Key::of_id(held.id.uuid())))
    }

    /// The same for a contact where nothing can be looked for: what waits is opened until the page is full.
    async fn sealed_held_mails(
        &self,
        account: AccountId,
        filter: &HeldFilter,
        contact: ContactId,
        slice: Slice,
    ) -> Result<Page<HeldMail>, StoreError> {
        let address = self.contact(account, contact).await?;
        let quoted = address.map(|on_file| Value::from(on_file.email.to_lowercase()).to_string());
        let is_meant = |held: &HeldMail| {
            let headers = || held.headers.to_string().to_lowercase();
            held.contact == Some(contact) || quoted.as_ref().is_some_and(|quoted| headers().contains(quoted))
        };
        let anybody = HeldFilter { contact: None, ..filter.clone() };
        let wanted = usize::try_from(slice.fetch_limit()).unwrap_or(usize::MAX);
        let mut look = Slice { limit: HELD_AT_ONCE, after: slice.after };
        let mut found = Vec::new();
        while found.len() < wanted {
            let page = Box::pin(self.held_mails(account, &anybody, look)).await?;
            found.extend(page.items.into_iter().filter(is_meant));
            match page.next {
                Some(next) => look.after = Some(next),
                None => break,
            }
        }
        found.truncate(wanted);
        Ok(slice.page(found, |held: &HeldMail| Key::of_id(held.id.uuid())))
    }
}

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

/// Held mails that are opened at once.
const HELD_AT_ONCE: u32 = 200;
