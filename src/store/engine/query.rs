//! One text for both engines, and its values: `query(TEXT).bind(value).fetch_all(connection)`.
//!
//! Placeholders are `$1` to `$n`. What is read are tuples and structs that `sqlx` can read from either engine's rows.

use std::fmt::Display;
use std::marker::PhantomData;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Decode, FromRow, Postgres, Row as _, SqlSafeStr, SqlStr, Type};

use crate::store::engine::connection::{Connection, Pool};
use crate::store::engine::value::Value;

/// What a row is read into.
pub(in crate::store) trait Fetched:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Fetched for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A tuple that a part of a text of several statements is read into.
pub(in crate::store) trait Recorded:
    for<'r> FromRow<'r, SqliteRow> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl<T> Recorded for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

/// A row of one of several statements. PostgreSQL gives it as a record, behind the number of the statement.
#[derive(Debug)]
pub(in crate::store) enum Found {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Found {
    pub(in crate::store) fn read<T: Recorded>(&self) -> Result<T, sqlx::Error> {
        match self {
            Self::Postgres(row) => row.try_get(1),
            Self::Sqlite(row) => T::from_row(row),
        }
    }
}

/// Where a statement runs.
#[derive(Debug)]
pub(in crate::store) enum Target<'c> {
    Connection(&'c mut Connection),
    Pool(&'c Pool),
}

impl<'c> From<&'c mut Connection> for Target<'c> {
    fn from(connection: &'c mut Connection) -> Self {
        Self::Connection(connection)
    }
}

impl<'c> From<&'c Pool> for Target<'c> {
    fn from(pool: &'c Pool) -> Self {
        Self::Pool(pool)
    }
}

/// A statement whose rows, if any, are read into `T`.
#[derive(Debug)]
pub(in crate::store) struct Query<T> {
    text: SqlStr,
    values: Vec<Value>,
    rows: PhantomData<fn() -> T>,
}

/// A statement that reads no rows.
pub(in crate::store) fn query(text: impl SqlSafeStr) -> Query<()> {
    Query::new(text.into_sql_str(), Vec::new())
}

/// A statement whose rows are tuples or structs.
pub(in crate::store) fn query_as<T: Fetched>(text: impl SqlSafeStr) -> Query<T> {
    Query::new(text.into_sql_str(), Vec::new())
}

/// A statement whose rows are one value each.
pub(in crate::store) fn query_scalar<T>(text: impl SqlSafeStr) -> Scalar<T>
where
    (T,): Fetched,
{
    Scalar(query_as(text))
}

/// A statement made before, with its values.
pub(in crate::store) fn query_with<T>(text: SqlStr, values: Vec<Value>) -> Query<T> {
    Query::new(text, values)
}

impl<T> Query<T> {
    const fn new(text: SqlStr, values: Vec<Value>) -> Self {
        Self { text, values, rows: PhantomData }
    }

    /// The next placeholder's value.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; returns how many rows it changed.
    pub(in crate::store) async fn execute(self, on: impl Into<Target<'_>>) -> Result<u64, sqlx::Error> {
        match on.into() {
            Target::Connection(connection) => connection.execute(self.text, self.values).await,
            Target::Pool(pool) => pool.acquire().await?.execute(self.text, self.values).await,
        }
    }
}

impl<T: Fetched> Query<T> {
    /// All rows.
    pub(in crate::store) async fn fetch_all(self, on: impl Into<Target<'_>>) -> Result<Vec<T>, sqlx::Error> {
        match on.into() {
            Target::Connection(connection) => connection.fetch_all(self.text, self.values).await,
            Target::Pool(pool) => pool.acquire().await?.fetch_all(self.text, self.values).await,
        }
    }

    /// The first row, if there is any: for statements that find at most one.
    pub(in crate::store) async fn fetch_optional(
        self,
        on: impl Into<Target<'_>>,
    ) -> Result<Option<T>, sqlx::Error> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// The row that there must be.
    pub(in crate::store) async fn fetch_one(self, on: impl Into<Target<'_>>) -> Result<T, sqlx::Error> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// As [`Query`], of one column.
#[derive(Debug)]
pub(in crate::store) struct Scalar<T>(Query<(T,)>);

impl<T> Scalar<T>
where
    (T,): Fetched,
{
    pub(in crate::store) fn bind(self, value: impl Into<Value>) -> Self {
        Self(self.0.bind(value))
    }

    pub(in crate::store) async fn fetch_all(self, on: impl Into<Target<'_>>) -> Result<Vec<T>, sqlx::Error> {
        Ok(self.0.fetch_all(on).await?.into_iter().map(|(value,)| value).collect())
    }

    pub(in crate::store) async fn fetch_optional(
        self,
        on: impl Into<Target<'_>>,
    ) -> Result<Option<T>, sqlx::Error> {
        Ok(self.0.fetch_optional(on).await?.map(|(value,)| value))
    }

    pub(in crate::store) async fn fetch_one(self, on: impl Into<Target<'_>>) -> Result<T, sqlx::Error> {
        Ok(self.0.fetch_one(on).await?.0)
    }
}

/// A statement that is put together: only texts of ours are pushed, everything else is bound.
#[derive(Debug)]
pub(in crate::store) struct Builder {
    text: String,
    values: Vec<Value>,
}

impl Builder {
    pub(in crate::store) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    pub(in crate::store) fn push(&mut self, text: impl Display) -> &mut Self {
        self.text.push_str(&text.to_string());
        self
    }

    pub(in crate::store) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        let number = self.values.len();
        self.push(format_args!("${number}"))
    }

    /// The values between commas.
    pub(in crate::store) fn push_list<V: Into<Value>>(
        &mut self,
        values: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        for (n, value) in values.into_iter().enumerate() {
            self.push(if n == 0 { "" } else { ", " }).push_bind(value);
        }
        self
    }

    pub(in crate::store) fn build<T: Fetched>(self) -> Query<T> {
        Query::new(AssertSqlSafe(self.text).into_sql_str(), self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_statement_numbers_its_values() {
        let mut sql = Builder::new("SELECT a FROM t WHERE b = ");
        sql.push_bind(7_i64).push(" AND c IN (").push_list(["x", "y"]).push(")");
        assert_eq!(sql.text, "SELECT a FROM t WHERE b = $1 AND c IN ($2, $3)");
        assert_eq!(sql.values.len(), 3);
    }
}
