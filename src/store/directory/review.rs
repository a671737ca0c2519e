//! What a person decides about held mail (R36).

use serde_json::Value;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::{Step, without_names};
use crate::id::{AccountId, DeliveryId};
use crate::store::Store;
use crate::store::blobs::BlobName;
use crate::store::directory::{Change, DirectoryError, Log};
use crate::store::effects::{json, steps_json};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::row_keys::RowKeys;
use crate::wire::AuthView;

impl Store {
    /// Goes on with the erasure of a held mail that the rules discarded when a person looked at it, until nothing of it
    /// is left. Nothing to do where one transaction was enough.
    ///
    /// # Errors
    /// If the database fails; the retention goes on then.
    pub async fn finish_discarding(
        &self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<(), DirectoryError> {
        loop {
            let mut change = self.change().await?;
            match change.erase_held(account, delivery, BY_THE_RULES, &mut { RETRIES_AT_ONCE }).await {
                Err(DirectoryError::NotFound(_)) => return Ok(()),
                erasing => drop(erasing?),
            }
            change.commit().await?;
        }
    }
}

impl Change {
    /// Erases a held message on a person's word. Its delivery stays and says so, without addresses (R5). If it was sent
    /// again more often than one transaction takes, it is still there, and this is to be called in another.
    ///
    /// # Errors
    /// `NotFound` if there is no such held message, `Conflict` while the account's import is not finished.
    pub async fn discard_held(
        &mut self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<Erasing, DirectoryError> {
        self.refuse_while_importing(account).await?;
        let said = "a person discarded it from the review queue";
        self.erase_held(account, delivery, said, &mut { RETRIES_AT_ONCE }).await
    }

    /// R5, R36: content and addresses go, also those of its retries; the deliveries stay, and say why. The retries go
    /// first, `room` for so many more in this transaction: by what is held they are found.
    pub(super) async fn erase_held(
        &mut self,
        account: AccountId,
        delivery: DeliveryId,
        said: &str,
        room: &mut usize,
    ) -> Result<Erasing, DirectoryError> {
        let held: Option<(Option<String>,)> =
            query_as("SELECT blob FROM held WHERE account_id = $1 AND delivery_id = $2")
                .bind(account.uuid())
                .bind(delivery.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        let (blob,) = held.ok_or(DirectoryError::NotFound("held message"))?;
        self.log = Log::Forget;
        let told = self.told_by(account, delivery.uuid()).await?;
        let retries = self.retries_of(account, &told, *room + 1).await?;
        for retry in retries.iter().take(*room) {
            let told = self.told_by(account, *retry).await?;
            self.tell_less(account, (*retry, "duplicate"), &told, "the held mail that it repeats is gone")
                .await?;
        }
        if retries.len() > *room {
            *room = 0;
            return Ok(Erasing::Begun);
        }
        *room -= retries.len();
        self.blobs.extend(blob.as_deref().and_then(BlobName::parse));
        query("DELETE FROM held WHERE account_id = $1 AND delivery_id = $2")
            .bind(account.uuid())
            .bind(delivery.uuid())
            .execute(self.on(account).await?)
            .await?;
        // Its event names sender and subject.
        query("DELETE FROM events WHERE account_id = $1 AND delivery_id = $2")
            .bind(account.uuid())
            .bind(delivery.uuid())
            .execute(self.on(account).await?)
            .await?;
        self.tell_less(account, (delivery.uuid(), "discarded"), &told, said).await?;
        Ok(Erasing::Done)
    }

    /// R36: a held mail that the retention is to erase at its next turn.
    pub(super) async fn let_held_end(
        &mut self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<(), DirectoryError> {
        query("UPDATE held SET expires_at = $3 WHERE account_id = $1 AND delivery_id = $2")
            .bind(account.uuid())
            .bind(delivery.uuid())
            .bind(self.now.as_millis())
            .execute(self.on(account).await?)
            .await?;
        Ok(())
    }

    async fn told_by(&mut self, account: AccountId, delivery: Uuid) -> Result<Told, DirectoryError> {
        let told: Option<Told> = query_as(
            "SELECT helo, mail_from, from_address, message_id_header, auth, steps FROM deliveries
             WHERE account_id = $1 AND delivery_id = $2",
        )
        .bind(account.uuid())
        .bind(delivery)
        .fetch_optional(self.on(account).await?)
        .await?;
        Ok(told.unwrap_or_default().show(&self.row_keys(account).await?, delivery))
    }

    /// The next deliveries of the same mail that found it held already (R70): they name the same people. By its
    /// Message-ID; those of a mail without one by its author, who has sent others without one at most.
    async fn retries_of(
        &mut self,
        account: AccountId,
        told: &Told,
        limit: usize,
    ) -> Result<Vec<Uuid>, DirectoryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let author = told.from_address.as_deref().and_then(EmailAddress::parse);
        let found = match (&told.message_id_header, author) {
            (Some(header), _) => query_scalar(
                "SELECT delivery_id FROM deliveries WHERE account_id = $1 AND message_id_header = $2
                 AND message_id IS NULL AND outcome = 'duplicate' LIMIT $3",
            )
            .bind(account.uuid())
            .bind(header.as_str())
            .bind(limit),
            (None, Some(author)) => query_scalar(
                "SELECT d.delivery_id FROM delivery_addresses a JOIN deliveries d
                 ON d.account_id = a.account_id AND d.delivery_id = a.delivery_id
                 WHERE a.account_id = $1 AND a.address_hash = $2 AND a.role = 'from'
                 AND d.message_id_header IS NULL AND d.from_address IS NOT NULL AND d.message_id IS NULL
                 AND d.outcome = 'duplicate' LIMIT $3",
            )
            .bind(account.uuid())
            .bind(self.store.inner.keys.address_hash(&author).to_vec())
            .bind(limit),
            (None, None) => return Ok(Vec::new()),
        };
        Ok(found.fetch_all(self.on(account).await?).await?)
    }

    /// R5: what a delivery tells, without addresses, and why.
    async fn tell_less(
        &mut self,
        account: AccountId,
        (delivery, outcome): (Uuid, &'static str),
        told: &Told,
        said: &str,
    ) -> Result<(), DirectoryError> {
        let keys = self.row_keys(account).await?;
        let auth = told.auth().map(|auth| json(&auth.without_names()));
        query(
            "UPDATE deliveries SET outcome = $3, helo = '', mail_from = NULL, rcpt = NULL, from_address = NULL,
             message_id_header = NULL, auth = $4, steps = $5 WHERE account_id = $1 AND delivery_id = $2",
        )
        .bind(account.uuid())
        .bind(delivery)
        .bind(outcome)
        .bind(keys.hide_some("deliveries.auth", delivery, auth)?)
        .bind(keys.hide("deliveries.steps", delivery, steps_after_discard(told, said))?)
        .execute(self.on(account).await?)
        .await?;
        Ok(())
    }
}

/// How far the erasure of a held mail has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Erasing {
    /// Retries of it are left: another transaction goes on.
    Begun,
    /// Nothing of it is left.
    Done,
}

/// What a delivery says of who wrote.
#[derive(Default, sqlx::FromRow)]
struct Told {
    helo: String,
    mail_from: Option<String>,
    from_address: Option<String>,
    /// As the column has it.
    message_id_header: Option<String>,
    auth: Option<String>,
    steps: String,
}

impl Told {
    fn show(self, keys: &RowKeys, id: Uuid) -> Self {
        Self {
            helo: keys.show_or_nothing("deliveries.helo", id, self.helo),
            mail_from: keys.show_some_or_nothing("deliveries.mail_from", id, self.mail_from),
            from_address: keys.show_some_or_nothing("deliveries.from_address", id, self.from_address),
            message_id_header: self.message_id_header,
            auth: keys.show_some_or_nothing("deliveries.auth", id, self.auth),
            steps: keys.show_or_nothing("deliveries.steps", id, self.steps),
        }
    }

    fn auth(&self) -> Option<AuthView> {
        self.auth.as_deref().and_then(|auth| serde_json::from_str(auth).ok())
    }

    fn domains(&self) -> Vec<String> {
        let people = self.mail_from.iter().chain(&self.from_address);
        let addresses =
            people.filter_map(|address| address.rsplit_once('@').map(|(_, domain)| domain.to_owned()));
        let signers = self.auth().map(|auth| auth.dkim).unwrap_or_default();
        addresses.chain(signers.into_iter().map(|dkim| dkim.domain)).chain([self.helo.clone()]).collect()
    }
}

/// R5: the steps stay, their addresses and domains do not; a last step says who ended it.
fn steps_after_discard(told: &Told, last: &str) -> String {
    let domains = told.domains();
    let mut steps: Vec<Value> = serde_json::from_str(&told.steps).unwrap_or_default();
    for said in steps.iter_mut().filter_map(|step| step.get_mut("said")) {
        if let Some(text) = said.as_str() {
            *said = Value::from(without_names(text, &domains));
        }
    }
    steps.push(serde_json::json!({
        "rule": "R36", "said": last, "took_us": 0,
    }));
    Value::from(steps).to_string()
}

/// What was said before, and what is said now.
pub(super) fn with_steps(before: &str, now: &[Step]) -> String {
    let mut steps: Vec<Value> = serde_json::from_str(before).unwrap_or_default();
    let now: Vec<Value> = serde_json::from_str(&steps_json(now)).unwrap_or_default();
    steps.extend(now);
    Value::from(steps).to_string()
}

/// What is said of a held mail that the rules discard now.
pub(super) const BY_THE_RULES: &str = "by the rules it is not to be kept";
/// Traces of retries that lose their addresses in one transaction.
pub(super) const RETRIES_AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r05_the_steps_of_discarded_mail_hold_no_address() {
        let steps =
            r#"[{"rule":"R24","said":"<ana@patient.test> (patient.test) is no contact","took_us":3}]"#;
        let from_address = Some("ana@patient.test".to_owned());
        let told = Told { from_address, steps: steps.to_owned(), ..Told::default() };
        let after = steps_after_discard(&told, "ended");
        assert!(!after.contains("patient.test"), "{after}");
        assert!(after.contains("(address) ((domain)) is no contact") && after.contains("\"R36\""), "{after}");
        assert!(steps_after_discard(&Told::default(), "ended").contains("\"R36\""));
    }
}
