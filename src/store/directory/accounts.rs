//! Accounts: the tenants, each with its settings and its own key.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::filing::Settings;
use crate::id::AccountId;
use crate::store::directory::{Change, DirectoryError, NAME_MAX_CHARS, checked_text, settings};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::row_keys::RowKeys;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// One customer of the CRM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// As staff know it.
    pub name: String,
    /// Complete: what was never set has its default.
    pub settings: Settings,
    /// When it was made.
    pub created_at: Timestamp,
}

type Row = (Uuid, String, String, i64);

impl Store {
    /// One account; none if there is no such.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn account(&self, account: AccountId) -> Result<Option<Account>, StoreError> {
        if account == AccountId::OPERATOR {
            return Ok(None);
        }
        let row: Option<Row> =
            query_as("SELECT account_id, name, settings, created_at FROM accounts WHERE account_id = $1")
                .bind(account.uuid())
                .fetch_optional(self.reader())
                .await?;
        row.map(|row| account_of(row, &self.operator_row_keys())).transpose()
    }

    /// All accounts but the operator's, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn accounts(&self, slice: Slice) -> Result<Page<Account>, StoreError> {
        let rows: Vec<Row> = query_as(
            "SELECT account_id, name, settings, created_at FROM accounts WHERE account_id > $1 ORDER BY account_id LIMIT $2",
        )
        .bind(slice.after.map_or(Uuid::nil(), |key| key.id))
        .bind(slice.fetch_limit())
        .fetch_all(self.reader())
        .await?;
        let keys = self.operator_row_keys();
        let page = slice.page(rows, |(id, ..)| Key::of_id(*id));
        page.that_opens("accounts", |(id, ..)| *id, |row| account_of(row, &keys))
    }
}

impl Change {
    /// Makes an account with a fresh key.
    ///
    /// # Errors
    /// `Invalid` if name or settings cannot be taken.
    pub async fn create_account(
        &mut self,
        name: &str,
        given: &Map<String, Value>,
    ) -> Result<Account, DirectoryError> {
        let name = checked_text("name", name, NAME_MAX_CHARS)?;
        let (stored, settings) = settings::merge(&Map::new(), given)?;
        let id = AccountId::generate();
        let wrapped = self.store.vault().new_account_key(id)?;
        let (keys, rows) = (self.store.operator_row_keys(), self.store.inner.rows.clone());
        query(
            "INSERT INTO accounts (account_id, name, settings, wrapped_key, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id.uuid())
        .bind(keys.hide("accounts.name", id.uuid(), name.as_str())?)
        .bind(keys.hide("accounts.settings", id.uuid(), Value::Object(stored).to_string())?)
        .bind(wrapped.clone())
        .bind(self.now.as_millis())
        .execute(self.on(id).await?)
        .await?;
        let now = self.now;
        rows.give_key(self.on(id).await?, id, wrapped, now).await?;
        Ok(Account { id, name, settings, created_at: self.now })
    }

    /// Renames an account, or replaces the settings given; the others stay.
    ///
    /// # Errors
    /// `NotFound`, or `Invalid` naming the key.
    pub async fn update_account(
        &mut self,
        account: AccountId,
        name: Option<&str>,
        given: &Map<String, Value>,
    ) -> Result<Account, DirectoryError> {
        let row: Option<Row> =
            query_as("SELECT account_id, name, settings, created_at FROM accounts WHERE account_id = $1")
                .bind(account.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        let (id, old_name, old_settings, created_at) =
            row.filter(|_| account != AccountId::OPERATOR).ok_or(DirectoryError::NotFound("account"))?;
        let keys = self.store.operator_row_keys();
        let old_name = keys.show("accounts.name", id, old_name)?;
        let old_settings = keys.show("accounts.settings", id, old_settings)?;
        let name = name.map_or(Ok(old_name), |name| checked_text("name", name, NAME_MAX_CHARS))?;
        let (stored, settings) = settings::merge(&settings::object(&old_settings), given)?;
        query("UPDATE accounts SET name = $2, settings = $3 WHERE account_id = $1")
            .bind(account.uuid())
            .bind(keys.hide("accounts.name", id, name.as_str())?)
            .bind(keys.hide("accounts.settings", id, Value::Object(stored).to_string())?)
            .execute(self.on(account).await?)
            .await?;
        Ok(Account { id: account, name, settings, created_at: Timestamp::from_millis(created_at) })
    }

    /// `NotFound` unless the account is there.
    pub(super) async fn require_account(&mut self, account: AccountId) -> Result<(), DirectoryError> {
        let found: Option<i64> = query_scalar("SELECT created_at FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_optional(self.on(account).await?)
            .await?;
        found
            .filter(|_| account != AccountId::OPERATOR)
            .map(|_| ())
            .ok_or(DirectoryError::NotFound("account"))
    }
}

fn account_of((id, name, stored, created_at): Row, keys: &RowKeys) -> Result<Account, StoreError> {
    Ok(Account {
        id: AccountId::from_uuid(id),
        name: keys.show("accounts.name", id, name)?,
        settings: settings::read(&keys.show("accounts.settings", id, stored)?),
        created_at: Timestamp::from_millis(created_at),
    })
}
