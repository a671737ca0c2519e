//! Contacts. Only the primary email ever matches mail (R22); several contacts may share one (R21).

use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::id::{AccountId, ContactId};
use crate::store::directory::{Change, DirectoryError, NAME_MAX_CHARS, checked_email, checked_text};
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
    /// Part of the name or of an address, in any case.
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
struct Row {
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
        let row: Option<Row> = sqlx::query_as(SELECT_ONE)
            .bind(account.uuid())
            .bind(contact.uuid())
            .fetch_optional(self.reader())
            .await?;
        Ok(row.map(contact_of))
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
        let mut sql = QueryBuilder::<Sqlite>::new(
            "SELECT contact_id, name, email, other_emails, external_id, created_by, created_at FROM contacts WHERE account_id = ",
        );
        sql.push_bind(account.uuid());
        if let Some(email) = &filter.email {
            sql.push(" AND email_key = ").push_bind(email.trim().to_lowercase());
        }
        if let Some(text) = &filter.text {
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
        let rows: Vec<Row> = sql.build_query_as().fetch_all(self.reader()).await?;
        let page = slice.page(rows, |row| Key::of_id(row.contact_id));
        Ok(Page { items: page.items.into_iter().map(contact_of).collect(), next: page.next })
    }
}

impl Change {
    /// Makes a contact.
    ///
    /// # Errors
    /// `NotFound` for the account, `Invalid`, or `Conflict` where the external id is taken.
    pub async fn create_contact(
        &mut self,
        account: AccountId,
        new: &NewContact,
        created_by: CreatedBy,
    ) -> Result<Contact, DirectoryError> {
        self.require_account(account).await?;
        let contact = Contact {
            id: ContactId::generate(),
            name: checked_text("name", &new.name, NAME_MAX_CHARS)?,
            email: checked_email("email", &new.email)?.as_str().to_owned(),
            other_emails: checked_others(&new.other_emails)?,
            external_id: checked_external_id(new.external_id.as_deref())?,
            created_at: self.now,
            created_by,
        };
        self.require_free_external_id(account, contact.id, contact.external_id.as_deref()).await?;
        sqlx::query(
            "INSERT INTO contacts (account_id, contact_id, name, name_key, email, email_key, other_emails, external_id, created_by, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(account.uuid())
        .bind(contact.id.uuid())
        .bind(&contact.name)
        .bind(fold(&contact.name))
        .bind(&contact.email)
        .bind(contact.email.to_lowercase())
        .bind(serde_json::Value::from(contact.other_emails.clone()).to_string())
        .bind(&contact.external_id)
        .bind(created_by.as_str())
        .bind(self.now.as_millis())
        .execute(&mut *self.tx)
        .await?;
        let data = serde_json::json!({ "contact_id": contact.id, "created_by": created_by.as_str() });
        self.emit(account, "contact.created", None, &data).await?;
        Ok(contact)
    }

    /// Changes what is given.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, or `Conflict` where the external id is taken.
    pub async fn update_contact(
        &mut self,
        account: AccountId,
        id: ContactId,
        change: &ContactChange,
    ) -> Result<Contact, DirectoryError> {
        let mut contact = self.contact(account, id).await?;
        if let Some(name) = &change.name {
            contact.name = checked_text("name", name, NAME_MAX_CHARS)?;
        }
        if let Some(email) = &change.email {
            contact.email = checked_email("email", email)?.as_str().to_owned();
        }
        if let Some(others) = &change.other_emails {
            contact.other_emails = checked_others(others)?;
        }
        if let Some(external_id) = &change.external_id {
            contact.external_id = checked_external_id(external_id.as_deref())?;
            self.require_free_external_id(account, id, contact.external_id.as_deref()).await?;
        }
        sqlx::query(
            "UPDATE contacts SET name = $3, name_key = $4, email = $5, email_key = $6, other_emails = $7, external_id = $8
             WHERE account_id = $1 AND contact_id = $2",
        )
        .bind(account.uuid())
        .bind(id.uuid())
        .bind(&contact.name)
        .bind(fold(&contact.name))
        .bind(&contact.email)
        .bind(contact.email.to_lowercase())
        .bind(serde_json::Value::from(contact.other_emails.clone()).to_string())
        .bind(&contact.external_id)
        .execute(&mut *self.tx)
        .await?;
        Ok(contact)
    }

    /// The contact as this change leaves it.
    pub(super) async fn contact(
        &mut self,
        account: AccountId,
        contact: ContactId,
    ) -> Result<Contact, DirectoryError> {
        let row: Option<Row> = sqlx::query_as(SELECT_ONE)
            .bind(account.uuid())
            .bind(contact.uuid())
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(contact_of).ok_or(DirectoryError::NotFound("contact"))
    }

    /// The contact that an import means: by external id, else the oldest with that primary email (R21).
    pub(super) async fn find_contact(
        &mut self,
        account: AccountId,
        new: &NewContact,
    ) -> Result<Option<ContactId>, DirectoryError> {
        let found: Option<Uuid> = match new.external_id.as_deref().map(str::trim).filter(|id| !id.is_empty())
        {
            Some(external_id) => {
                sqlx::query_scalar(
                    "SELECT contact_id FROM contacts WHERE account_id = $1 AND external_id = $2",
                )
                .bind(account.uuid())
                .bind(external_id)
                .fetch_optional(&mut *self.tx)
                .await?
            }
            None => {
                sqlx::query_scalar(
                    "SELECT contact_id FROM contacts WHERE account_id = $1 AND email_key = $2
                     ORDER BY created_at, contact_id LIMIT 1",
                )
                .bind(account.uuid())
                .bind(new.email.trim().to_lowercase())
                .fetch_optional(&mut *self.tx)
                .await?
            }
        };
        Ok(found.map(ContactId::from_uuid))
    }

    async fn require_free_external_id(
        &mut self,
        account: AccountId,
        contact: ContactId,
        external_id: Option<&str>,
    ) -> Result<(), DirectoryError> {
        let Some(external_id) = external_id else { return Ok(()) };
        let holder: Option<Uuid> = sqlx::query_scalar(
            "SELECT contact_id FROM contacts WHERE account_id = $1 AND external_id = $2 AND contact_id <> $3",
        )
        .bind(account.uuid())
        .bind(external_id)
        .bind(contact.uuid())
        .fetch_optional(&mut *self.tx)
        .await?;
        match holder {
            Some(_) => Err(DirectoryError::Conflict("external_id: belongs to another contact".to_owned())),
            None => Ok(()),
        }
    }
}

const SELECT_ONE: &str = "SELECT contact_id, name, email, other_emails, external_id, created_by, created_at
     FROM contacts WHERE account_id = $1 AND contact_id = $2";
const OTHER_EMAILS_MAX: usize = 50;

fn contact_of(row: Row) -> Contact {
    Contact {
        id: ContactId::from_uuid(row.contact_id),
        name: row.name,
        email: row.email,
        other_emails: serde_json::from_str(&row.other_emails).unwrap_or_default(),
        external_id: row.external_id,
        created_at: Timestamp::from_millis(row.created_at),
        created_by: CreatedBy::read(&row.created_by),
    }
}

fn checked_others(others: &[String]) -> Result<Vec<String>, DirectoryError> {
    if others.len() > OTHER_EMAILS_MAX {
        return Err(DirectoryError::invalid("other_emails", format!("at most {OTHER_EMAILS_MAX}")));
    }
    let check = |(n, text): (usize, &String)| {
        checked_email(&format!("other_emails[{n}]"), text).map(|email| email.as_str().to_owned())
    };
    others.iter().enumerate().map(check).collect()
}

/// An empty external id is none.
fn checked_external_id(given: Option<&str>) -> Result<Option<String>, DirectoryError> {
    match given.map(str::trim).filter(|id| !id.is_empty()) {
        Some(id) => checked_text("external_id", id, NAME_MAX_CHARS).map(Some),
        None => Ok(None),
    }
}

/// `%`, `_` and `\` stand for themselves.
pub(in crate::store) fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
