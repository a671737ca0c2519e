//! What the clock showed when it was last believed, on whichever node: kept here because a restart forgets it.

use crate::id::AccountId;
use crate::store::engine::{query, query_scalar};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

impl Store {
    /// When the clock was last believed; none in a store where nothing has been ended by it yet.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn clock_mark(&self) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> = query_scalar("SELECT believed_at FROM clock_mark WHERE account_id = $1")
            .bind(AccountId::OPERATOR.uuid())
            .fetch_optional(self.reader())
            .await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// Moves it, also back: whoever calls this believes the clock.
    ///
    /// # Errors
    /// If the database fails; then it stays where it was.
    pub async fn set_clock_mark(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        query(
            "INSERT INTO clock_mark (account_id, believed_at) VALUES ($1, $2)
             ON CONFLICT (account_id) DO UPDATE SET believed_at = excluded.believed_at",
        )
        .bind(AccountId::OPERATOR.uuid())
        .bind(now.as_millis())
        .execute(&mut *change)
        .await?;
        Ok(change.commit().await?)
    }
}
