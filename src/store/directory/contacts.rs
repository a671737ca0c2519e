//! Contacts. Only the primary email ever matches mail (R22); several contacts may share one (R21).

use uuid::Uuid;

use crate::id::{AccountId, ContactId};
use crate::store::engine::{Builder, query_as, query_scalar};
use crate::store::row_keys::{Index, RowKeys};
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// A person on the CRM's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Their id.
    pub id: ContactId,
    /// Their name.
    pub name: String,
    /// The primary email.
    pub email: String,
    /// The alternate ones.
    pub other_emails: Vec<String>,
    /// The CRM's own id.
    pub external_id: Option<String>,
    /// When they were made.
    pub created_at: Timestamp,
    /// What made them.
    pub created_by: CreatedBy,
}

/// What made a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreatedBy {
    /// One call or command.
    Api,
    /// An import.
    Import,
    /// A filed mail (R24).
    Sync,
}

/// What makes a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewContact {
    /// Their name.
    pub name: String,
    /// The primary email.
    pub email: String,
    /// The alternate ones.
    pub other_emails: Vec<String>,
    /// The CRM's own id, unique in the account.
    pub external_id: Option<String>,
}

/// What changes of a contact; none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContactChange {
    /// The name.
    pub name: Option<String>,
    /// The primary email.
    pub email: Option<String>,
    /// The alternate ones, all of them.
    pub other_emails: Option<Vec<String>>,
    /// The CRM's own id; the inner none takes it away.
    pub external_id: Option<Option<String>>,
}

/// Which contacts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContactFilter {
    /// Part of the name or of an address, in any case; where rows are sealed, a whole primary address.
    pub text: Option<String>,
    /// Exactly this primary email, in any case.
    pub email: Option<String>,
}

impl CreatedBy {
    /// The word of API and store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Import => "import",
            Self::Sync => "sync",
        }
    }

    fn read(word: &str) -> Self {
        match word {
            "import" => Self::Import,
            "sync" => Self::Sync,
            _ => Self::Api,
        }
    }
}

/// The form of a name that is searched.
#[must_use]
pub fn fold(name: &str) -> String {
    name.to_lowercase()
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    contact_id: Uuid,
    name: String,
    email: String,
    other_emails: String,
    external_id: Option<String>,
    created_by: String,
    created_at: i64,
}

impl Store {
    /// One contact; none if there is no such in this account.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn contact(
        &self,
        account: AccountId,
        contact: ContactId,
    ) -> Result<Option<Contact>, StoreError> {
        let row: Option<Row> = query_as(SELECT_ONE)
            .bind(account.uuid())
            .bind(contact.uuid())
            .fetch_optional(self.reader())
            .await?;
        let Some(row) = row else { return Ok(None) };
        contact_of(row, &self.row_keys(account).await?).map(Some)
    }

    /// Whether there is such a contact in this account, whether their row opens or not.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn has_contact(&self, account: AccountId, contact: ContactId) -> Result<bool, StoreError> {
        let found: Option<i64> =
            query_scalar("SELECT created_at FROM contacts WHERE account_id = $1 AND contact_id = $2")
                .bind(account.uuid())
                .bind(contact.uuid())
                .fetch_optional(self.reader())
                .await?;
        Ok(found.is_some())
    }

    /// The contacts of an account, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn contacts(
        &self,
        account: AccountId,
        filter: &ContactFilter,
        slice: Slice,
    ) -> Result<Page<Contact>, StoreError> {
        let mut sql = Builder::new(
            "SELECT contact_id, name, email, other_emails, external_id, created_by, created_at FROM contacts WHERE account_id = ",
        );
        sql.push_bind(account.uuid());
        let keys = self.row_keys(account).await?;
        if let Some(email) = &filter.email {
            sql.push(" AND email_key = ").push_bind(keys.index(Index::Address, email.trim().to_lowercase())?);
        }
        if let Some(text) = filter.text.as_ref().filter(|_| !keys.are_clear()) {
            // Under seal a whole primary address is all that can be looked for.
            sql.push(" AND email_key = ").push_bind(keys.index(Index::Address, fold(text.trim()))?);
        } else if let Some(text) = &filter.text {
            let pattern = format!("%{}%", escape_like(&fold(text.trim())));
            sql.push(" AND (name_key LIKE ").push_bind(pattern.clone());
            sql.push(" ESCAPE '\\' OR email_key LIKE ").push_bind(pattern.clone());
            sql.push(" ESCAPE '\\' OR LOWER(other_emails) LIKE ").push_bind(pattern);
            sql.push(" ESCAPE '\\')");
        }
        if let Some(after) = slice.after {
            sql.push(" AND contact_id > ").push_bind(after.id);
        }
        sql.push(" ORDER BY contact_id LIMIT ").push_bind(slice.fetch_limit());
        let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
        let page = slice.page(rows, |row| Key::of_id(row.contact_id));
        page.that_opens("contacts", |row| row.contact_id, |row| contact_of(row, &keys))
    }
}

/// One contact, `$1` the account, `$2` the contact.
pub(super) const SELECT_ONE: &str =
    "SELECT contact_id, name, email, other_emails, external_id, created_by, created_at
     FROM contacts WHERE account_id = $1 AND contact_id = $2";

pub(super) fn contact_of(row: Row, keys: &RowKeys) -> Result<Contact, StoreError> {
    let id = row.contact_id;
    let others = keys.show("contacts.other_emails", id, row.other_emails)?;
    let external_id = row.external_id.map(|id| keys.show_index(Index::ExternalId, id)).transpose()?;
    Ok(Contact {
        id: ContactId::from_uuid(id),
        name: keys.show("contacts.name", id, row.name)?,
        email: keys.show("contacts.email", id, row.email)?,
        other_emails: serde_json::from_str(&others).unwrap_or_default(),
        external_id,
        created_at: Timestamp::from_millis(row.created_at),
        created_by: CreatedBy::read(&row.created_by),
    })
}

/// `%`, `_` and `\` stand for themselves.
fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
