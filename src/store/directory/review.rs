//! What a person decides about held mail (R36).

use serde_json::Value;

use crate::filing::Step;
use crate::id::{AccountId, DeliveryId};
use crate::store::blobs::BlobName;
use crate::store::directory::{Change, DirectoryError, Log};
use crate::store::effects::steps_json;
use crate::store::engine::{query, query_as, query_scalar};

impl Change {
    /// Erases a held message on a person's word. Its delivery stays and says so, without addresses (R5).
    ///
    /// # Errors
    /// `NotFound` if there is no such held message.
    pub async fn discard_held(
        &mut self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<(), DirectoryError> {
        self.erase_held(account, delivery, "a person discarded it from the review queue").await
    }

    /// R5, R36: content and addresses go; the delivery stays, and says why.
    pub(super) async fn erase_held(
        &mut self,
        account: AccountId,
        delivery: DeliveryId,
        said: &str,
    ) -> Result<(), DirectoryError> {
        let gone: Option<(Option<String>,)> =
            query_as("DELETE FROM held WHERE account_id = $1 AND delivery_id = $2 RETURNING blob")
                .bind(account.uuid())
                .bind(delivery.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        let (blob,) = gone.ok_or(DirectoryError::NotFound("held message"))?;
        self.log = Log::Forget;
        self.blobs.extend(blob.as_deref().and_then(BlobName::parse));
        // Its event names sender and subject.
        query("DELETE FROM events WHERE account_id = $1 AND delivery_id = $2")
            .bind(account.uuid())
            .bind(delivery.uuid())
            .execute(self.on(account).await?)
            .await?;
        let steps: Option<String> =
            query_scalar("SELECT steps FROM deliveries WHERE account_id = $1 AND delivery_id = $2")
                .bind(account.uuid())
                .bind(delivery.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        query(
            "UPDATE deliveries SET outcome = 'discarded', mail_from = NULL, rcpt = NULL, from_address = NULL,
             message_id_header = NULL, steps = $3 WHERE account_id = $1 AND delivery_id = $2",
        )
        .bind(account.uuid())
        .bind(delivery.uuid())
        .bind(steps_after_discard(&steps.unwrap_or_default(), said))
        .execute(self.on(account).await?)
        .await?;
        Ok(())
    }
}

/// R5: the steps stay, their addresses do not; a last step says who ended it.
fn steps_after_discard(steps: &str, last: &str) -> String {
    let mut steps: Vec<Value> = serde_json::from_str(steps).unwrap_or_default();
    for said in steps.iter_mut().filter_map(|step| step.get_mut("said")) {
        if let Some(text) = said.as_str() {
            *said = Value::from(without_addresses(text));
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

fn without_addresses(text: &str) -> String {
    let word = |word: &str| if word.contains('@') { "(address)".to_owned() } else { word.to_owned() };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r05_the_steps_of_discarded_mail_hold_no_address() {
        let steps = r#"[{"rule":"R24","said":"<ana@patient.test> is no contact","took_us":3}]"#;
        let after = steps_after_discard(steps, "ended");
        assert!(!after.contains("patient.test") && after.contains("(address) is no contact"), "{after}");
        assert!(after.contains("\"R36\""));
        assert!(steps_after_discard("", "ended").contains("\"R36\""));
    }
}
