//! The accounts' keys, unwrapped once and kept: bounded, forgotten when another process has written.

use std::path::Path;
use std::sync::Arc;

use crate::id::AccountId;
use crate::store::StoreError;
use crate::store::cache::Cache;
use crate::store::engine::{self, Pool, query, query_scalar};
use crate::store::seal::{AccountKey, SealError, Vault};
use crate::time::Timestamp;

/// Unwrapped keys.
#[derive(Debug)]
pub(in crate::store) struct Keyring {
    keys: Cache<AccountId, Arc<AccountKey>>,
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
        if let Some(key) = self.keys.find(&account) {
            return Ok(key);
        }
        let epoch = self.keys.epoch();
        let wrapped: Option<Vec<u8>> = query_scalar("SELECT wrapped_key FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_optional(read)
            .await?;
        let wrapped = wrapped.ok_or(StoreError::NoSuchAccount)?;
        let key = Arc::new(vault.open_account_key(account, &wrapped)?);
        self.keys.put(epoch, account, key.clone());
        Ok(key)
    }
}

/// Makes the operator's account in a fresh store; in any other its key tells whether the master key fits.
pub(in crate::store) async fn check_operator(
    write: &Pool,
    vault: &Vault,
    path: &Path,
) -> Result<(), StoreError> {
    let failed = |error| engine::explain(error, path);
    let read = || {
        query_scalar::<Vec<u8>>("SELECT wrapped_key FROM accounts WHERE account_id = $1")
            .bind(AccountId::OPERATOR.uuid())
            .fetch_optional(write)
    };
    let wrapped = match read().await.map_err(failed)? {
        Some(wrapped) => Some(wrapped),
        None => {
            // Another process may do the same now: whoever comes first, counts.
            query(
                "INSERT INTO accounts (account_id, name, settings, wrapped_key, created_at) \
                 VALUES ($1, $2, '{}', $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(AccountId::OPERATOR.uuid())
            .bind("operator")
            .bind(vault.new_account_key(AccountId::OPERATOR)?)
            .bind(Timestamp::now().as_millis())
            .execute(write)
            .await
            .map_err(failed)?;
            read().await.map_err(failed)?
        }
    };
    match vault.open_account_key(AccountId::OPERATOR, &wrapped.unwrap_or_default()) {
        Ok(_) => Ok(()),
        Err(SealError::DoesNotOpen | SealError::DoesNotUnpack) => {
            Err(StoreError::WrongMasterKey { path: path.to_owned() })
        }
        Err(error @ SealError::Failed) => Err(error.into()),
    }
}

const MAX_KEYS: usize = 10_000;
