//! Making and changing contacts.

use uuid::Uuid;

use crate::id::{AccountId, ContactId};
use crate::store::directory::contacts::{Row, SELECT_ONE, contact_of};
use crate::store::directory::{
    Change, Contact, ContactChange, CreatedBy, DirectoryError, NAME_MAX_CHARS, NewContact, checked_email,
    checked_text, fold,
};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::row_keys::{Index, RowKeys};
use crate::store::seal::SealError;

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
        let hidden = Hidden::of(&contact, &self.row_keys(account).await?)?;
        query(
            "INSERT INTO contacts (account_id, contact_id, name, name_key, email, email_key, other_emails, external_id, created_by, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(account.uuid())
        .bind(contact.id.uuid())
        .bind(hidden.name)
        .bind(hidden.name_key)
        .bind(hidden.email)
        .bind(hidden.email_key)
        .bind(hidden.other_emails)
        .bind(hidden.external_id)
        .bind(created_by.as_str())
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        let data = serde_json::json!({
            "contact_id": contact.id, "name": contact.name, "email": contact.email, "created_by": created_by.as_str(),
        });
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
        let hidden = Hidden::of(&contact, &self.row_keys(account).await?)?;
        query(
            "UPDATE contacts SET name = $3, name_key = $4, email = $5, email_key = $6, other_emails = $7, external_id = $8
             WHERE account_id = $1 AND contact_id = $2",
        )
        .bind(account.uuid())
        .bind(id.uuid())
        .bind(hidden.name)
        .bind(hidden.name_key)
        .bind(hidden.email)
        .bind(hidden.email_key)
        .bind(hidden.other_emails)
        .bind(hidden.external_id)
        .execute(self.on(account).await?)
        .await?;
        Ok(contact)
    }

    /// The contact as this change leaves it.
    pub(super) async fn contact(
        &mut self,
        account: AccountId,
        contact: ContactId,
    ) -> Result<Contact, DirectoryError> {
        let row: Option<Row> = query_as(SELECT_ONE)
            .bind(account.uuid())
            .bind(contact.uuid())
            .fetch_optional(self.on(account).await?)
            .await?;
        let row = row.ok_or(DirectoryError::NotFound("contact"))?;
        Ok(contact_of(row, &self.row_keys(account).await?)?)
    }

    /// The contact that an import means: by external id, else the oldest with that primary email (R21).
    pub(super) async fn find_contact(
        &mut self,
        account: AccountId,
        new: &NewContact,
    ) -> Result<Option<ContactId>, DirectoryError> {
        let keys = self.row_keys(account).await?;
        let found: Option<Uuid> = match new.external_id.as_deref().map(str::trim).filter(|id| !id.is_empty())
        {
            Some(external_id) => {
                query_scalar("SELECT contact_id FROM contacts WHERE account_id = $1 AND external_id = $2")
                    .bind(account.uuid())
                    .bind(keys.index(Index::ExternalId, external_id)?)
                    .fetch_optional(self.on(account).await?)
                    .await?
            }
            None => {
                query_scalar(
                    "SELECT contact_id FROM contacts WHERE account_id = $1 AND email_key = $2
                     ORDER BY created_at, contact_id LIMIT 1",
                )
                .bind(account.uuid())
                .bind(keys.index(Index::Address, new.email.trim().to_lowercase())?)
                .fetch_optional(self.on(account).await?)
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
        let external_id = self.row_keys(account).await?.index(Index::ExternalId, external_id)?;
        let holder: Option<Uuid> = query_scalar(
            "SELECT contact_id FROM contacts WHERE account_id = $1 AND external_id = $2 AND contact_id <> $3",
        )
        .bind(account.uuid())
        .bind(external_id)
        .bind(contact.uuid())
        .fetch_optional(self.on(account).await?)
        .await?;
        match holder {
            Some(_) => Err(DirectoryError::Conflict("external_id: belongs to another contact".to_owned())),
            None => Ok(()),
        }
    }
}

/// The columns that say something of a contact.
struct Hidden {
    name: String,
    name_key: String,
    email: String,
    email_key: String,
    other_emails: String,
    external_id: Option<String>,
}

impl Hidden {
    fn of(contact: &Contact, keys: &RowKeys) -> Result<Self, SealError> {
        let id = contact.id.uuid();
        let others = serde_json::Value::from(contact.other_emails.clone()).to_string();
        let external_id = contact.external_id.as_deref();
        Ok(Self {
            name: keys.hide("contacts.name", id, contact.name.as_str())?,
            // Part of a name is not found under seal.
            name_key: if keys.are_clear() { fold(&contact.name) } else { String::new() },
            email: keys.hide("contacts.email", id, contact.email.as_str())?,
            email_key: keys.index(Index::Address, contact.email.to_lowercase())?,
            other_emails: keys.hide("contacts.other_emails", id, others)?,
            external_id: external_id.map(|id| keys.index(Index::ExternalId, id)).transpose()?,
        })
    }
}

const OTHER_EMAILS_MAX: usize = 50;

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
