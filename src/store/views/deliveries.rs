//! Deliveries: what became of each recipient of each transaction, and why (R3).
//!
//! Addresses are searched by their keyed hash alone: an exact address finds a delivery, nobody can list them (R5).

use serde_json::Value;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::Outcome;
use crate::id::{AccountId, ContactId, DeliveryId, MessageId};
use crate::keys::Keys;
use crate::store::effects::json;
use crate::store::engine::Builder;
use crate::store::row_keys::{Index, RowKeys};
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::wire::StepView;

/// One delivery with its trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its id: the trace id in the SMTP reply.
    pub id: DeliveryId,
    /// When.
    pub at: Timestamp,
    /// The client's address.
    pub peer: String,
    /// Its EHLO or HELO argument.
    pub helo: String,
    /// Protocol and cipher suite.
    pub tls: Option<String>,
    /// The reverse-path; none for a discarded message (R5).
    pub mail_from: Option<String>,
    /// The recipient; likewise.
    pub rcpt: Option<String>,
    /// Message-ID; likewise.
    pub message_id_header: Option<String>,
    /// The From address; likewise.
    pub from: Option<String>,
    /// Octets as received.
    pub size_bytes: i64,
    /// What authentication found, in the shape of the API.
    pub auth: Option<Value>,
    /// What became of it.
    pub outcome: String,
    /// The reason code.
    pub reason: String,
    /// The SMTP reply.
    pub smtp: String,
    /// The message it became.
    pub message: Option<MessageId>,
    /// The trace, in the shape of the API.
    pub steps: Value,
}

/// Which deliveries to list. All that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// From this address.
    pub from: Option<EmailAddress>,
    /// To this address.
    pub to: Option<EmailAddress>,
    /// With this Message-ID, angle brackets or not; or that became this message.
    pub message_id: Option<String>,
    /// On this contact's record.
    pub contact: Option<ContactId>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct Row {
    delivery_id: Uuid,
    at: i64,
    peer: String,
    helo: String,
    tls: Option<String>,
    mail_from: Option<String>,
    rcpt: Option<String>,
    message_id_header: Option<String>,
    from_address: Option<String>,
    size_bytes: i64,
    auth: Option<String>,
    outcome: String,
    reason: String,
    smtp: String,
    message_id: Option<Uuid>,
    steps: String,
}

impl Store {
    /// One delivery; none if there is no such in this account.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delivery(
        &self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        let mut sql = select(account);
        sql.push(" AND d.delivery_id = ").push_bind(delivery.uuid());
        let row: Option<Row> = sql.build().fetch_optional(self.reader()).await?;
        let Some(row) = row else { return Ok(None) };
        delivery_of(row, &self.row_keys(account).await?).map(Some)
    }

    /// Deliveries of an account, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn deliveries(
        &self,
        account: AccountId,
        filter: &DeliveryFilter,
        slice: Slice,
    ) -> Result<Page<Delivery>, StoreError> {
        let keys = self.row_keys(account).await?;
        let sql = list(account, filter, slice, (&self.inner.keys, &keys))?;
        let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
        let page = slice.page(rows, |row| Key::of_id(row.delivery_id));
        let items = page.items.into_iter().map(|row| {
            let emptied = row.emptied();
            match delivery_of(row, &keys) {
                // R3: what became of it is said whatever else does not open; the others are shown whole.
                Err(StoreError::Damaged { .. }) => delivery_of(emptied, &RowKeys::CLEAR),
                read => read,
            }
        });
        Ok(Page { items: items.collect::<Result<_, _>>()?, next: page.next })
    }
}

impl Row {
    /// What is left of a delivery whose row does not open.
    fn emptied(&self) -> Self {
        let step = StepView { rule: "R3".into(), said: DAMAGED.into(), took_us: 0 };
        Self {
            peer: String::new(),
            helo: String::new(),
            tls: self.tls.clone(),
            mail_from: None,
            rcpt: None,
            message_id_header: None,
            from_address: None,
            auth: None,
            outcome: self.outcome.clone(),
            reason: self.reason.clone(),
            smtp: String::new(),
            steps: json(&[step]),
            ..*self
        }
    }
}

/// The only step of a delivery whose row does not open.
const DAMAGED: &str = "the row of this delivery is damaged: its trace cannot be shown";

fn list(
    account: AccountId,
    filter: &DeliveryFilter,
    slice: Slice,
    (keys, rows): (&Keys, &RowKeys),
) -> Result<Builder, StoreError> {
    let mut sql = select(account);
    for (address, role) in [(&filter.from, "from"), (&filter.to, "to")] {
        if let Some(address) = address {
            sql.push(" AND d.delivery_id IN (SELECT delivery_id FROM delivery_addresses WHERE account_id = ");
            sql.push_bind(account.uuid()).push(" AND address_hash = ");
            sql.push_bind(keys.address_hash(address).to_vec());
            sql.push(" AND role = ").push_bind(role).push(")");
        }
    }
    if let Some(id) = &filter.message_id {
        let bare = id.trim();
        let bare = bare.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(bare);
        sql.push(" AND (d.message_id_header = ").push_bind(rows.index(Index::MessageId, bare)?);
        sql.push(" OR d.message_id = ").push_bind(bare.parse::<Uuid>().ok()).push(")");
    }
    if let Some(contact) = filter.contact {
        sql.push(" AND d.contact_id = ").push_bind(contact.uuid());
    }
    if let Some(outcome) = &filter.outcome {
        sql.push(" AND d.outcome = ").push_bind(outcome.clone());
        if outcome != Outcome::Filed.as_str() {
            // As the index has it.
            sql.push(" AND d.outcome <> 'filed'");
        }
    }
    if let Some(since) = filter.since {
        sql.push(" AND d.at >= ").push_bind(since.as_millis());
        sql.push(" AND d.delivery_id >= ").push_bind(id_floor(since.plus_days(-1)));
    }
    if let Some(until) = filter.until {
        sql.push(" AND d.at < ").push_bind(until.as_millis());
        sql.push(" AND d.delivery_id < ").push_bind(id_floor(until.plus_days(1)));
    }
    if let Some(after) = slice.after {
        sql.push(" AND d.delivery_id < ").push_bind(after.id);
    }
    sql.push(" ORDER BY d.delivery_id DESC LIMIT ").push_bind(slice.fetch_limit());
    Ok(sql)
}

fn select(account: AccountId) -> Builder {
    let mut sql = Builder::new(
        "SELECT d.delivery_id, d.at, d.peer, d.helo, d.tls, d.mail_from, d.rcpt, d.message_id_header, d.from_address,
         d.size_bytes, d.auth, d.outcome, d.reason, d.smtp, d.message_id, d.steps FROM deliveries d WHERE d.account_id = ",
    );
    sql.push_bind(account.uuid());
    sql
}

/// The least `UUIDv7` of a time: the key of the table is in order of time, so a bound on it spares a scan. Ids are
/// made within a day of the time that the row states; the exact bound is on the time itself.
pub(in crate::store) fn id_floor(time: Timestamp) -> Uuid {
    let millis = u64::try_from(time.as_millis()).unwrap_or_default().min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80)
}

fn delivery_of(row: Row, keys: &RowKeys) -> Result<Delivery, StoreError> {
    let id = row.delivery_id;
    let auth = keys.show_some("deliveries.auth", id, row.auth)?;
    let steps = keys.show("deliveries.steps", id, row.steps)?;
    let header = row.message_id_header.map(|header| keys.show_index(Index::MessageId, header));
    Ok(Delivery {
        id: DeliveryId::from_uuid(id),
        at: Timestamp::from_millis(row.at),
        peer: keys.show("deliveries.peer", id, row.peer)?,
        helo: keys.show("deliveries.helo", id, row.helo)?,
        tls: row.tls,
        mail_from: keys.show_some("deliveries.mail_from", id, row.mail_from)?,
        rcpt: keys.show_some("deliveries.rcpt", id, row.rcpt)?,
        message_id_header: header.transpose()?,
        from: keys.show_some("deliveries.from_address", id, row.from_address)?,
        size_bytes: row.size_bytes,
        auth: auth.and_then(|auth| serde_json::from_str(&auth).ok()),
        outcome: row.outcome,
        reason: row.reason,
        smtp: keys.show("deliveries.smtp", id, row.smtp)?,
        message: row.message_id.map(MessageId::from_uuid),
        steps: serde_json::from_str(&steps).unwrap_or_else(|_| Value::Array(Vec::new())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::views::tests::{expect_no_walk_through_the_account, plan};

    #[tokio::test]
    async fn deliveries_of_an_outcome_are_read_without_walking_through_the_account() {
        let (account, keys) = (AccountId::generate(), Keys::generate().unwrap());
        let further = Slice { limit: 50, after: Some(Key::of_id(Uuid::now_v7())) };
        for outcome in ["duplicate", "held", "discarded", "rejected", "deferred"] {
            let filter = DeliveryFilter { outcome: Some(outcome.to_owned()), ..DeliveryFilter::default() };
            for slice in [Slice::first(50), further] {
                let sql = list(account, &filter, slice, (&keys, &RowKeys::CLEAR)).unwrap();
                expect_no_walk_through_the_account(&sql).await;
                assert!(plan(&sql).await.contains("deliveries_by_outcome"), "{outcome}");
            }
        }
    }

    #[test]
    fn the_least_id_of_a_time_is_below_every_id_made_then() {
        let id = Uuid::now_v7();
        let now = Timestamp::now();
        assert!(id_floor(now.plus_days(-1)) < id && id < id_floor(now.plus_days(1)));
        assert_eq!(id_floor(Timestamp::from_millis(-1)), Uuid::nil());
        assert!(id_floor(Timestamp::from_millis(i64::MAX)) > id);
    }
}
