//! What ends by itself: held mail (R36), traces (R3), content (R61), marks that have been idle (R35), each after the
//! account's own time; a bounded piece of each at once. `retention` says when.

use std::collections::HashSet;

use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::{Reason, Settings};
use crate::id::{AccountId, ContactId, DeliveryId, UserId};
use crate::store::directory::erase::{Erased, Extent, TOMBSTONE_DAYS};
use crate::store::directory::held_filing::author_in;
use crate::store::directory::retention::{Ended, Kind};
use crate::store::directory::review::{Erasing, RETRIES_AT_ONCE};
use crate::store::directory::{Change, DirectoryError, Log};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::row_keys::Index;
use crate::store::views::id_floor;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

impl Store {
    /// R12: an address was verified, but what waited for it could not be filed then. One that cannot be filed now holds
    /// up no other.
    pub(super) async fn release_accepted(&self, released: &mut u64) -> Result<(), DirectoryError> {
        let (mut after, mut seen, mut failed) = ((Uuid::nil(), Uuid::nil()), HashSet::new(), None);
        loop {
            let waiting: Vec<(Uuid, Uuid, Uuid, String)> = query_as(
                "SELECT account_id, delivery_id, user_id, headers FROM held WHERE reason = $1 AND user_id IS NOT NULL
                 AND (account_id > $2 OR (account_id = $2 AND delivery_id > $3))
                 ORDER BY account_id, delivery_id LIMIT $4",
            )
            .bind(Reason::NewIdentity.as_str())
            .bind(after.0)
            .bind(after.1)
            .bind(BATCH)
            .fetch_all(self.reader())
            .await
            .map_err(StoreError::from)?;
            let Some((account, delivery, ..)) = waiting.last() else { return failed.map_or(Ok(()), Err) };
            after = (*account, *delivery);
            for (account, delivery, user, headers) in waiting {
                let (account, user) = (AccountId::from_uuid(account), UserId::from_uuid(user));
                let author = self.author_of_held(account, delivery, headers).await.unwrap_or_else(|error| {
                    failed.get_or_insert(error.into());
                    None
                });
                let Some(author) = author else { continue };
                // Each address once; one beyond so many is looked at as often as it has mail.
                if !seen.insert((account, user, author.key())) {
                    continue;
                }
                if seen.len() > SEEN_MAX {
                    seen.clear();
                }
                match self.release_if_accepted(account, user, &author).await {
                    Ok(filed) => *released += filed,
                    Err(error) => {
                        warn!(account.id = %account, error = &error as &dyn std::error::Error, "held.not_released");
                        failed.get_or_insert(error);
                    }
                }
            }
        }
    }

    async fn author_of_held(
        &self,
        account: AccountId,
        delivery: Uuid,
        headers: String,
    ) -> Result<Option<EmailAddress>, StoreError> {
        let shown = match self.row_keys(account).await {
            Ok(keys) => keys.show("held.headers", delivery, headers),
            Err(error) => Err(error),
        };
        if let Err(error) = &shown {
            warn!(account.id = %account, delivery.id = %delivery, error = error.one_line(), "held.unread");
        }
        shown.map(|headers| author_in(&headers))
    }

    async fn release_if_accepted(
        &self,
        account: AccountId,
        user: UserId,
        address: &EmailAddress,
    ) -> Result<u64, DirectoryError> {
        let keys = self.row_keys(account).await?;
        let accepted: Option<i64> = query_scalar(
            "SELECT verified_at FROM user_emails
             WHERE account_id = $1 AND user_id = $2 AND email_key = $3 AND verified_at IS NOT NULL",
        )
        .bind(account.uuid())
        .bind(user.uuid())
        .bind(keys.index(Index::Address, address.key()).map_err(StoreError::from)?)
        .fetch_optional(self.reader())
        .await
        .map_err(StoreError::from)?;
        match accepted {
            Some(_) => self.release_identity(account, user, address, "the hourly look").await,
            None => Ok(0),
        }
    }
}

impl Change {
    /// A batch of this kind, with what the audit trail says of it.
    pub(super) async fn expire_some(
        &mut self,
        account: AccountId,
        kind: Kind,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Ended, DirectoryError> {
        let before = |days: u32| now.plus_days(-i64::from(days));
        let mut ended = Ended::default();
        match kind {
            Kind::Content => {
                if let Some(days) = settings.content_days {
                    ended.content = self.expire_content(account, before(days)).await?;
                }
            }
            Kind::Events => {
                if let Some(days) = settings.content_days {
                    ended.events = self.expire_events(account, before(days)).await?;
                }
            }
            Kind::Held => (ended.held, ended.retries) = self.expire_held(account, now).await?,
            Kind::Marks => {
                if let Some(months) = settings.mark_idle_months {
                    let before = now.plus_days(-DAYS_A_MONTH * i64::from(months));
                    ended.marks = self.expire_marks(account, before).await?;
                }
            }
            Kind::Relay => ended.relay = self.expire_relay(account, now, before(settings.trace_days)).await?,
            Kind::Tombstones => {
                ended.tombstones = self.expire_tombstones(account, now.plus_days(-TOMBSTONE_DAYS)).await?;
            }
            Kind::Traces => ended.traces = self.expire_traces(account, before(settings.trace_days)).await?,
        }
        self.note_ended(account, &ended).await?;
        // R60: not after every piece. The report at the end, or the next minute, has the log forget them all.
        self.log = if ended == Ended::default() { Log::Keep } else { Log::ForgetLater };
        Ok(ended)
    }

    /// R36. Second how many retries lost their addresses.
    async fn expire_held(
        &mut self,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(Erased, u64), DirectoryError> {
        let over: Vec<(Uuid, Option<String>)> = query_as(
            "SELECT delivery_id, blob FROM held WHERE account_id = $1 AND expires_at <= $2 ORDER BY expires_at LIMIT $3",
        )
        .bind(account.uuid())
        .bind(now.as_millis())
        .bind(BATCH)
        .fetch_all(self.on(account).await?)
        .await?;
        let (mut ended, mut room) = (Erased::default(), RETRIES_AT_ONCE);
        for (delivery, blob) in over {
            let said = "nobody decided on it in time: erased";
            let delivery = DeliveryId::from_uuid(delivery);
            if self.erase_held(account, delivery, said, &mut room).await? == Erasing::Begun {
                break;
            }
            ended.held += 1;
            ended.blobs += u64::from(blob.is_some());
        }
        Ok((ended, (RETRIES_AT_ONCE - room) as u64))
    }

    /// R3. What is still held keeps its trace.
    async fn expire_traces(
        &mut self,
        account: AccountId,
        before: Timestamp,
    ) -> Result<Erased, DirectoryError> {
        let gone: Vec<(Uuid,)> = query_as(
            "DELETE FROM deliveries WHERE account_id = $1 AND delivery_id IN (SELECT d.delivery_id FROM deliveries d
             WHERE d.account_id = $1 AND d.delivery_id < $2 AND d.at < $3 AND NOT EXISTS (SELECT 1 FROM held h
             WHERE h.account_id = d.account_id AND h.delivery_id = d.delivery_id)
             ORDER BY d.delivery_id LIMIT $4) RETURNING delivery_id",
        )
        .bind(account.uuid())
        .bind(id_floor(before.plus_days(1)))
        .bind(before.as_millis())
        .bind(BATCH)
        .fetch_all(self.on(account).await?)
        .await?;
        if let Some((last,)) = gone.iter().max() {
            // Deliveries end in the order of their ids: no hash up to the last one belongs to a trace that is kept,
            // but for what is held.
            query(
                "DELETE FROM delivery_addresses WHERE account_id = $1 AND delivery_id <= $2
                 AND delivery_id NOT IN (SELECT delivery_id FROM deliveries WHERE account_id = $1 AND delivery_id <= $2)",
            )
            .bind(account.uuid())
            .bind(*last)
            .execute(self.on(account).await?)
            .await?;
        }
        Ok(Erased { deliveries: gone.len() as u64, ..Erased::default() })
    }

    /// R61: the messages with their sealed content, and what conversations still say of them. Their Message-IDs stay
    /// known, so that answers still find the conversation.
    async fn expire_content(
        &mut self,
        account: AccountId,
        before: Timestamp,
    ) -> Result<Erased, DirectoryError> {
        let over: Vec<(Uuid,)> = query_as(
            "SELECT message_id FROM messages
             WHERE account_id = $1 AND message_id < $2 AND received_at < $3 ORDER BY message_id LIMIT $4",
        )
        .bind(account.uuid())
        .bind(id_floor(before.plus_days(1)))
        .bind(before.as_millis())
        .bind(BATCH)
        .fetch_all(self.on(account).await?)
        .await?;
        let over: Vec<Uuid> = over.into_iter().map(|(message,)| message).collect();
        self.erase_messages(account, &over, Extent::Content).await
    }

    /// R61: what events say of messages ends with their content.
    async fn expire_events(&mut self, account: AccountId, before: Timestamp) -> Result<u64, DirectoryError> {
        let gone = query(
            "DELETE FROM events WHERE account_id = $1 AND event_id IN
             (SELECT event_id FROM events WHERE account_id = $1 AND event_id < $2 ORDER BY event_id LIMIT $3)",
        )
        .bind(account.uuid())
        .bind(id_floor(before))
        .bind(SMALL_ROWS_AT_ONCE)
        .execute(self.on(account).await?)
        .await?;
        Ok(gone)
    }

    /// R60: nobody sends a mail again after so long.
    async fn expire_tombstones(
        &mut self,
        account: AccountId,
        before: Timestamp,
    ) -> Result<u64, DirectoryError> {
        let gone = query(
            "DELETE FROM tombstones WHERE account_id = $1 AND hash IN
             (SELECT hash FROM tombstones WHERE account_id = $1 AND erased_at < $2 LIMIT $3)",
        )
        .bind(account.uuid())
        .bind(before.as_millis())
        .bind(SMALL_ROWS_AT_ONCE)
        .execute(self.on(account).await?)
        .await?;
        Ok(gone)
    }

    /// R35: the next mail that a user files sets the mark again.
    async fn expire_marks(&mut self, account: AccountId, before: Timestamp) -> Result<u64, DirectoryError> {
        let gone: Vec<(Uuid, Uuid)> = query_as(
            "DELETE FROM sync_marks WHERE account_id = $1 AND (contact_id, user_id) IN
             (SELECT contact_id, user_id FROM sync_marks WHERE account_id = $1 AND state = 'on'
              AND COALESCE(last_mail_at, since) < $2 AND since < $2 LIMIT $3) RETURNING contact_id, user_id",
        )
        .bind(account.uuid())
        .bind(before.as_millis())
        .bind(BATCH)
        .fetch_all(self.on(account).await?)
        .await?;
        for (contact, user) in &gone {
            let (contact, user) = (ContactId::from_uuid(*contact), UserId::from_uuid(*user));
            let data = json!({ "contact_id": contact, "user_id": user, "because": "idle" });
            self.emit(account, "contact.sync_off", None, &data).await?;
        }
        Ok(gone.len() as u64)
    }
}

/// Rows of one kind in one transaction.
const BATCH: i64 = 200;
/// Tombstones and events.
const SMALL_ROWS_AT_ONCE: i64 = 1000;
/// Addresses that one look remembers to have asked about.
const SEEN_MAX: usize = 10_000;
/// Idle months are counted as 30 days.
const DAYS_A_MONTH: i64 = 30;
