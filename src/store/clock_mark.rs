//! What the clock showed when it was last believed, on whichever node: kept here because a restart forgets it.

use std::time::Duration;

use crate::clock::{ClockDoubt, ClockMark};
use crate::id::AccountId;
use crate::store::engine::{query, query_as};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

impl Store {
    /// When the clock was last believed; none in a store where nothing has been ended by it yet.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn clock_mark(&self) -> Result<Option<ClockMark>, StoreError> {
        let row: Option<(i64, Option<i64>, Option<i64>)> =
            query_as("SELECT believed_at, doubted_at, even_millis FROM clock_mark WHERE account_id = $1")
                .bind(AccountId::OPERATOR.uuid())
                .fetch_optional(self.reader())
                .await?;
        Ok(row.map(|(believed, doubted, even)| ClockMark {
            believed_at: Timestamp::from_millis(believed),
            doubt: doubted.zip(even).map(|(at, even)| ClockDoubt {
                at: Timestamp::from_millis(at),
                even: Duration::from_millis(u64::try_from(even).unwrap_or_default()),
            }),
        }))
    }

    /// Moves it, also back: whoever calls this believes the clock.
    ///
    /// # Errors
    /// If the database fails; then it stays where it was.
    pub async fn believe_clock(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        query(
            "INSERT INTO clock_mark (account_id, believed_at) VALUES ($1, $2)
             ON CONFLICT (account_id) DO UPDATE SET believed_at = excluded.believed_at, doubted_at = NULL, even_millis = NULL",
        )
        .bind(AccountId::OPERATOR.uuid())
        .bind(now.as_millis())
        .execute(&mut *change)
        .await?;
        Ok(change.commit().await?)
    }

    /// Notes how far the doubt has come, so that a restart does not begin it anew. Where the clock was never believed
    /// there is nothing to note.
    ///
    /// # Errors
    /// If the database fails; then the note stays what it was.
    pub async fn doubt_clock(&self, doubt: ClockDoubt) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        query("UPDATE clock_mark SET doubted_at = $2, even_millis = $3 WHERE account_id = $1")
            .bind(AccountId::OPERATOR.uuid())
            .bind(doubt.at.as_millis())
            .bind(i64::try_from(doubt.even.as_millis()).unwrap_or(i64::MAX))
            .execute(&mut *change)
            .await?;
        Ok(change.commit().await?)
    }
}
