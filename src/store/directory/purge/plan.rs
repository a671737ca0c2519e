//! What a purge would take away (`dry_run`): the same selection and the same counting, page by page; nothing is
//! written.

use std::collections::HashSet;

use tokio::time::Instant;
use uuid::Uuid;

use crate::address::{Asked, EmailAddress};
use crate::id::AccountId;
use crate::smtp::ForwardPath;
use crate::store::directory::DirectoryError;
use crate::store::directory::erase::{Erased, count, doomed, read_of, traces_of};
use crate::store::directory::purge::{PurgeOf, select};
use crate::store::engine::{Connection, query_as};
use crate::store::row_keys::RowKeys;
use crate::store::{Store, StoreError};

impl Store {
    /// What erasing this would take away now; and whether it is more than that, because there was no time to count it
    /// all.
    ///
    /// # Errors
    /// `NotFound` if there is no such thing.
    pub async fn plan_purge(
        &self,
        account: AccountId,
        of: PurgeOf,
        until: Instant,
    ) -> Result<(Erased, bool), DirectoryError> {
        self.require(account, of).await?;
        let mut reader = self.inner.read.begin_reading().await.map_err(StoreError::from)?;
        // With the reader that is held: whoever waits for a second one may hold the last.
        let keys = self.inner.rows.of(&mut reader, account).await?;
        let mut plan =
            Plan { keys, erased: Erased::default(), traces: HashSet::new(), until, is_more: false };
        self.plan_messages(&mut reader, account, of, &mut plan).await?;
        plan.held(&mut reader, account, of).await?;
        let hashes = select::hashes_of(&mut reader, (account, &plan.keys), of, &self.inner.keys).await?;
        let mut after = Uuid::nil();
        while !plan.is_over() {
            let (traces, next) = select::traces(&mut reader, account, of, &hashes, after, TRACES_MAX).await?;
            plan.traces.extend(traces);
            let Some(next) = next else { break };
            after = next;
            if plan.traces.len() as u64 >= TRACES_MAX.unsigned_abs() {
                plan.is_more = true;
                break;
            }
        }
        plan.erased.deliveries = plan.traces.len() as u64;
        if of == PurgeOf::All && !plan.is_over() {
            let (all,): (i64,) = query_as(
                "SELECT COUNT(*) FROM (SELECT delivery_id FROM deliveries WHERE account_id = $1 LIMIT $2) AS counted",
            )
            .bind(account.uuid())
            .bind(COUNTED_MAX)
            .fetch_one(&mut *reader)
            .await?;
            plan.is_more |= all >= COUNTED_MAX;
            plan.erased.deliveries = all.unsigned_abs();
        }
        Ok((plan.erased, plan.is_more))
    }

    async fn plan_messages(
        &self,
        reader: &mut Connection,
        account: AccountId,
        of: PurgeOf,
        plan: &mut Plan,
    ) -> Result<(), DirectoryError> {
        let served = &self.inner.served;
        let is_reply = |rcpt: &str| {
            let path = EmailAddress::parse(rcpt).map(ForwardPath::Address);
            path.is_some_and(|path| matches!(served.classify(&path), Asked::Reply(_)))
        };
        let mut after = Uuid::nil();
        while !plan.is_over() {
            let (mut ids, next) = select::messages(reader, account, of, after, PAGE).await?;
            let spared = select::brought_by_others(reader, (account, &plan.keys), of, &ids, is_reply).await?;
            ids.retain(|id| !spared.messages.contains_key(id));
            plan.traces.extend(spared.own_ways);
            plan.messages(reader, account, of, &ids).await?;
            let Some(next) = next else { return Ok(()) };
            after = next;
        }
        Ok(())
    }

    async fn require(&self, account: AccountId, of: PurgeOf) -> Result<(), DirectoryError> {
        let missing = match of {
            PurgeOf::All => self.account(account).await?.is_none().then_some("account"),
            PurgeOf::Contact(id) => self.contact(account, id).await?.is_none().then_some("contact"),
            PurgeOf::Message(id) => self.message(account, id).await?.is_none().then_some("message"),
            PurgeOf::Mine(id) | PurgeOf::User(id) => {
                self.user(account, id).await?.is_none().then_some("user")
            }
        };
        missing.map_or(Ok(()), |what| Err(DirectoryError::NotFound(what)))
    }
}

struct Plan {
    keys: RowKeys,
    erased: Erased,
    /// Each trace counts once, though two things may take it along. Not filled for a whole account.
    traces: HashSet<Uuid>,
    until: Instant,
    is_more: bool,
}

impl Plan {
    /// Whoever asks waits no longer. The first look at anything is always had.
    fn is_over(&mut self) -> bool {
        let is_over = self.erased != Erased::default() && Instant::now() >= self.until;
        self.is_more |= is_over;
        is_over
    }

    async fn messages(
        &mut self,
        reader: &mut Connection,
        account: AccountId,
        of: PurgeOf,
        ids: &[Uuid],
    ) -> Result<(), StoreError> {
        let doomed = doomed(reader, (account, &self.keys), ids).await?;
        self.erased.add(count(&doomed));
        if of != PurgeOf::All && !doomed.is_empty() {
            self.traces.extend(traces_of(reader, account, &doomed, None).await?);
        }
        Ok(())
    }

    async fn held(
        &mut self,
        reader: &mut Connection,
        account: AccountId,
        of: PurgeOf,
    ) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        while !self.is_over() {
            let ids = select::held(reader, (account, &self.keys), of, after, PAGE).await?;
            let Some(last) = ids.last() else { break };
            after = *last;
            let text = "SELECT delivery_id, blob FROM held WHERE account_id = ";
            let held: Vec<(Uuid, Option<String>)> =
                read_of(reader, account, text, "delivery_id", &ids).await?;
            self.erased.held += held.len() as u64;
            self.erased.blobs += held.iter().filter(|(_, blob)| blob.is_some()).count() as u64;
            if of != PurgeOf::All {
                self.traces.extend(ids);
            }
        }
        Ok(())
    }
}

const PAGE: i64 = 200;
/// Traces beside those of messages: each is remembered, to be counted once.
const TRACES_MAX: i64 = 100_000;
/// Of a whole account they are only counted.
const COUNTED_MAX: i64 = 10_000_000;
