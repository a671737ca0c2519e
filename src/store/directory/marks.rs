//! Marks: which (user, contact) pairs have their future mail filed (R29–R35).

use serde_json::json;
use uuid::Uuid;

use crate::id::{AccountId, ContactId, UserId};
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{Builder, query, query_as};
use crate::store::row_keys::RowKeys;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// One mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The user.
    pub user: UserId,
    /// The contact.
    pub contact: ContactId,
    /// The contact's primary email, for a mailbox connector's filter.
    pub contact_email: String,
    /// On, or turned off by a person.
    pub state: MarkState,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// `api`, or the message that set it.
    pub because: String,
}

/// Whether a mark files mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkState {
    /// Turned off by a person: filing does not undo it (R29).
    Off,
    /// Files.
    On,
}

impl MarkState {
    /// The word of API and store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

/// Which marks of an account to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkFilter {
    /// Of this user.
    pub user: Option<UserId>,
    /// Of this contact.
    pub contact: Option<ContactId>,
    /// Changed at or after this time.
    pub since: Option<Timestamp>,
}

type Row = (Uuid, Uuid, String, String, i64, String);

impl Store {
    /// Marks of an account, in the order they came into their state.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn marks(
        &self,
        account: AccountId,
        filter: MarkFilter,
        slice: Slice,
    ) -> Result<Page<Mark>, StoreError> {
        let mut sql = Builder::new(
            "SELECT s.user_id, s.contact_id, c.email, s.state, s.since, s.because FROM sync_marks s
             JOIN contacts c ON c.account_id = s.account_id AND c.contact_id = s.contact_id WHERE s.account_id = ",
        );
        sql.push_bind(account.uuid());
        if let Some(user) = filter.user {
            sql.push(" AND s.user_id = ").push_bind(user.uuid());
        }
        if let Some(contact) = filter.contact {
            sql.push(" AND s.contact_id = ").push_bind(contact.uuid());
        }
        if filter.contact.is_none() && filter.since.is_none() {
            // Whoever follows changes asks with `since`, and is told of what was turned off, too.
            sql.push(" AND s.state = 'on'");
        }
        if let Some(since) = filter.since {
            sql.push(" AND s.since >= ").push_bind(since.as_millis());
        }
        if let Some(after) = slice.after {
            sql.push(" AND (s.since, s.user_id, s.contact_id) > (").push_bind(after.at);
            sql.push(", ").push_bind(after.id).push(", ").push_bind(after.second).push(")");
        }
        sql.push(" ORDER BY s.since, s.user_id, s.contact_id LIMIT ").push_bind(slice.fetch_limit());
        let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
        let keys = self.row_keys(account).await?;
        let page = slice.page(rows, |(user, contact, .., since, _): &Row| Key {
            at: *since,
            id: *user,
            second: *contact,
        });
        page.that_opens("sync-marks", |(_, contact, ..)| *contact, |row| mark_of(row, &keys))
    }
}

impl Change {
    /// Turns a mark on or off at the wish of staff or contact; one that is in that state stays as it is.
    ///
    /// # Errors
    /// `NotFound` for contact or user.
    pub async fn set_mark(
        &mut self,
        account: AccountId,
        contact: ContactId,
        user: UserId,
        state: MarkState,
    ) -> Result<Mark, DirectoryError> {
        self.contact(account, contact).await?;
        self.user(account, user).await?;
        let changed = query(
            "INSERT INTO sync_marks (account_id, contact_id, user_id, state, since, because) VALUES ($1, $2, $3, $4, $5, 'api')
             ON CONFLICT (account_id, contact_id, user_id)
             DO UPDATE SET state = excluded.state, since = excluded.since, because = excluded.because
             WHERE sync_marks.state <> excluded.state",
        )
        .bind(account.uuid())
        .bind(contact.uuid())
        .bind(user.uuid())
        .bind(state.as_str())
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        if changed > 0 {
            let data = json!({ "contact_id": contact, "user_id": user, "because": "api" });
            let kind = match state {
                MarkState::Off => "contact.sync_off",
                MarkState::On => "contact.sync_on",
            };
            self.emit(account, kind, None, &data).await?;
        }
        let row: Row = query_as(
            "SELECT s.user_id, s.contact_id, c.email, s.state, s.since, s.because FROM sync_marks s
             JOIN contacts c ON c.account_id = s.account_id AND c.contact_id = s.contact_id
             WHERE s.account_id = $1 AND s.contact_id = $2 AND s.user_id = $3",
        )
        .bind(account.uuid())
        .bind(contact.uuid())
        .bind(user.uuid())
        .fetch_one(self.on(account).await?)
        .await?;
        Ok(mark_of(row, &self.row_keys(account).await?)?)
    }
}

fn mark_of(
    (user, contact, contact_email, state, since, because): Row,
    keys: &RowKeys,
) -> Result<Mark, StoreError> {
    Ok(Mark {
        user: UserId::from_uuid(user),
        contact: ContactId::from_uuid(contact),
        contact_email: keys.show("contacts.email", contact, contact_email)?,
        state: if state == "on" { MarkState::On } else { MarkState::Off },
        since: Timestamp::from_millis(since),
        because,
    })
}
