//! Traces, and mail that waits for others, which name a contact or user who is erased. They are found by the hashes of
//! the addresses (R5), whosever they are and whenever they came, and by a look through all that is held: that names more
//! people than are hashed. What the held mail itself says stays, as with filed mail of others.

use serde_json::Value;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::id::AccountId;
use crate::store::directory::erase::read_of;
use crate::store::directory::purge::contact::{left_of, without};
use crate::store::directory::purge::{Job, PurgeOf};
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{Builder, query, query_as};
use crate::store::row_keys::RowKeys;
use crate::store::views::id_floor;

/// What a trace says of people.
#[derive(sqlx::FromRow)]
pub(super) struct Trace {
    pub(super) message_id: Option<Uuid>,
    delivery_id: Uuid,
    steps: String,
    mail_from: Option<String>,
    from_address: Option<String>,
    rcpt: Option<String>,
}

impl Trace {
    fn show(self, keys: &RowKeys) -> Self {
        let id = self.delivery_id;
        Self {
            message_id: self.message_id,
            delivery_id: id,
            steps: keys.show_or_nothing("deliveries.steps", id, self.steps),
            mail_from: keys.show_some_or_nothing("deliveries.mail_from", id, self.mail_from),
            from_address: keys.show_some_or_nothing("deliveries.from_address", id, self.from_address),
            rcpt: keys.show_some_or_nothing("deliveries.rcpt", id, self.rcpt),
        }
    }

    /// Takes these folded addresses out. Returns whether there were any.
    fn take_out(&mut self, addresses: &[String]) -> bool {
        let mut is_named = false;
        for field in [&mut self.mail_from, &mut self.from_address, &mut self.rcpt] {
            if field.as_ref().is_some_and(|address| addresses.contains(&address.to_lowercase())) {
                *field = None;
                is_named = true;
            }
        }
        let mut steps: Vec<Value> = serde_json::from_str(&self.steps).unwrap_or_default();
        for said in steps.iter_mut().filter_map(|step| step.get_mut("said")) {
            let Some(old) = said.as_str() else { continue };
            let left = without(old, addresses);
            if left != old {
                *said = Value::from(left);
                is_named = true;
            }
        }
        self.steps = Value::from(steps).to_string();
        is_named
    }
}

impl Change {
    /// The next piece of all held mail. Returns whether there may be more.
    pub(super) async fn take_out_of_held(&mut self, job: &mut Job) -> Result<bool, DirectoryError> {
        let held: Vec<(Uuid, String)> = query_as(
            "SELECT delivery_id, headers FROM held WHERE account_id = $1 AND delivery_id > $2
             ORDER BY delivery_id LIMIT $3",
        )
        .bind(job.account.uuid())
        .bind(job.passed)
        .bind(DELIVERIES_AT_ONCE)
        .fetch_all(self.on(job.account).await?)
        .await?;
        let Some((last, _)) = held.last() else { return Ok(false) };
        job.passed = *last;
        let is_more = held.len() as u64 >= DELIVERIES_AT_ONCE.unsigned_abs();
        let alone = self.addresses_of_nobody_else(job).await?;
        let keys = self.row_keys(job.account).await?;
        let names = |(delivery, headers): (Uuid, String)| {
            let headers = keys.show_or_nothing("held.headers", delivery, headers);
            left_of(&headers, &alone).map(|_| delivery)
        };
        let named: Vec<Uuid> = held.into_iter().filter_map(names).collect();
        self.take_out_of_deliveries(job, &named, &alone).await?;
        Ok(is_more)
    }

    /// The next piece of what is found by the hashes of the addresses, which go with it. Returns whether there may be
    /// more: if not, nothing is found by them as long as this transaction lasts.
    pub(super) async fn take_out_of_hashes(&mut self, job: &Job) -> Result<bool, DirectoryError> {
        let alone = self.addresses_of_nobody_else(job).await?;
        let mut room = DELIVERIES_AT_ONCE;
        for address in alone.iter().filter_map(|text| EmailAddress::parse(text)) {
            let hash = self.store.inner.keys.address_hash(&address).to_vec();
            let found: Vec<(Uuid,)> = query_as(
                "SELECT delivery_id FROM delivery_addresses WHERE account_id = $1 AND address_hash = $2 LIMIT $3",
            )
            .bind(job.account.uuid())
            .bind(hash.clone())
            .bind(room)
            .fetch_all(self.on(job.account).await?)
            .await?;
            if found.is_empty() {
                continue;
            }
            room -= i64::try_from(found.len()).unwrap_or(room);
            let mut ids: Vec<Uuid> = found.into_iter().map(|(id,)| id).collect();
            ids.sort_unstable();
            ids.dedup();
            // What names the address of somebody who ends with an undo did so without them.
            if !job.is_undo() {
                self.take_out_of_deliveries(job, &ids, &alone).await?;
            }
            let mut sql = Builder::new("DELETE FROM delivery_addresses WHERE account_id = ");
            sql.push_bind(job.account.uuid()).push(" AND address_hash = ").push_bind(hash);
            sql.push(" AND delivery_id IN (").push_list(ids).push(")");
            sql.build::<()>().execute(self.on(job.account).await?).await?;
            if room <= 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next piece of mail of others on whose people they are linked, filed while they were taken out elsewhere.
    /// Returns whether there may be more.
    pub(super) async fn take_out_of_late_ones(&mut self, job: &Job) -> Result<bool, DirectoryError> {
        let text = match job.of {
            PurgeOf::Contact(_) => {
                "SELECT DISTINCT message_id FROM participants
                 WHERE account_id = $1 AND message_id >= $2 AND contact_id = $3 AND email <> '' LIMIT $4"
            }
            PurgeOf::User(_) => {
                "SELECT DISTINCT message_id FROM participants
                 WHERE account_id = $1 AND message_id >= $2 AND user_id = $3 AND email <> '' LIMIT $4"
            }
            PurgeOf::All | PurgeOf::Message(_) | PurgeOf::Mine(_) => return Ok(false),
        };
        let found: Vec<(Uuid,)> = query_as(text)
            .bind(job.account.uuid())
            .bind(job.late_floor())
            .bind(job.of.subject(job.account))
            .bind(DELIVERIES_AT_ONCE)
            .fetch_all(self.on(job.account).await?)
            .await?;
        let messages: Vec<Uuid> = found.into_iter().map(|(id,)| id).collect();
        let alone = self.addresses_of_nobody_else(job).await?;
        self.take_out_of_young(job, &messages, &alone).await?;
        Ok(messages.len() as u64 >= DELIVERIES_AT_ONCE.unsigned_abs())
    }

    /// Their traces, the mail that is held, and the messages that may have come too late to be looked through.
    async fn take_out_of_deliveries(
        &mut self,
        job: &Job,
        ids: &[Uuid],
        alone: &[String],
    ) -> Result<(), DirectoryError> {
        let traces = self.traces(job.account, "delivery_id", ids).await?;
        let young = |trace: &Trace| trace.message_id.filter(|message| *message >= job.late_floor());
        let mut messages: Vec<Uuid> = traces.iter().filter_map(young).collect();
        messages.sort_unstable();
        messages.dedup();
        self.take_out_of_traces(job.account, traces, |_| alone).await?;
        let text = "SELECT delivery_id, headers FROM held WHERE account_id = ";
        let held: Vec<(Uuid, String)> =
            read_of(self.on(job.account).await?, job.account, text, "delivery_id", ids).await?;
        let keys = self.row_keys(job.account).await?;
        for (delivery, headers) in held {
            let headers = keys.show_or_nothing("held.headers", delivery, headers);
            let Some(left) = left_of(&headers, alone) else { continue };
            query("UPDATE held SET headers = $3 WHERE account_id = $1 AND delivery_id = $2")
                .bind(job.account.uuid())
                .bind(delivery)
                .bind(keys.hide("held.headers", delivery, left)?)
                .execute(self.on(job.account).await?)
                .await?;
        }
        let text = "SELECT event_id, data FROM events WHERE account_id = ";
        let events = read_of(self.on(job.account).await?, job.account, text, "delivery_id", ids).await?;
        self.take_out_of_these_events(job.account, events, alone).await?;
        self.take_out_of_young(job, &messages, alone).await
    }

    /// Messages, with what their conversations' events say of them.
    async fn take_out_of_young(
        &mut self,
        job: &Job,
        messages: &[Uuid],
        alone: &[String],
    ) -> Result<(), DirectoryError> {
        if messages.is_empty() {
            return Ok(());
        }
        let people = self.people_on(job.account, messages).await?;
        self.take_out_of_people(job, people, messages, alone).await?;
        let mut sql = Builder::new("SELECT event_id, data FROM events WHERE account_id = ");
        sql.push_bind(job.account.uuid())
            .push(" AND event_id >= ")
            .push_bind(id_floor(job.begun_at.plus_days(-1)));
        sql.push(" AND conversation_id IN (SELECT conversation_id FROM messages WHERE account_id = ");
        sql.push_bind(job.account.uuid()).push(" AND message_id IN (");
        sql.push_list(messages.iter().copied()).push("))");
        let events = sql.build().fetch_all(self.on(job.account).await?).await?;
        self.take_out_of_these_events(job.account, events, alone).await
    }

    async fn take_out_of_these_events(
        &mut self,
        account: AccountId,
        events: Vec<(Uuid, String)>,
        alone: &[String],
    ) -> Result<(), DirectoryError> {
        let keys = self.row_keys(account).await?;
        for (event, stored) in events {
            let data = keys.show_or_nothing("events.data", event, stored);
            if let Some(left) = left_of(&data, alone) {
                self.put_event_data(account, event, &keys, left).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn put_event_data(
        &mut self,
        account: AccountId,
        event: Uuid,
        keys: &RowKeys,
        data: String,
    ) -> Result<(), DirectoryError> {
        query("UPDATE events SET data = $3 WHERE account_id = $1 AND event_id = $2")
            .bind(account.uuid())
            .bind(event)
            .bind(keys.hide("events.data", event, data)?)
            .execute(self.on(account).await?)
            .await?;
        Ok(())
    }

    /// Those whose `column` is one of these ids.
    pub(super) async fn traces(
        &mut self,
        account: AccountId,
        column: &'static str,
        ids: &[Uuid],
    ) -> Result<Vec<Trace>, DirectoryError> {
        let text = "SELECT message_id, delivery_id, steps, mail_from, from_address, rcpt FROM deliveries
                    WHERE account_id = ";
        let traces: Vec<Trace> = read_of(self.on(account).await?, account, text, column, ids).await?;
        let keys = self.row_keys(account).await?;
        Ok(traces.into_iter().map(|trace| trace.show(&keys)).collect())
    }

    /// Takes out of each the folded addresses that are said to be.
    pub(super) async fn take_out_of_traces<'a>(
        &mut self,
        account: AccountId,
        traces: Vec<Trace>,
        addresses_of: impl Fn(&Trace) -> &'a [String],
    ) -> Result<(), DirectoryError> {
        let keys = self.row_keys(account).await?;
        for mut trace in traces {
            let addresses = addresses_of(&trace);
            if !trace.take_out(addresses) {
                continue;
            }
            let id = trace.delivery_id;
            query(
                "UPDATE deliveries SET steps = $3, mail_from = $4, from_address = $5, rcpt = $6
                 WHERE account_id = $1 AND delivery_id = $2",
            )
            .bind(account.uuid())
            .bind(id)
            .bind(keys.hide("deliveries.steps", id, trace.steps)?)
            .bind(keys.hide_some("deliveries.mail_from", id, trace.mail_from)?)
            .bind(keys.hide_some("deliveries.from_address", id, trace.from_address)?)
            .bind(keys.hide_some("deliveries.rcpt", id, trace.rcpt)?)
            .execute(self.on(account).await?)
            .await?;
        }
        Ok(())
    }
}

/// Traces, held mails or late messages of one transaction: they are rewritten one by one.
const DELIVERIES_AT_ONCE: i64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r63_a_trace_loses_the_address_wherever_it_stands_and_another_is_left_alone() {
        let trace = |from: &str| Trace {
            message_id: None,
            delivery_id: Uuid::nil(),
            steps: format!(r#"[{{"rule":"R10","said":"From is {from}, known"}}]"#),
            mail_from: Some(from.to_uppercase()),
            from_address: Some(from.to_owned()),
            rcpt: Some("x-1@sync.test".to_owned()),
        };
        let addresses = ["ana@patient.test".to_owned()];
        let mut theirs = trace("ana@patient.test");
        assert!(theirs.take_out(&addresses));
        assert_eq!((&theirs.mail_from, &theirs.from_address), (&None, &None));
        assert_eq!(theirs.rcpt.as_deref(), Some("x-1@sync.test"));
        assert!(theirs.steps.contains("From is (address) known"), "{}", theirs.steps);
        assert!(!theirs.take_out(&addresses), "it is gone");
        assert!(!trace("ben@patient.test").take_out(&addresses));
    }
}
