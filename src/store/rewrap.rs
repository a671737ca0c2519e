//! The accounts' keys wrapped by another master key: a few rows at a time, beside running servers, as often as wanted.

use std::collections::BTreeMap;

use tracing::warn;
use uuid::Uuid;

use crate::id::AccountId;
use crate::keys::MasterKeyId;
use crate::store::engine::{query, query_as};
use crate::store::seal::{KeyNumber, SealError, Vault};
use crate::store::{Store, StoreError};

/// How much a master key has wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MasterUse {
    /// Accounts whose key it has wrapped.
    pub accounts: u64,
    /// Their older keys, while those still open.
    pub older_keys: u64,
}

/// Account, number of the key, the key.
type Row = (Uuid, i64, Vec<u8>);

impl Store {
    /// What each master key has wrapped; none for wrappings that do not say by which.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn master_uses(&self) -> Result<BTreeMap<Option<MasterKeyId>, MasterUse>, StoreError> {
        let mut uses: BTreeMap<Option<MasterKeyId>, MasterUse> = BTreeMap::new();
        let rows: Vec<(Vec<u8>, bool, i64)> = query_as(USES).fetch_all(self.reader()).await?;
        for (id, is_older, count) in rows {
            let use_ = uses.entry(MasterKeyId::read(&id)).or_default();
            let place = if is_older { &mut use_.older_keys } else { &mut use_.accounts };
            *place += u64::try_from(count).unwrap_or_default();
        }
        Ok(uses)
    }

    /// The master keys that have wrapped all there is; empty where some of it does not say by which.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn masters_in_use(&self) -> Result<Vec<MasterKeyId>, StoreError> {
        let uses = self.master_uses().await?;
        Ok(uses.into_keys().collect::<Option<Vec<_>>>().unwrap_or_default())
    }

    /// Wraps every account key with the master key that wraps now. Returns how many were not yet.
    ///
    /// # Errors
    /// If the database fails, or a master key is missing that is needed: what was done stays so.
    pub async fn rewrap_account_keys(&self) -> Result<u64, StoreError> {
        let mut rewrapped = 0;
        for table in TABLES {
            let mut passed = (Uuid::nil(), -1);
            loop {
                let next = query_as(table.next).bind(passed.0).bind(passed.1).bind(PIECE);
                let rows: Vec<Row> = next.fetch_all(self.reader()).await?;
                let Some((account, number, _)) = rows.last() else { break };
                passed = (*account, *number);
                rewrapped += self.rewrap_piece(table, &rows).await?;
            }
        }
        Ok(rewrapped)
    }

    async fn rewrap_piece(&self, table: &Table, rows: &[Row]) -> Result<u64, StoreError> {
        let mut fresh = Vec::new();
        for (account, number, old) in rows {
            if let Some(new) = rewrapped(self.vault(), AccountId::from_uuid(*account), *number, old)? {
                fresh.push((*account, *number, old, new));
            }
        }
        if fresh.is_empty() {
            return Ok(0);
        }
        let mut written = 0;
        let mut transaction = self.begin().await?;
        for (account, number, old, new) in fresh {
            // What another process has changed meanwhile, it has wrapped itself.
            let change = query(table.change).bind(account).bind(number).bind(old.as_slice()).bind(new);
            written += change.execute(&mut *transaction).await?;
        }
        transaction.announce_change().await?;
        transaction.commit().await?;
        self.forget_addresses();
        Ok(written)
    }
}

/// None if it need not, or cannot be done.
fn rewrapped(
    vault: &Vault,
    account: AccountId,
    number: i64,
    old: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let number = KeyNumber::from_i64(number).ok_or(StoreError::Defect("an account key without a number"))?;
    match vault.rewrap(account, number, old) {
        Err(SealError::DoesNotOpen) => {
            // Nobody can read it, whatever wraps it.
            warn!(account = %account, "keys.account_key_damaged");
            Ok(None)
        }
        done => Ok(done?),
    }
}

struct Table {
    /// Behind account `$1` and number `$2`, `$3` of them.
    next: &'static str,
    /// `$1` the account, `$2` the number, `$3` what was there, `$4` what comes there.
    change: &'static str,
}

/// A key that is retired meanwhile is found in the second one.
const TABLES: &[Table] = &[
    Table {
        next: "SELECT account_id, key_number, wrapped_key FROM accounts
               WHERE (account_id, key_number) > ($1, $2) ORDER BY account_id, key_number LIMIT $3",
        change: "UPDATE accounts SET wrapped_key = $4 WHERE account_id = $1 AND key_number = $2 AND wrapped_key = $3",
    },
    Table {
        next: "SELECT account_id, key_number, wrapped_key FROM retired_account_keys
               WHERE (account_id, key_number) > ($1, $2) ORDER BY account_id, key_number LIMIT $3",
        change: "UPDATE retired_account_keys SET wrapped_key = $4
                 WHERE account_id = $1 AND key_number = $2 AND wrapped_key = $3",
    },
];
/// The id stands behind 60 octets.
const USES: &str = "SELECT substr(wrapped_key, 61), FALSE, count(*) FROM accounts GROUP BY substr(wrapped_key, 61) \
     UNION ALL SELECT substr(wrapped_key, 61), TRUE, count(*) FROM retired_account_keys GROUP BY substr(wrapped_key, 61)";
const PIECE: i64 = 64;
