//! R63: a contact goes with its record; where it was only copied, the conversation stays and its name is taken out.

use serde_json::Value;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::id::{AccountId, ContactId, UserId};
use crate::store::directory::purge::select::addresses_of_contact;
use crate::store::directory::{Change, DirectoryError, SyncState};
use crate::store::engine::{Builder, query, query_as};
use crate::store::search::people_terms;

#[derive(sqlx::FromRow)]
struct Trace {
    delivery_id: Uuid,
    steps: String,
    mail_from: Option<String>,
    from_address: Option<String>,
    rcpt: Option<String>,
}

impl Change {
    /// The end of a contact: its messages and held mail are gone already.
    pub(in crate::store::directory) async fn erase_contact(
        &mut self,
        account: AccountId,
        contact: ContactId,
    ) -> Result<(), DirectoryError> {
        let addresses = addresses_of_contact(self.on(account).await?, account, contact.uuid()).await?;
        self.take_out_of_others(account, "contact_id", contact.uuid(), &addresses).await?;
        for statement in OF_CONTACT {
            self.run(account, statement, contact.uuid()).await?;
        }
        self.forget_answers_with(account, contact.uuid()).await
    }

    /// From now on nothing is filed for this user, and what is filed is of nobody's name.
    pub(super) async fn stop_user(&mut self, account: AccountId, user: UserId) -> Result<(), DirectoryError> {
        self.set_sync_state(account, user, SyncState::Off).await?;
        self.run(account, RETIRE, user.uuid()).await
    }

    /// The end of a user: what is left of them is an id, and addresses that answer 550 5.2.1 for ever.
    pub(super) async fn erase_user(
        &mut self,
        account: AccountId,
        user: UserId,
    ) -> Result<(), DirectoryError> {
        let emails: Vec<(String,)> =
            query_as("SELECT address FROM user_emails WHERE account_id = $1 AND user_id = $2")
                .bind(account.uuid())
                .bind(user.uuid())
                .fetch_all(self.on(account).await?)
                .await?;
        let addresses: Vec<EmailAddress> =
            emails.iter().filter_map(|(text,)| EmailAddress::parse(text)).collect();
        self.take_out_of_others(account, "user_id", user.uuid(), &addresses).await?;
        for statement in OF_USER {
            self.run(account, statement, user.uuid()).await?;
        }
        self.forget_answers_with(account, user.uuid()).await
    }

    /// Where somebody else's record names this person: on messages, in events, in traces.
    async fn take_out_of_others(
        &mut self,
        account: AccountId,
        column: &'static str,
        id: Uuid,
        addresses: &[EmailAddress],
    ) -> Result<(), DirectoryError> {
        // As they stand on the messages: an address that has changed since is found too.
        let on_messages = match column {
            "user_id" => {
                "SELECT DISTINCT message_id, email FROM participants WHERE account_id = $1 AND user_id = $2"
            }
            _ => {
                "SELECT DISTINCT message_id, email FROM participants WHERE account_id = $1 AND contact_id = $2"
            }
        };
        let stands: Vec<(Uuid, String)> =
            query_as(on_messages).bind(account.uuid()).bind(id).fetch_all(self.on(account).await?).await?;
        let mut texts: Vec<String> = addresses.iter().map(EmailAddress::key).collect();
        texts.extend(stands.iter().map(|(_, email)| email.to_lowercase()).filter(|email| !email.is_empty()));
        texts.sort_unstable();
        texts.dedup();
        self.take_out_of_events(account, id, &texts).await?;
        self.take_out_of_search(account, column, id, &stands).await?;
        let mut messages: Vec<Uuid> = stands.into_iter().map(|(message, _)| message).collect();
        messages.dedup();
        for message in messages {
            self.take_out_of_traces(account, message, &texts).await?;
        }
        for address in addresses {
            let hash = self.store.inner.keys.address_hash(address).to_vec();
            query("DELETE FROM delivery_addresses WHERE account_id = $1 AND address_hash = $2")
                .bind(account.uuid())
                .bind(hash)
                .execute(self.on(account).await?)
                .await?;
        }
        Ok(())
    }

    /// The messages on which this person stands are found by the addresses there no more.
    async fn take_out_of_search(
        &mut self,
        account: AccountId,
        column: &'static str,
        id: Uuid,
        stands: &[(Uuid, String)],
    ) -> Result<(), DirectoryError> {
        let mut written: Vec<&str> = stands.iter().map(|(_, email)| email.as_str()).collect();
        written.sort_unstable();
        written.dedup();
        for address in written.into_iter().filter_map(EmailAddress::parse) {
            let [from, to] = people_terms(&self.store.inner.keys, account, &address);
            let mut sql = Builder::new("UPDATE search_documents SET people = REPLACE(REPLACE(people, ");
            sql.push_bind(from).push(", ''), ").push_bind(to).push(", '') WHERE account_id = ");
            sql.push_bind(account.uuid());
            sql.push(" AND message_id IN (SELECT message_id FROM participants WHERE account_id = ");
            sql.push_bind(account.uuid()).push(format_args!(" AND {column} = ")).push_bind(id);
            sql.push(" AND email = ").push_bind(address.as_str()).push(")");
            sql.build::<()>().execute(self.on(account).await?).await?;
        }
        Ok(())
    }

    /// Events about this person go; in events of conversations their name and addresses are taken out.
    async fn take_out_of_events(
        &mut self,
        account: AccountId,
        id: Uuid,
        addresses: &[String],
    ) -> Result<(), DirectoryError> {
        query("DELETE FROM events WHERE account_id = $1 AND conversation_id IS NULL AND data LIKE $2")
            .bind(account.uuid())
            .bind(format!("%{id}%"))
            .execute(self.on(account).await?)
            .await?;
        for address in addresses {
            let quoted = Value::from(address.as_str()).to_string();
            let events: Vec<(Uuid, String)> = query_as(
                "SELECT event_id, data FROM events WHERE account_id = $1 AND LOWER(data) LIKE $2 ESCAPE '\\'",
            )
            .bind(account.uuid())
            .bind(format!("%{}%", crate::store::directory::escape_like(&quoted)))
            .fetch_all(self.on(account).await?)
            .await?;
            for (event, data) in events {
                let mut data: Value = serde_json::from_str(&data).unwrap_or_default();
                take_out(&mut data, addresses);
                query("UPDATE events SET data = $3 WHERE account_id = $1 AND event_id = $2")
                    .bind(account.uuid())
                    .bind(event)
                    .bind(data.to_string())
                    .execute(self.on(account).await?)
                    .await?;
            }
        }
        Ok(())
    }

    async fn take_out_of_traces(
        &mut self,
        account: AccountId,
        message: Uuid,
        addresses: &[String],
    ) -> Result<(), DirectoryError> {
        let traces: Vec<Trace> = query_as(
            "SELECT delivery_id, steps, mail_from, from_address, rcpt FROM deliveries
             WHERE account_id = $1 AND message_id = $2",
        )
        .bind(account.uuid())
        .bind(message)
        .fetch_all(self.on(account).await?)
        .await?;
        let other =
            |address: Option<String>| address.filter(|address| !addresses.contains(&address.to_lowercase()));
        for trace in traces {
            let mut said: Vec<Value> = serde_json::from_str(&trace.steps).unwrap_or_default();
            for text in said.iter_mut().filter_map(|step| step.get_mut("said")) {
                if let Some(old) = text.as_str() {
                    *text = Value::from(without(old, addresses));
                }
            }
            query(
                "UPDATE deliveries SET steps = $3, mail_from = $4, from_address = $5, rcpt = $6
                 WHERE account_id = $1 AND delivery_id = $2",
            )
            .bind(account.uuid())
            .bind(trace.delivery_id)
            .bind(Value::from(said).to_string())
            .bind(other(trace.mail_from))
            .bind(other(trace.from_address))
            .bind(other(trace.rcpt))
            .execute(self.on(account).await?)
            .await?;
        }
        Ok(())
    }

    /// Remembered answers that show this person.
    async fn forget_answers_with(&mut self, account: AccountId, id: Uuid) -> Result<(), DirectoryError> {
        for owner in [account, AccountId::OPERATOR] {
            query("DELETE FROM idempotency_keys WHERE account_id = $1 AND response LIKE $2")
                .bind(owner.uuid())
                .bind(format!("%{id}%"))
                .execute(self.on(owner).await?)
                .await?;
        }
        Ok(())
    }

    /// `$1` the account, `$2` the id.
    pub(super) async fn run(
        &mut self,
        account: AccountId,
        text: &'static str,
        id: Uuid,
    ) -> Result<(), DirectoryError> {
        query(text).bind(account.uuid()).bind(id).execute(self.on(account).await?).await?;
        Ok(())
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

/// The words of a step that are or hold one of these addresses say `(address)`.
fn without(said: &str, addresses: &[String]) -> String {
    let word = |word: &str| {
        let folded = word.to_lowercase();
        if addresses.iter().any(|address| folded.contains(address)) {
            "(address)".to_owned()
        } else {
            word.to_owned()
        }
    };
    said.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// In the order that the foreign keys ask for. `$1` the account, `$2` the contact.
const OF_CONTACT: &[&str] = &[
    "DELETE FROM events WHERE account_id = $1 AND conversation_id IN
     (SELECT conversation_id FROM conversations WHERE account_id = $1 AND contact_id = $2)",
    "DELETE FROM thread_ids WHERE account_id = $1 AND conversation_id IN
     (SELECT conversation_id FROM conversations WHERE account_id = $1 AND contact_id = $2)",
    "DELETE FROM conversations WHERE account_id = $1 AND contact_id = $2",
    "UPDATE participants SET contact_id = NULL, name = NULL, email = '' WHERE account_id = $1 AND contact_id = $2",
    "DELETE FROM sync_marks WHERE account_id = $1 AND contact_id = $2",
    "DELETE FROM contacts WHERE account_id = $1 AND contact_id = $2",
];
/// `$1` the account, `$2` the user. The row stays for what hangs on its id.
const OF_USER: &[&str] = &[
    "UPDATE participants SET name = NULL, email = '' WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM sync_marks WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM daily_filings WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM forwarding_confirmations WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM relay_jobs WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM relay_digests WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM email_confirmations WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM remembered_signers WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM user_emails WHERE account_id = $1 AND user_id = $2",
    "UPDATE users SET name = '(erased)', role = '(erased)' WHERE account_id = $1 AND user_id = $2",
];
const RETIRE: &str = "UPDATE sync_addresses SET state = 'retired' WHERE account_id = $1 AND user_id = $2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r63_a_step_loses_the_address_and_keeps_the_rest() {
        let addresses = ["ana@patient.test".to_owned()];
        assert_eq!(without("<Ana@patient.test>, in Cc, sees it", &addresses), "(address) in Cc, sees it");
        assert_eq!(without("ben@patient.test is on it", &addresses), "ben@patient.test is on it");
    }
}
