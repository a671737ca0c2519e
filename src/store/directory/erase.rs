//! R63: deleting a contact erases it with the conversations on its record; where it was only copied, the
//! conversation stays and its name is taken out.
//!
//! One transaction; the blobs' files go right after it. The keys that seal the raw messages go with their rows, so a
//! copy of a blob cannot be read by anybody (R60).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::id::{AccountId, ContactId};
use crate::store::blobs::BlobName;
use crate::store::directory::{Change, Contact, DirectoryError};
use crate::store::engine::{query, query_as, query_scalar};

/// What an erasure took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Messages.
    pub messages: u64,
    /// Their attachments.
    pub attachments: u64,
    /// Octets of the messages as received.
    pub bytes: u64,
    /// Held messages.
    pub held: u64,
    /// Delivery traces.
    pub deliveries: u64,
    /// Blobs.
    pub blobs: u64,
}

impl Change {
    /// Deletes a contact and everything on its record.
    ///
    /// # Errors
    /// `NotFound` if there is no such contact.
    pub async fn delete_contact(
        &mut self,
        account: AccountId,
        contact: ContactId,
    ) -> Result<Erased, DirectoryError> {
        let on_file = self.contact(account, contact).await?;
        let erased = self.count(account, contact).await?;
        self.erase_from_events(account, &on_file).await?;
        for statement in STATEMENTS {
            query(*statement)
                .bind(account.uuid())
                .bind(contact.uuid())
                .execute(self.on(account).await?)
                .await?;
        }
        // Answers that showed this contact, or a message on its record, hold its data.
        query("DELETE FROM idempotency_keys WHERE account_id IN ($1, $2) AND response LIKE $3")
            .bind(account.uuid())
            .bind(AccountId::OPERATOR.uuid())
            .bind(format!("%{}%", on_file.id))
            .execute(self.on(account).await?)
            .await?;
        let data = json!({
            "contact_id": contact, "messages": erased.messages, "attachments": erased.attachments,
            "blobs": erased.blobs, "bytes": erased.bytes, "held": erased.held, "deliveries": erased.deliveries,
        });
        self.emit(account, "purge.done", None, &data).await?;
        Ok(erased)
    }

    /// Events about it go; in events of other conversations its name and addresses are taken out.
    async fn erase_from_events(
        &mut self,
        account: AccountId,
        contact: &Contact,
    ) -> Result<(), DirectoryError> {
        query("DELETE FROM events WHERE account_id = $1 AND data LIKE $2")
            .bind(account.uuid())
            .bind(format!("%{}%", contact.id))
            .execute(self.on(account).await?)
            .await?;
        let addresses: Vec<String> =
            query_scalar("SELECT DISTINCT email FROM participants WHERE account_id = $1 AND contact_id = $2")
                .bind(account.uuid())
                .bind(contact.id.uuid())
                .fetch_all(self.on(account).await?)
                .await?;
        let addresses: Vec<String> = addresses.iter().map(|address| address.to_lowercase()).collect();
        let events: Vec<(Uuid, String)> = query_as(
            "SELECT event_id, data FROM events WHERE account_id = $1 AND conversation_id IN (SELECT m.conversation_id
             FROM participants p JOIN messages m ON m.account_id = p.account_id AND m.message_id = p.message_id
             WHERE p.account_id = $1 AND p.contact_id = $2)",
        )
        .bind(account.uuid())
        .bind(contact.id.uuid())
        .fetch_all(self.on(account).await?)
        .await?;
        for (event, data) in events {
            let mut data: Value = serde_json::from_str(&data).unwrap_or_default();
            take_out(&mut data, &addresses);
            query("UPDATE events SET data = $3 WHERE account_id = $1 AND event_id = $2")
                .bind(account.uuid())
                .bind(event)
                .bind(data.to_string())
                .execute(self.on(account).await?)
                .await?;
        }
        Ok(())
    }

    async fn count(&mut self, account: AccountId, contact: ContactId) -> Result<Erased, DirectoryError> {
        let messages: Vec<(String, i64, Option<String>)> = query_as(
            "SELECT attachments, size_bytes, blob FROM messages WHERE account_id = $1 AND contact_id = $2",
        )
        .bind(account.uuid())
        .bind(contact.uuid())
        .fetch_all(self.on(account).await?)
        .await?;
        let held: Vec<(Option<String>,)> =
            query_as("SELECT blob FROM held WHERE account_id = $1 AND contact_id = $2")
                .bind(account.uuid())
                .bind(contact.uuid())
                .fetch_all(self.on(account).await?)
                .await?;
        let deliveries: i64 = query_scalar(COUNT_DELIVERIES)
            .bind(account.uuid())
            .bind(contact.uuid())
            .fetch_one(self.on(account).await?)
            .await?;
        let attachments = |list: &str| serde_json::from_str::<Vec<Value>>(list).map_or(0, |list| list.len());
        let mut erased = Erased {
            messages: messages.len() as u64,
            attachments: messages.iter().map(|(list, ..)| attachments(list) as u64).sum(),
            bytes: messages.iter().map(|(_, size, _)| u64::try_from(*size).unwrap_or_default()).sum(),
            held: held.len() as u64,
            deliveries: u64::try_from(deliveries).unwrap_or_default(),
            blobs: 0,
        };
        let names = messages.into_iter().map(|(.., blob)| blob).chain(held.into_iter().map(|(blob,)| blob));
        for name in names.flatten() {
            erased.blobs += 1;
            self.blobs.extend(BlobName::parse(&name));
        }
        Ok(erased)
    }
}

/// Empties every person with one of these addresses, wherever they stand.
fn take_out(value: &mut Value, addresses: &[String]) {
    match value {
        Value::Object(fields) => {
            let email = fields.get("email").and_then(Value::as_str).map(str::to_lowercase);
            if email.is_some_and(|email| addresses.contains(&email)) {
                fields.insert("email".to_owned(), Value::from(""));
                fields.insert("name".to_owned(), Value::Null);
            }
            fields.values_mut().for_each(|field| take_out(field, addresses));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_out(item, addresses)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const COUNT_DELIVERIES: &str =
    "SELECT COUNT(*) FROM deliveries WHERE account_id = $1 AND (contact_id = $2 OR message_id IN
     (SELECT message_id FROM messages WHERE account_id = $1 AND contact_id = $2))";

/// In the order that the foreign keys ask for. `$1` the account, `$2` the contact.
const STATEMENTS: &[&str] = &[
    "DELETE FROM delivery_addresses WHERE account_id = $1 AND delivery_id IN (SELECT delivery_id FROM deliveries
     WHERE account_id = $1 AND (contact_id = $2 OR message_id IN
     (SELECT message_id FROM messages WHERE account_id = $1 AND contact_id = $2)))",
    "DELETE FROM deliveries WHERE account_id = $1 AND (contact_id = $2 OR message_id IN
     (SELECT message_id FROM messages WHERE account_id = $1 AND contact_id = $2))",
    "DELETE FROM held WHERE account_id = $1 AND contact_id = $2",
    "DELETE FROM events WHERE account_id = $1 AND conversation_id IN
     (SELECT conversation_id FROM conversations WHERE account_id = $1 AND contact_id = $2)",
    "DELETE FROM thread_ids WHERE account_id = $1 AND conversation_id IN
     (SELECT conversation_id FROM conversations WHERE account_id = $1 AND contact_id = $2)",
    "DELETE FROM participants WHERE account_id = $1 AND message_id IN
     (SELECT message_id FROM messages WHERE account_id = $1 AND contact_id = $2)",
    "DELETE FROM messages WHERE account_id = $1 AND contact_id = $2",
    "DELETE FROM conversations WHERE account_id = $1 AND contact_id = $2",
    "UPDATE participants SET contact_id = NULL, name = NULL, email = '' WHERE account_id = $1 AND contact_id = $2",
    "DELETE FROM sync_marks WHERE account_id = $1 AND contact_id = $2",
    "DELETE FROM contacts WHERE account_id = $1 AND contact_id = $2",
];
