//! Events, pulled: the same that webhooks push, in order.

use serde_json::Value;
use tracing::warn;
use uuid::Uuid;

use crate::id::{AccountId, EventId};
use crate::store::engine::query_as;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id, in order of what happened.
    pub id: EventId,
    /// Such as `message.filed`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// Ids and headers.
    pub data: Value,
}

impl Store {
    /// Events of an account behind the one given, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn events(&self, account: AccountId, slice: Slice) -> Result<Page<Event>, StoreError> {
        let rows: Vec<(Uuid, String, i64, String)> = query_as(
            "SELECT event_id, type, at, data FROM events WHERE account_id = $1 AND event_id > $2 ORDER BY event_id LIMIT $3",
        )
        .bind(account.uuid())
        .bind(slice.after.map_or(Uuid::nil(), |key| key.id))
        .bind(slice.fetch_limit())
        .fetch_all(self.reader())
        .await?;
        let keys = self.row_keys(account).await?;
        let page = slice.page(rows, |(id, ..)| Key::of_id(*id));
        let event =
            |(id, kind, at, data): (Uuid, String, i64, String)| match keys.show("events.data", id, data) {
                Ok(data) => Some(Event {
                    id: EventId::from_uuid(id),
                    kind,
                    at: Timestamp::from_millis(at),
                    data: serde_json::from_str(&data).unwrap_or_default(),
                }),
                // One that does not open holds up none behind it.
                Err(error) => {
                    warn!(account.id = %account, event.id = %id, error = error.one_line(), "events.left_out");
                    None
                }
            };
        Ok(Page { items: page.items.into_iter().filter_map(event).collect(), next: page.next })
    }
}
