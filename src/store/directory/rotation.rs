//! An account gets another key: content keys are wrapped anew row by row, what they open stays as it is, blobs too.
//!
//! The old key opens until nothing is wrapped by it any more: [`GRACE_MILLIS`] after it was retired nothing is filed
//! that it sealed, then what is left is wrapped anew, then it is erased. Each step may be killed and is gone on with.
//! Promises that no key is erased which a row needs.

use tracing::warn;
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::directory::{Addresses, Change, DirectoryError, Log, idempotency};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::keyring;
use crate::store::row_keys::Index;
use crate::store::seal::{AccountKeys, KeyNumber, SealError};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// How far the rotation of an account's key has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Of the key that seals now.
    pub number: KeyNumber,
    /// Whether this call has made that key; else a rotation was under way, and was gone on with.
    pub is_begun: bool,
    /// Content keys wrapped anew by this call.
    pub rewrapped: u64,
}

/// What a pass over an account's rows has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pass {
    rewrapped: u64,
    /// They open with no key, and never will.
    damaged: u64,
    /// Wrapped by a key that was made since: somebody else is at it.
    left: u64,
}

/// A column of content keys, each bound to the id in its row.
struct Column {
    /// `$1` the account, `$2` the id before, `$3` how many.
    next: &'static str,
    /// `$1` the account, `$2` the id, `$3` what was there, `$4` what comes there.
    change: &'static str,
}

impl Store {
    /// Gives an account another key and wraps its content keys anew; or goes on where that was interrupted.
    ///
    /// # Errors
    /// `NotFound`, or if the database fails.
    pub async fn rotate_account_key(
        &self,
        account: AccountId,
        actor: &str,
    ) -> Result<Rotation, DirectoryError> {
        let mut change = self.change().await?;
        let (number, is_begun) = change.begin_rotation(account, actor).await?;
        change.commit().await?;
        let pass = self.rewrap_contents(account).await?;
        Ok(Rotation { number, is_begun, rewrapped: pass.rewrapped })
    }

    /// The old keys that are still there: account, number, since when they seal nothing any more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn retired_keys(&self) -> Result<Vec<(AccountId, KeyNumber, Timestamp)>, StoreError> {
        let rows: Vec<(Uuid, i64, i64)> = query_as(
            "SELECT account_id, key_number, retired_at FROM retired_account_keys ORDER BY account_id, key_number",
        )
        .fetch_all(self.reader())
        .await?;
        let read = |(account, number, at)| {
            Some((AccountId::from_uuid(account), KeyNumber::from_i64(number)?, Timestamp::from_millis(at)))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Ends the rotations whose grace is over: erases the old keys. Returns how many accounts that were.
    ///
    /// # Errors
    /// The first, if anything failed; each is logged and holds up no other, and what was ended stays so.
    pub async fn finish_rotations(&self, now: Timestamp) -> Result<u64, StoreError> {
        let accounts: Vec<Uuid> = query_scalar(
            "SELECT account_id FROM retired_account_keys GROUP BY account_id HAVING max(retired_at) <= $1",
        )
        .bind(now.as_millis().saturating_sub(GRACE_MILLIS))
        .fetch_all(self.reader())
        .await?;
        let (mut finished, mut failed) = (0, None);
        for account in accounts.into_iter().map(AccountId::from_uuid) {
            match self.finish_rotation(account).await {
                Ok(is_finished) => finished += u64::from(is_finished),
                Err(error) => {
                    warn!(account.id = %account, error = &error as &dyn std::error::Error, "keys.rotation_failed");
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(finished), Err)
    }

    async fn finish_rotation(&self, account: AccountId) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let floor = change.raise_floor(account).await?;
        change.commit().await?;
        // From here on no row can come to be that an older key is needed for; those there are, this pass finds.
        let pass = self.rewrap_contents(account).await?;
        if pass.left > 0 {
            return Ok(false);
        }
        if pass.damaged > 0 {
            warn!(account = %account, damaged = pass.damaged, "keys.content_keys_damaged");
        }
        let mut change = self.change().await?;
        change.erase_retired_keys(account, floor).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Goes through all content keys of an account once.
    async fn rewrap_contents(&self, account: AccountId) -> Result<Pass, StoreError> {
        let keys = self.inner.keyring.fresh(self.reader(), self.vault(), account).await?;
        let mut pass = Pass::default();
        for column in COLUMNS {
            let mut passed = Uuid::nil();
            loop {
                let rows: Vec<(Uuid, Vec<u8>)> = query_as(column.next)
                    .bind(account.uuid())
                    .bind(passed)
                    .bind(SCANNED)
                    .fetch_all(self.reader())
                    .await?;
                let Some((last, _)) = rows.last() else { break };
                passed = *last;
                let mut stale = Vec::new();
                for (id, old) in rows {
                    stale.extend(pass.take(keys.rewrap(id, &old))?.map(|new| (id, old, new)));
                }
                for piece in stale.chunks(WRITTEN) {
                    let mut change = self.change().await?;
                    pass.rewrapped += change.put_content_keys(account, column, piece).await?;
                    change.commit().await?;
                }
            }
        }
        self.rewrap_answers(account, &keys, &mut pass).await?;
        Ok(pass)
    }

    /// The same for remembered answers that show a secret.
    async fn rewrap_answers(
        &self,
        account: AccountId,
        keys: &AccountKeys,
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        let shown = self.row_keys(account).await?;
        let mut passed = String::new();
        loop {
            let rows: Vec<(String, Vec<u8>, String)> = query_as(
                "SELECT key, request_hash, response FROM idempotency_keys
                 WHERE account_id = $1 AND key > $2 ORDER BY key LIMIT $3",
            )
            .bind(account.uuid())
            .bind(passed.as_str())
            .bind(SCANNED)
            .fetch_all(self.reader())
            .await?;
            let Some((last, _, _)) = rows.last() else { return Ok(()) };
            passed.clone_from(last);
            let mut change = self.change().await?;
            for (row, hash, stored) in rows {
                let opened = (
                    shown.show_octets(Index::Request, hash),
                    shown.show_index(Index::Request, row.clone()),
                    shown.show("idempotency_keys.response", &row, stored.clone()),
                );
                let (Ok(hash), Ok(key), Ok(old)) = opened else {
                    pass.damaged += 1;
                    continue;
                };
                let rewrapped = pass.take(idempotency::rewrap(keys, (&key, &hash), &old))?;
                if let Some(new) = rewrapped {
                    let new = shown.hide("idempotency_keys.response", &row, new)?;
                    pass.rewrapped += change.put_answer(account, &row, &stored, &new).await?;
                }
            }
            change.commit().await?;
        }
    }
}

impl Pass {
    /// What is to be written, if anything is.
    fn take<T>(&mut self, rewrapped: Result<Option<T>, SealError>) -> Result<Option<T>, SealError> {
        match rewrapped {
            Ok(rewrapped) => Ok(rewrapped),
            Err(SealError::OtherKey) => {
                self.left += 1;
                Ok(None)
            }
            Err(SealError::DoesNotOpen | SealError::DoesNotUnpack) => {
                self.damaged += 1;
                Ok(None)
            }
            Err(SealError::Failed) => Err(SealError::Failed),
        }
    }
}

impl Change {
    /// The number of the next key of an account.
    pub(super) async fn next_key_number(&mut self, account: AccountId) -> Result<KeyNumber, DirectoryError> {
        let number: Option<i64> = query_scalar("SELECT key_number FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_optional(self.on(account).await?)
            .await?;
        let number = number.ok_or(DirectoryError::NotFound("account"))?;
        let next = KeyNumber::from_i64(number).and_then(KeyNumber::next);
        Ok(next.ok_or(StoreError::Defect("an account key without a number"))?)
    }

    /// Makes the next key, unless one before it is still there. Says which number seals, and whether it is new.
    async fn begin_rotation(
        &mut self,
        account: AccountId,
        actor: &str,
    ) -> Result<(KeyNumber, bool), DirectoryError> {
        let number = self.next_key_number(account).await?;
        let rows = keyring::wrapped_keys(account).fetch_all(self.on(account).await?).await?;
        let is_under_way = rows.len() > 1;
        if is_under_way {
            return Ok((keyring::open(self.store.vault(), account, rows).await?.number(), false));
        }
        let wrapped = self.store.vault().new_key_numbered(account, number).map_err(StoreError::from)?;
        query(
            "INSERT INTO retired_account_keys (account_id, key_number, wrapped_key, retired_at)
             SELECT account_id, key_number, wrapped_key, $2 FROM accounts WHERE account_id = $1",
        )
        .bind(account.uuid())
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        self.rewrap_row_key(account, (number.as_i64(), wrapped.clone())).await?;
        query("UPDATE accounts SET key_number = $2, wrapped_key = $3 WHERE account_id = $1")
            .bind(account.uuid())
            .bind(number.as_i64())
            .bind(wrapped)
            .execute(self.on(account).await?)
            .await?;
        // Other nodes seal with it within a second.
        self.addresses = Addresses::Changed;
        self.note(account, actor, "rotate_key", format!("keys/{}", number.as_i64()), None).await?;
        Ok((number, true))
    }

    /// From the commit on nothing is filed here that an older key has sealed. Returns the number of the key that seals.
    async fn raise_floor(&mut self, account: AccountId) -> Result<i64, StoreError> {
        query("UPDATE accounts SET key_floor = key_number WHERE account_id = $1")
            .bind(account.uuid())
            .execute(self.on(account).await?)
            .await?;
        let floor: i64 = query_scalar("SELECT key_floor FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_one(self.on(account).await?)
            .await?;
        Ok(floor)
    }

    async fn erase_retired_keys(&mut self, account: AccountId, below: i64) -> Result<(), StoreError> {
        self.addresses = Addresses::Changed;
        self.log = Log::Forget;
        query("DELETE FROM retired_account_keys WHERE account_id = $1 AND key_number < $2")
            .bind(account.uuid())
            .bind(below)
            .execute(self.on(account).await?)
            .await?;
        Ok(())
    }

    /// Each as (id, what was there, what comes there). What was changed or erased meanwhile stays so.
    async fn put_content_keys(
        &mut self,
        account: AccountId,
        column: &Column,
        piece: &[(Uuid, Vec<u8>, Vec<u8>)],
    ) -> Result<u64, StoreError> {
        let mut written = 0;
        for (id, old, new) in piece {
            written += query(column.change)
                .bind(account.uuid())
                .bind(*id)
                .bind(old.as_slice())
                .bind(new.as_slice())
                .execute(self.on(account).await?)
                .await?;
        }
        Ok(written)
    }

    async fn put_answer(
        &mut self,
        account: AccountId,
        key: &str,
        old: &str,
        new: &str,
    ) -> Result<u64, StoreError> {
        let change =
            "UPDATE idempotency_keys SET response = $4 WHERE account_id = $1 AND key = $2 AND response = $3";
        let change = query(change).bind(account.uuid()).bind(key).bind(old).bind(new);
        Ok(change.execute(self.on(account).await?).await?)
    }
}

/// Held mail that is filed meanwhile is wrapped anew by whoever files it. A webhook's secret may become the old one
/// meanwhile: therefore in this order.
const COLUMNS: &[Column] = &[
    Column {
        next: "SELECT delivery_id, content_key FROM held WHERE account_id = $1 AND delivery_id > $2
               ORDER BY delivery_id LIMIT $3",
        change: "UPDATE held SET content_key = $4 WHERE account_id = $1 AND delivery_id = $2 AND content_key = $3",
    },
    Column {
        next: "SELECT message_id, content_key FROM messages WHERE account_id = $1 AND message_id > $2
               AND content_key IS NOT NULL ORDER BY message_id LIMIT $3",
        change: "UPDATE messages SET content_key = $4 WHERE account_id = $1 AND message_id = $2 AND content_key = $3",
    },
    Column {
        next: "SELECT webhook_id, secret_key FROM webhooks WHERE account_id = $1 AND webhook_id > $2
               ORDER BY webhook_id LIMIT $3",
        change: "UPDATE webhooks SET secret_key = $4 WHERE account_id = $1 AND webhook_id = $2 AND secret_key = $3",
    },
    Column {
        next: "SELECT webhook_id, old_secret_key FROM webhooks WHERE account_id = $1 AND webhook_id > $2
               AND old_secret_key IS NOT NULL ORDER BY webhook_id LIMIT $3",
        change: "UPDATE webhooks SET old_secret_key = $4 WHERE account_id = $1 AND webhook_id = $2
                 AND old_secret_key = $3",
    },
];

/// An old key opens at least for so long: far longer than a node remembers keys, and a filing is on its way.
pub const GRACE_MILLIS: i64 = 10 * 60 * 1000;
/// Rows looked at in one statement.
const SCANNED: i64 = 512;
/// Rows of one transaction: small mails stand in them, and are written again with their key.
const WRITTEN: usize = 64;
