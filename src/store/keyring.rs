//! The accounts' keys, unwrapped once and kept: bounded, for 30 seconds, forgotten when another process has written.

use std::sync::Arc;
use std::time::Instant;

use crate::config::StoreUrl;
use crate::id::AccountId;
use crate::keys::MasterKeyId;
use crate::store::StoreError;
use crate::store::cache::Cache;
use crate::store::engine::{self, Pool, Query, query, query_as, query_scalar};
use crate::store::mailbox::REMEMBERED;
use crate::store::row_keyring::{self, RowsAs};
use crate::store::seal::{AccountKeys, KeyNumber, SealError, Vault};
use crate::time::Timestamp;

/// Unwrapped keys.
#[derive(Debug)]
pub(in crate::store) struct Keyring {
    keys: Cache<AccountId, (Arc<AccountKeys>, Instant)>,
}

impl Keyring {
    pub(in crate::store) fn new() -> Self {
        Self { keys: Cache::new(MAX_KEYS) }
    }

    pub(in crate::store) fn forget(&self) {
        self.keys.forget();
    }

    /// The account's keys.
    pub(in crate::store) async fn keys(
        &self,
        read: &Pool,
        vault: &Vault,
        account: AccountId,
    ) -> Result<Arc<AccountKeys>, StoreError> {
        if let Some((keys, since)) = self.keys.find(&account)
            && since.elapsed() < REMEMBERED
        {
            return Ok(keys);
        }
        self.fresh(read, vault, account).await
    }

    /// The same as they are now.
    pub(in crate::store) async fn fresh(
        &self,
        read: &Pool,
        vault: &Vault,
        account: AccountId,
    ) -> Result<Arc<AccountKeys>, StoreError> {
        let epoch = self.keys.epoch();
        let rows = wrapped_keys(account).fetch_all(read).await?;
        let keys = Arc::new(open(vault, account, rows).await?);
        self.keys.put(epoch, account, (keys.clone(), Instant::now()));
        Ok(keys)
    }
}

/// A key's number and its wrapping.
pub(in crate::store) type WrappedKey = (i64, Vec<u8>);

/// Reads all keys of an account, to be opened by [`open`].
pub(in crate::store) fn wrapped_keys(account: AccountId) -> Query<WrappedKey> {
    query_as(
        "SELECT key_number, wrapped_key FROM accounts WHERE account_id = $1 \
         UNION ALL SELECT key_number, wrapped_key FROM retired_account_keys WHERE account_id = $1",
    )
    .bind(account.uuid())
}

/// Unwraps them. A master key that is not known may have been added just now: then it is looked for.
pub(in crate::store) async fn open(
    vault: &Vault,
    account: AccountId,
    rows: Vec<WrappedKey>,
) -> Result<AccountKeys, StoreError> {
    if rows.is_empty() {
        return Err(StoreError::NoSuchAccount);
    }
    let wrapped = rows
        .into_iter()
        .map(|(number, wrapped)| Ok((KeyNumber::from_i64(number).ok_or(SealError::DoesNotOpen)?, wrapped)))
        .collect::<Result<Vec<_>, SealError>>()?;
    match vault.open_account_keys(account, &wrapped) {
        Err(SealError::OtherKey) => {
            vault.masters().look_again().await;
            Ok(vault.open_account_keys(account, &wrapped)?)
        }
        opened => Ok(opened?),
    }
}

/// Makes the operator's account in a fresh store; in any other its key tells whether the master key fits. Then whether
/// every other account's master key is here, too.
pub(in crate::store) async fn check_master(
    write: &Pool,
    vault: &Vault,
    url: &StoreUrl,
    rows_as: RowsAs,
) -> Result<(), StoreError> {
    let failed = |error| engine::explain(error, url);
    let mut rows = wrapped_keys(AccountId::OPERATOR).fetch_all(write).await.map_err(failed)?;
    if rows.is_empty() {
        // Another process may do the same now: whoever comes first, counts.
        make_operator(write, vault, rows_as).await?;
        rows = wrapped_keys(AccountId::OPERATOR).fetch_all(write).await.map_err(failed)?;
    }
    let wrapped_by: Vec<Option<MasterKeyId>> =
        rows.iter().map(|(_, wrapped)| Vault::wrapped_by(wrapped)).collect();
    match open(vault, AccountId::OPERATOR, rows).await {
        Ok(_) => {}
        Err(StoreError::Seal(SealError::Failed)) => return Err(SealError::Failed.into()),
        Err(StoreError::Seal(_)) => {
            let missing = wrapped_by.iter().flatten().find(|id| vault.masters().find(**id).is_none());
            let needs = missing.or_else(|| wrapped_by.iter().flatten().next());
            return Err(wrong_master(vault, url, needs.copied()));
        }
        Err(error) => return Err(error),
    }
    let used: Vec<Vec<u8>> = query_scalar(MASTERS_IN_USE).fetch_all(write).await.map_err(failed)?;
    let mut used = used.iter().filter_map(|octets| MasterKeyId::read(octets));
    match used.find(|id| vault.masters().find(*id).is_none()) {
        Some(missing) => Err(wrong_master(vault, url, Some(missing))),
        None => Ok(()),
    }
}

/// A store without this account is a fresh one: its rows are as they are wanted.
async fn make_operator(write: &Pool, vault: &Vault, rows: RowsAs) -> Result<(), StoreError> {
    let (account, now) = (AccountId::OPERATOR, Timestamp::now());
    let wrapped = vault.new_account_key(account)?;
    let mut tx = write.begin_writing().await?;
    let made = query(
        "INSERT INTO accounts (account_id, name, settings, wrapped_key, created_at) \
         VALUES ($1, $2, '{}', $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(account.uuid())
    .bind("operator")
    .bind(wrapped.clone())
    .bind(now.as_millis())
    .execute(&mut *tx)
    .await?;
    if made == 1 && rows == RowsAs::Sealed {
        let first = vec![(KeyNumber::FIRST.as_i64(), wrapped)];
        let row_key = open(vault, account, first).await?.new_row_key()?;
        row_keyring::insert_key(&mut tx, account, row_key, Some(now)).await?;
    }
    Ok(tx.commit().await?)
}

fn wrong_master(vault: &Vault, url: &StoreUrl, needs: Option<MasterKeyId>) -> StoreError {
    let all = vault.masters().all();
    let ids: Vec<String> = all.iter().map(|key| key.id.to_string()).collect();
    let has = format!("master key{} {}", if ids.len() == 1 { "" } else { "s" }, ids.join(", "));
    StoreError::WrongMasterKey {
        holder: vault.masters().current().origin.holder(),
        database: url.to_string(),
        needs,
        has,
    }
}

/// The ids stand behind 60 octets. From before they were written there are none.
const MASTERS_IN_USE: &str = "SELECT DISTINCT substr(wrapped_key, 61) FROM accounts WHERE length(wrapped_key) = 64 \
     UNION SELECT DISTINCT substr(wrapped_key, 61) FROM retired_account_keys WHERE length(wrapped_key) = 64";
const MAX_KEYS: usize = 10_000;
