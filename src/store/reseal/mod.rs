//! A store whose rows were clear is sealed, or the other way round (`syncmx migrate --seal-rows`, `--unseal-rows`),
//! while no server runs. And the list of what every table says of people, which is the measure of `store.seal_rows`.
//!
//! Promises that a change that was broken off goes on where it was, and that no server opens the store in between.

mod row;
pub(in crate::store) mod tables;

use uuid::Uuid;

use crate::config::{self, StoreUrl};
use crate::id::AccountId;
use crate::keys::Keys;
use crate::store::engine::{self, Builder, Connection, Pool, Pools, query, query_as, query_scalar};
use crate::store::export::that_fit;
use crate::store::keyring::{self, WrappedKey};
use crate::store::reseal::row::{Found, Rewriting};
use crate::store::reseal::tables::{TABLES, Table, Whose};
use crate::store::row_keyring::{RowVault, RowsAs, State, insert_key, state};
use crate::store::row_keys::RowKeys;
use crate::store::seal::Vault;
use crate::store::{Store, StoreError, create_data_folder};
use crate::time::Timestamp;

impl Store {
    /// Seals the rows of a store, or makes them clear again. Returns how many were rewritten. No server may run on it
    /// meanwhile; none starts on it before this has come to its end.
    ///
    /// # Errors
    /// If the database cannot be used, or the master key does not fit; what was done by then is done.
    pub async fn rewrite_rows(config: &config::Store, keys: &Keys, to: RowsAs) -> Result<u64, StoreError> {
        create_data_folder(&config.url)?;
        let Pools { write, .. } = engine::connect(&config.url, || {}).await?;
        let vault = Vault::new(keys.master.clone());
        keyring::check_master(&write, &vault, &config.url, to).await?;
        let done = match (to, state(&write).await?) {
            (RowsAs::Clear, State::Clear) | (RowsAs::Sealed, State::Sealed) => 0,
            (_, State::Between | State::Clear | State::Sealed) => change(&write, vault, to).await?,
        };
        if matches!(config.url, StoreUrl::Sqlite(_)) {
            // R60: what stood in clear is to stand nowhere.
            write.forget_log().await?;
        }
        write.close().await;
        Ok(done)
    }
}

async fn change(write: &Pool, vault: Vault, to: RowsAs) -> Result<u64, StoreError> {
    let accounts: Vec<Uuid> =
        query_scalar("SELECT account_id FROM accounts ORDER BY account_id").fetch_all(write).await?;
    let mut tx = write.begin_writing().await?;
    query("UPDATE row_keys SET sealed_at = NULL").execute(&mut *tx).await?;
    for account in accounts.iter().copied().map(AccountId::from_uuid) {
        let key: WrappedKey = query_as("SELECT key_number, wrapped_key FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_one(&mut *tx)
            .await?;
        let row_key = keyring::open(&vault, account, vec![key]).await?.new_row_key()?;
        insert_key(&mut tx, account, row_key, None).await?;
    }
    tx.commit().await?;
    let rows = RowVault::between(&vault);
    let mut done = 0;
    for account in accounts.into_iter().map(AccountId::from_uuid) {
        for table in TABLES {
            done += rewrite(write, &rows, (account, table), to).await?;
        }
    }
    index_again(write).await?;
    let mut tx = write.begin_writing().await?;
    let end = match to {
        RowsAs::Clear => query("DELETE FROM row_keys"),
        RowsAs::Sealed => query("UPDATE row_keys SET sealed_at = $1").bind(Timestamp::now().as_millis()),
    };
    end.execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(done)
}

/// Nothing of a text stands in an index where rows are sealed: the server makes it anew behind its back.
async fn index_again(write: &Pool) -> Result<(), StoreError> {
    loop {
        let mut tx = write.begin_writing().await?;
        let pages: Vec<(Uuid, Uuid)> =
            query_as("SELECT account_id, message_id FROM search_documents LIMIT $1")
                .bind(DOCUMENTS_AT_ONCE)
                .fetch_all(&mut *tx)
                .await?;
        for (account, message) in &pages {
            query("DELETE FROM search_documents WHERE account_id = $1 AND message_id = $2")
                .bind(*account)
                .bind(*message)
                .execute(&mut *tx)
                .await?;
            query(
                "INSERT INTO search_waiting (account_id, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(*account)
            .bind(*message)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        if pages.is_empty() {
            return Ok(());
        }
    }
}

/// One table of one account, page by page.
async fn rewrite(
    write: &Pool,
    rows: &RowVault,
    (account, table): (AccountId, &Table),
    to: RowsAs,
) -> Result<u64, StoreError> {
    let (mut done, mut after) = (0, None);
    loop {
        let mut tx = write.begin_writing().await?;
        let mut pages = pages_of(&mut tx, account, table, after).await?;
        if table.has_texts {
            pages.truncate(fitting(&mut tx, account, table, &pages).await?);
        }
        let Some(last) = pages.last() else { return Ok(done) };
        after = Some(*last);
        let keys = match table.whose {
            Whose::Account => rows.of(&mut tx, account).await?,
            Whose::Operator => rows.of(&mut tx, AccountId::OPERATOR).await?,
        };
        let target = if to == RowsAs::Sealed { keys.clone() } else { RowKeys::CLEAR };
        let rewriting = Rewriting { table, from: &keys, to: &target };
        for found in read(&mut tx, account, table, &pages).await? {
            done += rewriting.write(&mut tx, account, found).await?;
        }
        tx.commit().await?;
    }
}

async fn pages_of(
    connection: &mut Connection,
    account: AccountId,
    table: &Table,
    after: Option<Uuid>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (name, page) = (table.name, table.page);
    let mut sql = Builder::new("SELECT DISTINCT ");
    sql.push(format_args!("{page} FROM {name} WHERE account_id = ")).push_bind(account.uuid());
    if let Some(after) = after {
        sql.push(format_args!(" AND {page} > ")).push_bind(after);
    }
    sql.push(format_args!(" ORDER BY {page} LIMIT ")).push_bind(PAGES_AT_ONCE);
    let pages: Vec<(Uuid,)> = sql.build().fetch_all(connection).await?;
    Ok(pages.into_iter().map(|(page,)| page).collect())
}

/// How many of these messages one look at their texts takes: at least one.
async fn fitting(
    connection: &mut Connection,
    account: AccountId,
    table: &Table,
    pages: &[Uuid],
) -> Result<usize, sqlx::Error> {
    if pages.is_empty() {
        return Ok(0);
    }
    let (name, page) = (table.name, table.page);
    let mut sql = Builder::new("SELECT size_bytes");
    sql.push(format_args!(" FROM {name} WHERE account_id = ")).push_bind(account.uuid());
    sql.push(format_args!(" AND {page} IN (")).push_list(pages.iter().copied());
    sql.push(format_args!(") ORDER BY {page}"));
    let sizes: Vec<(i64,)> = sql.build().fetch_all(connection).await?;
    Ok(that_fit(&sizes))
}

async fn read(
    connection: &mut Connection,
    account: AccountId,
    table: &Table,
    pages: &[Uuid],
) -> Result<Vec<Found>, sqlx::Error> {
    let (name, page, position) = (table.name, table.page, table.position.unwrap_or("0"));
    let mut sql = Builder::new("SELECT ");
    sql.push(format_args!("{page} AS page, CAST({position} AS BIGINT) AS position"));
    for (column, said) in table.columns {
        sql.push(format_args!(", {column} AS {}_{column}", said.prefix()));
    }
    sql.push(format_args!(" FROM {name} WHERE account_id = ")).push_bind(account.uuid());
    sql.push(format_args!(" AND {page} IN (")).push_list(pages.iter().copied()).push(")");
    sql.build().fetch_all(connection).await
}

/// Documents of the search that are erased together.
const DOCUMENTS_AT_ONCE: i64 = 500;
/// Groups of rows of one transaction.
const PAGES_AT_ONCE: i64 = 100;
