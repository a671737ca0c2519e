//! The audit trail (R64): who read, changed, exported or erased what, when; a chain of hashes for each account.
//!
//! Promises that a row is on disk before what it tells of is answered, and that [`Store::verify_audit`] names a row
//! that was removed, changed or moved, and a chain that was removed whole. Rows hold ids, never content or addresses;
//! they survive every purge and never end. Whoever can rewrite the whole database can rewrite the chain: note the head
//! elsewhere to notice that too.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::id::{AccountId, TokenId, UserId};
use crate::store::engine::{Connection, query_as};
use crate::store::queries::One;
use crate::store::statement::{Statement, insert, row, select};
use crate::store::writer::Work;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::wire::hex;

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever can open the store on this machine.
    Operator,
    /// The server itself, by the account's settings.
    System,
    /// Whoever holds this token.
    Token(TokenId),
    /// Whoever has the link that this user was sent.
    User(UserId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::System => f.write_str("system"),
            Self::Token(token) => write!(f, "token:{token}"),
            Self::User(user) => write!(f, "user:{user}"),
        }
    }
}

/// Something that was done, to be written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// In whose chain it stands.
    pub account: AccountId,
    /// When.
    pub at: Timestamp,
    /// Who: see [`Actor`].
    pub actor: String,
    /// What: `read`, `create`, `change`, `delete`, `purge`, …
    pub action: String,
    /// To what: its path below the account, such as `messages/<id>/raw`.
    pub object: String,
    /// Ids and counts.
    pub detail: Option<Value>,
}

/// A row of the trail.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// From 1, without gaps.
    pub seq: i64,
    /// What was done.
    pub act: Act,
    /// In hexadecimal digits.
    pub hash: String,
}

/// What a look through a chain found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditCheck {
    /// Rows that are there.
    pub rows: u64,
    /// The number of the last row, by the head.
    pub head: i64,
    /// Its hash in hexadecimal digits; empty for a chain without rows.
    pub head_hash: String,
    /// What is wrong, each naming rows; at most [`MAX_FAULTS`].
    pub faults: Vec<String>,
}

impl Store {
    /// Writes down what is about to be answered; returns when it is on disk.
    ///
    /// # Errors
    /// If it could not be written: then nothing is to be answered.
    pub async fn note(&self, acts: Vec<Act>) -> Result<(), StoreError> {
        if acts.is_empty() {
            return Ok(());
        }
        self.inner.writer.ask(Work::Note(acts), Instant::now() + NOTE_LIMIT).await.map(|_| ())
    }

    /// Goes through the chain of an account from its first row.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn verify_audit(&self, account: AccountId) -> Result<AuditCheck, StoreError> {
        // One point in time: rows that are added meanwhile do not look like a wrong head.
        let mut reader = self.inner.read.begin_reading().await?;
        let head: Option<(i64, Vec<u8>)> =
            query_as("SELECT seq, hash FROM audit_heads WHERE account_id = $1")
                .bind(account.uuid())
                .fetch_optional(&mut *reader)
                .await?;
        let mut check = AuditCheck::default();
        let mut last = Link { seq: 0, hash: Vec::new() };
        loop {
            let rows: Vec<Row> = query_as(SELECT_AFTER)
                .bind(account.uuid())
                .bind(last.seq)
                .bind(VERIFY_ROWS)
                .fetch_all(&mut *reader)
                .await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                check.rows += 1;
                last = check.follow(account, &last, row);
            }
        }
        // The operator's begins with the first thing that is done, every other one with its account.
        if head.is_none() && check.rows == 0 && account != AccountId::OPERATOR {
            check.fault("the whole chain is missing".to_owned());
        }
        let (head, hash) = head.unwrap_or((0, Vec::new()));
        (check.head, check.head_hash) = (head, hex(&hash));
        if head > last.seq {
            check.fault(format!("rows {} to {head} are missing at the end", last.seq + 1));
        } else if head < last.seq {
            check.fault(format!("row {} stands behind the head, which is {head}", last.seq));
        } else if hash != last.hash {
            check.fault(format!("row {head} is not the one that the head names"));
        }
        Ok(check)
    }
}

impl AuditCheck {
    /// One row on: whatever is wrong with it, the next one is measured by what it says of itself.
    fn follow(&mut self, account: AccountId, before: &Link, row: Row) -> Link {
        let (seq, at, actor, action, object, detail, hash) = row;
        if seq == before.seq + 2 {
            self.fault(format!("row {} is missing", before.seq + 1));
        } else if seq > before.seq + 1 {
            self.fault(format!("rows {} to {} are missing", before.seq + 1, seq - 1));
        }
        let said =
            Said { seq, at, actor: &actor, action: &action, object: &object, detail: detail.as_deref() };
        if seq == before.seq + 1 && said.hash(account, &before.hash) != hash {
            self.fault(format!("row {seq} was changed or moved, or the row before it was"));
        }
        Link { seq, hash }
    }

    fn fault(&mut self, said: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(said);
        }
    }
}

/// A chain that is read row by row, elsewhere than from the store.
#[derive(Debug)]
pub(in crate::store) struct ChainCheck {
    account: AccountId,
    last: Link,
    check: AuditCheck,
}

impl ChainCheck {
    pub(in crate::store) fn new(account: AccountId) -> Self {
        Self { account, last: Link { seq: 0, hash: Vec::new() }, check: AuditCheck::default() }
    }

    pub(in crate::store) fn follow(&mut self, row: Row) {
        self.last = self.check.follow(self.account, &self.last, row);
    }

    /// What is wrong with it.
    pub(in crate::store) fn finish(self) -> Vec<String> {
        self.check.faults
    }
}

/// Where a chain ends.
#[derive(Clone, Debug)]
struct Link {
    seq: i64,
    hash: Vec<u8>,
}

/// What a row says.
struct Said<'a> {
    seq: i64,
    at: i64,
    actor: &'a str,
    action: &'a str,
    object: &'a str,
    detail: Option<&'a str>,
}

impl Said<'_> {
    /// SHA-256 over the hash before, account, number, time, and each text behind its length (eight octets, big endian;
    /// all ones for no detail), so that no two rows read the same.
    fn hash(&self, account: AccountId, before: &[u8]) -> Vec<u8> {
        let mut context = Context::new(&SHA256);
        context.update(before);
        context.update(account.uuid().as_bytes());
        context.update(&self.seq.to_be_bytes());
        context.update(&self.at.to_be_bytes());
        for text in [Some(self.actor), Some(self.action), Some(self.object), self.detail] {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            context.update(&length.to_be_bytes());
            context.update(text.unwrap_or_default().as_bytes());
        }
        context.finish().as_ref().to_vec()
    }
}

/// Adds acts to the chains of their accounts, in their order. Within a transaction; nobody else writes to these
/// accounts until it ends.
pub(in crate::store) async fn append(connection: &mut Connection, acts: Vec<Act>) -> Result<(), sqlx::Error> {
    if acts.is_empty() {
        return Ok(());
    }
    let mut accounts: Vec<AccountId> = acts.iter().map(|act| act.account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    connection.lock_accounts(&accounts).await?;
    let mut heads: HashMap<AccountId, Link> =
        accounts.iter().map(|account| (*account, Link { seq: 0, hash: Vec::new() })).collect();
    let keys = accounts.iter().map(|account| One(account.uuid())).collect();
    for (account, seq, hash) in select::<_, (Uuid, i64, Vec<u8>)>(connection, &HEADS, keys).await? {
        heads.insert(AccountId::from_uuid(account), Link { seq, hash });
    }
    let mut rows = Vec::with_capacity(acts.len());
    for act in acts {
        let Some(head) = heads.get_mut(&act.account) else { continue };
        rows.push(head.add(act));
    }
    insert(connection, rows).await?;
    let heads = heads.into_iter().map(|(account, head)| HeadRow {
        account_id: account.uuid(),
        seq: head.seq,
        hash: head.hash,
    });
    insert(connection, heads.collect()).await
}

impl Link {
    fn add(&mut self, act: Act) -> NewRow {
        let detail = act.detail.map(|detail| detail.to_string());
        let said = Said {
            seq: self.seq + 1,
            at: act.at.as_millis(),
            actor: &act.actor,
            action: &act.action,
            object: &act.object,
            detail: detail.as_deref(),
        };
        let hash = said.hash(act.account, &self.hash);
        *self = Self { seq: self.seq + 1, hash: hash.clone() };
        NewRow {
            account_id: act.account.uuid(),
            seq: self.seq,
            at: act.at.as_millis(),
            actor: act.actor,
            action: act.action,
            object: act.object,
            detail,
            hash,
        }
    }
}

/// As the trail is shown.
pub(in crate::store) fn shown(account: AccountId, row: Row) -> AuditRow {
    let (seq, at, actor, action, object, detail, hash) = row;
    let act = Act {
        account,
        at: Timestamp::from_millis(at),
        actor,
        action,
        object,
        detail: detail.and_then(|detail| serde_json::from_str(&detail).ok()),
    };
    AuditRow { seq, act, hash: hex(&hash) }
}

/// `seq, at, actor, action, object, detail, hash`.
pub(in crate::store) type Row = (i64, i64, String, String, String, Option<String>, Vec<u8>);

row! {
    /// A row of the trail.
    NewRow into "audit" {
        account_id: Uuid,
        seq: i64,
        at: i64,
        actor: String,
        action: String,
        object: String,
        detail: Option<String>,
        hash: Vec<u8>,
    }
}

row! {
    /// The end of a chain.
    HeadRow into "audit_heads",
    then "ON CONFLICT (account_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash" {
        account_id: Uuid,
        seq: i64,
        hash: Vec<u8>,
    }
}

static HEADS: Statement = Statement::new(
    "WITH w(a) AS (VALUES",
    1,
    ") SELECT t.account_id, t.seq, t.hash FROM w CROSS JOIN audit_heads t WHERE t.account_id = w.a",
);
const SELECT_AFTER: &str = "SELECT seq, at, actor, action, object, detail, hash FROM audit
     WHERE account_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";

/// A reader waits no longer for the row to be written.
const NOTE_LIMIT: Duration = Duration::from_secs(4);
const VERIFY_ROWS: i64 = 1000;
/// Faults of one chain that are named.
pub const MAX_FAULTS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(object: &str, detail: Option<&str>) -> Vec<u8> {
        let said = Said { seq: 1, at: 2, actor: "system", action: "read", object, detail };
        said.hash(AccountId::OPERATOR, &[])
    }

    #[test]
    fn r64_no_two_rows_have_the_same_octets() {
        let rows = [hash("a", None), hash("a", Some("")), hash("ab", None), hash("", Some("a"))];
        for (n, row) in rows.iter().enumerate() {
            assert_eq!(rows.iter().filter(|other| *other == row).count(), 1, "{n}");
        }
    }
}
