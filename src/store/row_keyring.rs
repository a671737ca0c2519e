//! The row keys of accounts, read where rows are read and written; and whether the rows of a store are sealed.
//!
//! Promises that a store is never written half clear and half sealed: whoever opens it says which, and is refused
//! unless it is so.

use std::collections::HashMap;

use uuid::Uuid;

use crate::config::StoreUrl;
use crate::id::AccountId;
use crate::store::directory::Change;
use crate::store::engine::{Connection, Pool, query, query_as};
use crate::store::keyring::{self, WrappedKey};
use crate::store::queries::{One, ROW_KEYS};
use crate::store::row_keys::RowKeys;
use crate::store::seal::{AccountKeys, KeyNumber, Vault};
use crate::store::statement::select;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// How the rows of a store are, or are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsAs {
    /// Clear.
    Clear,
    /// Sealed.
    Sealed,
}

/// Reads row keys; knows none.
#[derive(Clone, Debug)]
pub(in crate::store) struct RowVault {
    rows_as: RowsAs,
    vault: Vault,
    /// The operator's account is never emptied, and its key is asked for with each recipient.
    operator: RowKeys,
}

/// The row keys of some accounts.
#[derive(Clone, Debug)]
pub(in crate::store) enum RowKeySet {
    Clear,
    Sealed(HashMap<AccountId, RowKeys>),
}

impl RowKeySet {
    /// Of an account that was asked for. Nothing is written in clear because a key is missing.
    pub(in crate::store) fn of(&self, account: AccountId) -> Result<RowKeys, StoreError> {
        match self {
            Self::Clear => Ok(RowKeys::CLEAR),
            Self::Sealed(keys) => keys.get(&account).cloned().ok_or(StoreError::NoSuchAccount),
        }
    }
}

impl RowVault {
    /// Refuses a store whose rows are not as `rows_as` says; a fresh one becomes so.
    pub(in crate::store) async fn open(
        write: &Pool,
        vault: &Vault,
        url: &StoreUrl,
        rows_as: RowsAs,
    ) -> Result<Self, StoreError> {
        let clear = Self { rows_as: RowsAs::Clear, vault: vault.clone(), operator: RowKeys::CLEAR };
        match (rows_as, state(write).await?) {
            (RowsAs::Clear, State::Clear) => Ok(clear),
            (RowsAs::Sealed, State::Sealed) => {
                let sealed = Self { rows_as: RowsAs::Sealed, ..clear };
                let operator = sealed.of(&mut write.acquire().await?, AccountId::OPERATOR).await?;
                Ok(Self { operator, ..sealed })
            }
            (_, State::Between) => Err(StoreError::RowsBetween { database: url.to_string() }),
            (RowsAs::Clear, State::Sealed) => Err(StoreError::RowsSealed { database: url.to_string() }),
            (RowsAs::Sealed, State::Clear) => Err(StoreError::RowsClear { database: url.to_string() }),
        }
    }

    /// The same while the state changes: reads what is sealed already.
    pub(in crate::store) fn between(vault: &Vault) -> Self {
        Self { rows_as: RowsAs::Sealed, vault: vault.clone(), operator: RowKeys::CLEAR }
    }

    pub(in crate::store) const fn rows_as(&self) -> RowsAs {
        self.rows_as
    }

    pub(in crate::store) fn operator(&self) -> RowKeys {
        self.operator.clone()
    }

    /// The keys of these accounts as the connection sees them. Costs nothing where nothing is sealed.
    pub(in crate::store) async fn of_all(
        &self,
        connection: &mut Connection,
        accounts: impl IntoIterator<Item = AccountId>,
    ) -> Result<RowKeySet, StoreError> {
        if self.rows_as == RowsAs::Clear {
            return Ok(RowKeySet::Clear);
        }
        let mut wanted: Vec<Uuid> = accounts.into_iter().map(AccountId::uuid).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let wanted = wanted.into_iter().map(One).collect();
        let found: Vec<(Uuid, i64, Vec<u8>, Vec<u8>)> = select(connection, &ROW_KEYS, wanted).await?;
        let mut keys = HashMap::with_capacity(found.len());
        for (account, number, wrapped_key, wrapped) in found {
            let account = AccountId::from_uuid(account);
            let account_keys = keyring::open(&self.vault, account, vec![(number, wrapped_key)]).await?;
            keys.insert(account, RowKeys::new(account, &account_keys.open_row_key(&wrapped)?)?);
        }
        Ok(RowKeySet::Sealed(keys))
    }

    /// The key of one account.
    pub(in crate::store) async fn of(
        &self,
        connection: &mut Connection,
        account: AccountId,
    ) -> Result<RowKeys, StoreError> {
        self.of_all(connection, [account]).await?.of(account)
    }

    /// A row key for an account that has none, where rows are sealed.
    pub(in crate::store) async fn give_key(
        &self,
        connection: &mut Connection,
        account: AccountId,
        first_key: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.rows_as == RowsAs::Clear {
            return Ok(());
        }
        let first = vec![(KeyNumber::FIRST.as_i64(), first_key)];
        let wrapped = keyring::open(&self.vault, account, first).await?.new_row_key()?;
        insert_key(connection, account, wrapped, Some(now)).await
    }
}

impl Store {
    /// Whether subjects, texts, names and addresses in rows are sealed (`store.seal_rows`): then nothing of them may
    /// stand in an index or anywhere else in the database.
    #[must_use]
    pub fn seals_rows(&self) -> bool {
        self.inner.rows.rows_as() == RowsAs::Sealed
    }

    /// What shows and hides the rows of an account.
    pub(in crate::store) async fn row_keys(&self, account: AccountId) -> Result<RowKeys, StoreError> {
        if !self.seals_rows() {
            return Ok(RowKeys::CLEAR);
        }
        if account == AccountId::OPERATOR {
            return Ok(self.operator_row_keys());
        }
        self.inner.rows.of(&mut self.reader().acquire().await?, account).await
    }

    /// What shows and hides what is the operator's: names and settings of accounts, names of tokens, sync addresses.
    pub(in crate::store) fn operator_row_keys(&self) -> RowKeys {
        self.inner.rows.operator()
    }
}

impl Change {
    /// As [`Store::row_keys`], as this change leaves them.
    pub(in crate::store) async fn row_keys(&mut self, account: AccountId) -> Result<RowKeys, StoreError> {
        let rows = self.store.inner.rows.clone();
        rows.of(&mut self.tx, account).await
    }

    /// The same, and the operator's: what a filing needs.
    pub(in crate::store) async fn row_key_set(
        &mut self,
        account: AccountId,
    ) -> Result<RowKeySet, StoreError> {
        let rows = self.store.inner.rows.clone();
        rows.of_all(&mut self.tx, [account, AccountId::OPERATOR]).await
    }

    /// The account gets another key: the row key is wrapped by it from now on, and the rows stay as they are. `next`
    /// is that key, its number before it.
    pub(in crate::store) async fn rewrap_row_key(
        &mut self,
        account: AccountId,
        next: WrappedKey,
    ) -> Result<(), StoreError> {
        let Some((keys, wrapped)) = self.wrapped_row_key(account).await? else { return Ok(()) };
        let key = keys.open_row_key(&wrapped)?;
        let next = keyring::open(self.store.vault(), account, vec![next]).await?;
        self.put_row_key(account, next.wrap_row_key(&key)?).await
    }

    /// R60: nothing that was sealed with the row key can be opened again.
    pub(in crate::store) async fn renew_row_key(&mut self, account: AccountId) -> Result<(), StoreError> {
        let Some((keys, _)) = self.wrapped_row_key(account).await? else { return Ok(()) };
        self.put_row_key(account, keys.new_row_key()?).await
    }

    /// The row key, and what opens it; none where rows are clear.
    async fn wrapped_row_key(
        &mut self,
        account: AccountId,
    ) -> Result<Option<(AccountKeys, Vec<u8>)>, StoreError> {
        let found: Option<(i64, Vec<u8>, Vec<u8>)> = query_as(
            "SELECT a.key_number, a.wrapped_key, r.wrapped FROM row_keys r
             JOIN accounts a ON a.account_id = r.account_id WHERE r.account_id = $1",
        )
        .bind(account.uuid())
        .fetch_optional(self.on(account).await?)
        .await?;
        let Some((number, wrapped_key, wrapped)) = found else { return Ok(None) };
        let keys = keyring::open(self.store.vault(), account, vec![(number, wrapped_key)]).await?;
        Ok(Some((keys, wrapped)))
    }

    async fn put_row_key(&mut self, account: AccountId, wrapped: Vec<u8>) -> Result<(), StoreError> {
        query("UPDATE row_keys SET wrapped = $2 WHERE account_id = $1")
            .bind(account.uuid())
            .bind(wrapped)
            .execute(self.on(account).await?)
            .await?;
        Ok(())
    }
}

/// How the rows of a store are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum State {
    /// They are being sealed, or made clear again.
    Between,
    Clear,
    Sealed,
}

/// As the database says.
pub(in crate::store) async fn state(pool: &Pool) -> Result<State, StoreError> {
    let sealed_at: Option<(Option<i64>,)> = query_as("SELECT sealed_at FROM row_keys WHERE account_id = $1")
        .bind(AccountId::OPERATOR.uuid())
        .fetch_optional(pool)
        .await?;
    Ok(match sealed_at {
        None => State::Clear,
        Some((None,)) => State::Between,
        Some((Some(_),)) => State::Sealed,
    })
}

/// Somebody else may be faster: then theirs counts.
pub(in crate::store) async fn insert_key(
    connection: &mut Connection,
    account: AccountId,
    wrapped: Vec<u8>,
    sealed_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    query("INSERT INTO row_keys (account_id, wrapped, sealed_at) VALUES ($1, $2, $3) ON CONFLICT (account_id) DO NOTHING")
        .bind(account.uuid())
        .bind(wrapped)
        .bind(sealed_at.map(Timestamp::as_millis))
        .execute(connection)
        .await?;
    Ok(())
}
