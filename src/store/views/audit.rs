//! The audit trail, newest first (R64).

use uuid::Uuid;

use crate::id::AccountId;
use crate::store::audit::{AuditRow, Row, shown};
use crate::store::engine::Builder;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Which rows to list. All that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// By this actor.
    pub actor: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl Store {
    /// Part of an account's audit trail.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn audit(
        &self,
        account: AccountId,
        filter: &AuditFilter,
        slice: Slice,
    ) -> Result<Page<AuditRow>, StoreError> {
        let mut sql = Builder::new(
            "SELECT seq, at, actor, action, object, detail, hash FROM audit WHERE account_id = ",
        );
        sql.push_bind(account.uuid());
        if let Some(actor) = &filter.actor {
            sql.push(" AND actor = ").push_bind(actor.clone());
        }
        if let Some(since) = filter.since {
            sql.push(" AND at >= ").push_bind(since.as_millis());
        }
        if let Some(until) = filter.until {
            sql.push(" AND at < ").push_bind(until.as_millis());
        }
        if let Some(after) = slice.after {
            sql.push(" AND seq < ").push_bind(after.at);
        }
        sql.push(" ORDER BY seq DESC LIMIT ").push_bind(slice.fetch_limit());
        let rows: Vec<Row> = sql.build().fetch_all(self.reader()).await?;
        let rows = rows.into_iter().map(|row| shown(account, row)).collect();
        Ok(slice.page(rows, |row: &AuditRow| Key::of_time(row.seq, Uuid::nil())))
    }
}
