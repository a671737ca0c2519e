//! The accounts' keys, unwrapped once and kept: bounded, for 30 seconds, forgotten when another process has written.

use std::sync::Arc;
use std::time::Instant;

use crate::config::StoreUrl;
use crate::id::AccountId;
use crate::store::StoreError;
use crate::store::cache::Cache;
use crate::store::engine::{self, Pool, query, query_scalar};
use crate::store::mailbox::REMEMBERED;
use crate::store::row_keyring::{self, RowsAs};
use crate::store::seal::{AccountKey, SealError, Vault};
use crate::time::Timestamp;

/// Unwrapped keys.
#[derive(Debug)]
pub(in crate::store) struct Keyring {
    keys: Cache<AccountId, (Arc<AccountKey>, Instant)>,
}

impl Keyring {
    pub(in crate::store) fn new() -> Self {
        Self { keys: Cache::new(MAX_KEYS) }
    }

    pub(in crate::store) fn forget(&self) {
        self.keys.forget();
    }

    /// The account's key.
    pub(in crate::store) async fn key(
        &self,
        read: &Pool,
        vault: &Vault,
        account: AccountId,
    ) -> Result<Arc<AccountKey>, StoreError> {
        if let Some((key, since)) = self.keys.find(&account)
            && since.elapsed() < REMEMBERED
        {
            return Ok(key);
        }
        let epoch = self.keys.epoch();
        let wrapped: Option<Vec<u8>> = query_scalar("SELECT wrapped_key FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_optional(read)
            .await?;
        let wrapped = wrapped.ok_or(StoreError::NoSuchAccount)?;
        let key = Arc::new(vault.open_account_key(account, &wrapped)?);
        self.keys.put(epoch, account, (key.clone(), Instant::now()));
        Ok(key)
    }
}

/// Makes the operator's account in a fresh store; in any other its key tells whether the master key fits.
pub(in crate::store) async fn check_operator(
    write: &Pool,
    vault: &Vault,
    url: &StoreUrl,
    rows: RowsAs,
) -> Result<(), StoreError> {
    let failed = |error| engine::explain(error, url);
    let read = || {
        query_scalar::<Vec<u8>>("SELECT wrapped_key FROM accounts WHERE account_id = $1")
            .bind(AccountId::OPERATOR.uuid())
            .fetch_optional(write)
    };
    let wrapped = match read().await.map_err(failed)? {
        Some(wrapped) => Some(wrapped),
        None => {
            // Another process may do the same now: whoever comes first, counts.
            make_operator(write, vault, rows).await?;
            read().await.map_err(failed)?
        }
    };
    let wrapped = wrapped.unwrap_or_default();
    match vault.open_account_key(AccountId::OPERATOR, &wrapped) {
        Ok(_) => Ok(()),
        Err(SealError::DoesNotOpen | SealError::DoesNotUnpack) => {
            let (needs, has) = (Vault::wrapped_by(&wrapped), vault.master_id());
            Err(StoreError::WrongMasterKey { database: url.to_string(), needs, has })
        }
        Err(error @ SealError::Failed) => Err(error.into()),
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
        let row_key = vault.open_account_key(account, &wrapped)?.new_row_key()?;
        row_keyring::insert_key(&mut tx, account, row_key, Some(now)).await?;
    }
    Ok(tx.commit().await?)
}

const MAX_KEYS: usize = 10_000;
