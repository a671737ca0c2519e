//! Users and their sync addresses: one active address each; every earlier one stays known as retired, so that it
//! answers 550 5.2.1 and is never given to somebody else.

use uuid::Uuid;

use crate::address::ServedDomains;
use crate::id::{AccountId, UserId};
use crate::store::directory::identities::{self, UserEmail, Verification};
use crate::store::directory::profile::{self, Profile};
use crate::store::directory::signers::{self, RememberedSigner};
use crate::store::directory::{Change, DirectoryError, NAME_MAX_CHARS, checked_text};
use crate::store::engine::{Connection, query, query_as};
use crate::store::row_keys::RowKeys;
use crate::store::views::{Key, Page, Slice, if_it_opens};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// A person of the practice's staff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their name.
    pub name: String,
    /// A word of the CRM's.
    pub role: String,
    /// Their identities (R10), in order of address.
    pub emails: Vec<UserEmail>,
    /// R13: who else may sign for them.
    pub signers: Vec<RememberedSigner>,
    /// Whether mail to the sync address is filed (R62).
    pub sync: SyncState,
    /// The local part of the active sync address; empty once they are erased.
    pub sync_local: String,
    /// When they were made.
    pub created_at: Timestamp,
    /// Feeds and forwarding confirmation (R34, R35).
    pub profile: Profile,
}

/// What makes a user.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Their name.
    pub name: String,
    /// Their addresses.
    pub emails: Vec<String>,
    /// A word of the CRM's.
    pub role: String,
}

/// Whether a user's sync address files mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Disconnected: refused with 550 5.2.1.
    Off,
    /// Connected.
    On,
}

impl SyncState {
    /// The word of API and store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }

    pub(super) fn read(word: &str) -> Self {
        if word == "on" { Self::On } else { Self::Off }
    }
}

impl User {
    /// `<prefix>-<secret>@<sync domain>`; none of a user who is erased.
    #[must_use]
    pub fn sync_address(&self, served: &ServedDomains) -> Option<String> {
        (!self.sync_local.is_empty()).then(|| format!("{}@{}", self.sync_local, served.sync_domain()))
    }

    /// `<prefix>-<secret>+auto@<sync domain>`; none of a user who is erased.
    #[must_use]
    pub fn auto_address(&self, served: &ServedDomains) -> Option<String> {
        (!self.sync_local.is_empty()).then(|| format!("{}+auto@{}", self.sync_local, served.sync_domain()))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    user_id: Uuid,
    name: String,
    role: String,
    sync_state: String,
    sync_local: String,
    created_at: i64,
}

impl Store {
    /// One user; none if there is no such in this account.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn user(&self, account: AccountId, user: UserId) -> Result<Option<User>, StoreError> {
        let mut reader = self.reader().acquire().await?;
        let row: Option<Row> =
            query_as(SELECT_ONE).bind(account.uuid()).bind(user.uuid()).fetch_optional(&mut reader).await?;
        match row {
            Some(row) => Ok(Some(self.whole_user(&mut reader, account, row).await?)),
            None => Ok(None),
        }
    }

    /// A row with what belongs to it.
    async fn whole_user(
        &self,
        connection: &mut Connection,
        account: AccountId,
        row: Row,
    ) -> Result<User, StoreError> {
        let emails: Vec<identities::Row> = query_as(identities::SELECT_OF_USER)
            .bind(account.uuid())
            .bind(row.user_id)
            .fetch_all(&mut *connection)
            .await?;
        let signers: Vec<signers::Row> = query_as(signers::SELECT_OF_USER)
            .bind(account.uuid())
            .bind(row.user_id)
            .fetch_all(&mut *connection)
            .await?;
        let row_keys = self.inner.rows.of(connection, account).await?;
        let (keys, served) = (&self.inner.keys, &self.inner.served);
        let user = UserId::from_uuid(row.user_id);
        let sync_local = row_keys.show("users.sync_local", row.user_id, row.sync_local)?;
        let row = Row { sync_local, ..row };
        let of = (account, user, &row_keys);
        let profile = profile::read(connection, keys, served, of, &row.sync_local).await?;
        user_of(row, emails, signers, profile, &row_keys)
    }

    /// The users of an account, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn users(&self, account: AccountId, slice: Slice) -> Result<Page<User>, StoreError> {
        let rows: Vec<Row> = query_as(
            "SELECT user_id, name, role, sync_state, sync_local, created_at FROM users
             WHERE account_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3",
        )
        .bind(account.uuid())
        .bind(slice.after.map_or(Uuid::nil(), |key| key.id))
        .bind(slice.fetch_limit())
        .fetch_all(self.reader())
        .await?;
        let rows = slice.page(rows, |row| Key::of_id(row.user_id));
        let mut reader = self.reader().acquire().await?;
        let mut items = Vec::with_capacity(rows.items.len());
        for row in rows.items {
            let id = row.user_id;
            let user = self.whole_user(&mut reader, account, row).await;
            items.extend(if_it_opens("users", id, user)?);
        }
        Ok(Page { items, next: rows.next })
    }
}

impl Change {
    /// Makes a user with a fresh sync address, connected.
    ///
    /// # Errors
    /// `NotFound` for the account, `Invalid`, or `Conflict` where an address is another user's.
    pub async fn create_user(
        &mut self,
        account: AccountId,
        new: &NewUser,
        verification: Verification,
    ) -> Result<User, DirectoryError> {
        self.require_account(account).await?;
        let name = checked_text("name", &new.name, NAME_MAX_CHARS)?;
        let role = checked_text("role", &new.role, ROLE_MAX_CHARS)?;
        if new.emails.len() > identities::EMAILS_MAX {
            return Err(DirectoryError::invalid("emails", format!("at most {}", identities::EMAILS_MAX)));
        }
        let user = UserId::generate();
        let local = self.fresh_local_part(&name).await?;
        let keys = self.row_keys(account).await?;
        query(
            "INSERT INTO users (account_id, user_id, name, role, sync_state, sync_local, created_at)
             VALUES ($1, $2, $3, $4, 'on', $5, $6)",
        )
        .bind(account.uuid())
        .bind(user.uuid())
        .bind(keys.hide("users.name", user.uuid(), name)?)
        .bind(&role)
        .bind(keys.hide("users.sync_local", user.uuid(), local.as_str())?)
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        self.keep_local_part(account, user, &local).await?;
        for (n, email) in new.emails.iter().enumerate() {
            self.put_user_email(account, user, &format!("emails[{n}]"), email, verification).await?;
        }
        self.user(account, user).await
    }

    /// The user as this change leaves them.
    pub(super) async fn user(&mut self, account: AccountId, user: UserId) -> Result<User, DirectoryError> {
        let row: Option<Row> = query_as(SELECT_ONE)
            .bind(account.uuid())
            .bind(user.uuid())
            .fetch_optional(self.on(account).await?)
            .await?;
        let row = row.ok_or(DirectoryError::NotFound("user"))?;
        let store = self.store.clone();
        Ok(store.whole_user(self.on(account).await?, account, row).await?)
    }
}

const SELECT_ONE: &str = "SELECT user_id, name, role, sync_state, sync_local, created_at FROM users
     WHERE account_id = $1 AND user_id = $2";
const ROLE_MAX_CHARS: usize = 50;

fn user_of(
    row: Row,
    emails: Vec<identities::Row>,
    signers: Vec<signers::Row>,
    profile: Profile,
    keys: &RowKeys,
) -> Result<User, StoreError> {
    let mut emails =
        emails.into_iter().map(|row| UserEmail::read(row, keys)).collect::<Result<Vec<_>, _>>()?;
    let mut signers =
        signers.into_iter().map(|row| RememberedSigner::read(row, keys)).collect::<Result<Vec<_>, _>>()?;
    if !keys.are_clear() {
        emails.sort_by_cached_key(|email| email.address.to_lowercase());
        signers.sort_by_cached_key(|signer| (signer.address.to_lowercase(), signer.domain.clone()));
    }
    Ok(User {
        id: UserId::from_uuid(row.user_id),
        name: keys.show("users.name", row.user_id, row.name)?,
        role: row.role,
        emails,
        signers,
        sync: SyncState::read(&row.sync_state),
        sync_local: row.sync_local,
        created_at: Timestamp::from_millis(row.created_at),
        profile,
    })
}
