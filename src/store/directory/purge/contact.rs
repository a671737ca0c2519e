//! R63: a contact goes with its record; where it was only copied, the conversation stays and its name is taken out.

use serde_json::Value;
use uuid::Uuid;

use crate::id::{AccountId, ContactId, UserId};
use crate::store::directory::{Addresses, Change, DirectoryError};
use crate::store::engine::query;

impl Change {
    /// The end of a contact: its messages and held mail are gone already, and it is taken out of those of others.
    pub(in crate::store::directory) async fn erase_contact(
        &mut self,
        account: AccountId,
        contact: ContactId,
    ) -> Result<(), DirectoryError> {
        for statement in OF_CONTACT {
            self.run(account, statement, contact.uuid()).await?;
        }
        self.forget_answers_with(account, contact.uuid()).await
    }

    /// From now on nothing is filed for this user, and what is filed is of nobody's name.
    pub(super) async fn stop_user(&mut self, account: AccountId, user: UserId) -> Result<(), DirectoryError> {
        self.addresses = Addresses::Changed;
        let found = query("UPDATE users SET sync_state = 'off' WHERE account_id = $1 AND user_id = $2")
            .bind(account.uuid())
            .bind(user.uuid())
            .execute(self.on(account).await?)
            .await?;
        if found == 0 {
            return Err(DirectoryError::NotFound("user"));
        }
        self.run(account, RETIRE, user.uuid()).await
    }

    /// The end of a user: what is left of them is an id, and addresses that answer 550 5.2.1 for ever.
    pub(super) async fn erase_user(
        &mut self,
        account: AccountId,
        user: UserId,
    ) -> Result<(), DirectoryError> {
        for statement in OF_USER {
            self.run(account, statement, user.uuid()).await?;
        }
        self.hash_sync_addresses(account, user).await?;
        self.forget_answers_with(account, user.uuid()).await
    }

    /// Remembered answers that show this person.
    async fn forget_answers_with(&mut self, account: AccountId, id: Uuid) -> Result<(), DirectoryError> {
        let id = id.to_string();
        self.forget_answers(account, &format!("%{id}%"), |response| response.contains(&id)).await
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

/// Empties every person with one of these addresses, wherever they stand, and takes them away as organisers (R55).
fn take_out(value: &mut Value, addresses: &[String]) {
    match value {
        Value::Object(fields) => {
            let is_theirs = |field: &str| {
                let text = fields.get(field).and_then(Value::as_str).map(str::to_lowercase);
                text.is_some_and(|text| addresses.contains(&text))
            };
            let (is_person, is_organiser) = (is_theirs("email"), is_theirs("organiser"));
            if is_person {
                fields.insert("email".to_owned(), Value::from(""));
                fields.insert("name".to_owned(), Value::Null);
            }
            if is_organiser {
                fields.insert("organiser".to_owned(), Value::Null);
            }
            fields.values_mut().for_each(|field| take_out(field, addresses));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_out(item, addresses)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is left of a JSON text that names one of these folded addresses; none if it names none.
pub(super) fn left_of(json: &str, addresses: &[String]) -> Option<String> {
    let folded = json.to_lowercase();
    let is_named = addresses.iter().any(|text| folded.contains(&Value::from(text.as_str()).to_string()));
    let mut value: Value = is_named.then(|| serde_json::from_str(json).unwrap_or_default())?;
    take_out(&mut value, addresses);
    Some(value.to_string())
}

/// The words of a step that are or hold one of these addresses say `(address)`.
pub(super) fn without(said: &str, addresses: &[String]) -> String {
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
    "DELETE FROM sync_marks WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM daily_filings WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM forwarding_confirmations WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM relay_jobs WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM relay_digests WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM email_confirmations WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM remembered_signers WHERE account_id = $1 AND user_id = $2",
    "DELETE FROM user_emails WHERE account_id = $1 AND user_id = $2",
    "UPDATE users SET name = '(erased)', role = '(erased)', sync_local = '' WHERE account_id = $1 AND user_id = $2",
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
