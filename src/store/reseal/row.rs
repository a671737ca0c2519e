//! One row: read as it is stored, shown, written as it is to be.

use sqlx::{ColumnIndex, Database, Decode, FromRow, Row, Type};
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::StoreError;
use crate::store::directory::fold;
use crate::store::engine::{Builder, Connection, Value};
use crate::store::reseal::tables::{Bound, Said, Table};
use crate::store::row_keys::{RowKeys, position_of};

/// A row of any table, its columns in the order of the table's list.
#[derive(Debug)]
pub(super) struct Found {
    page: Uuid,
    position: i64,
    columns: Vec<Stored>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stored {
    Octets(Option<Vec<u8>>),
    Text(Option<String>),
}

impl From<Stored> for Value {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Octets(octets) => octets.into(),
            Stored::Text(text) => text.into(),
        }
    }
}

impl<'r, R: Row> FromRow<'r, R> for Found
where
    usize: ColumnIndex<R>,
    for<'c> &'c str: ColumnIndex<R>,
    Uuid: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    Option<Vec<u8>>: Decode<'r, R::Database> + Type<R::Database>,
    R::Database: Database,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        use sqlx::Column as _;
        let read = |(n, column): (usize, &<R::Database as Database>::Column)| {
            let is_octets = column.name().starts_with("octets_");
            Ok(if is_octets { Stored::Octets(row.try_get(n)?) } else { Stored::Text(row.try_get(n)?) })
        };
        Ok(Self {
            page: row.try_get("page")?,
            position: row.try_get("position")?,
            columns: row
                .columns()
                .iter()
                .enumerate()
                .skip(2)
                .map(read)
                .collect::<Result<_, sqlx::Error>>()?,
        })
    }
}

/// What was shown; none if it does not open. A clear text may look as if it were sealed: what does not open is left as
/// it is, lest it stop everything.
fn if_it_opens<T>(shown: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match shown {
        Err(StoreError::Damaged { .. }) => Ok(None),
        shown => shown.map(Some),
    }
}

/// From which keys to which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewriting<'a> {
    pub(super) table: &'a Table,
    /// Those that sealed what is sealed.
    pub(super) from: &'a RowKeys,
    /// Those that are to seal it, or none.
    pub(super) to: &'a RowKeys,
}

impl Rewriting<'_> {
    /// Returns 1 if there was something to change.
    pub(super) async fn write(
        &self,
        connection: &mut Connection,
        account: AccountId,
        found: Found,
    ) -> Result<u64, StoreError> {
        let changed = self.rewritten(&found)?;
        if changed == found.columns {
            return Ok(0);
        }
        let mut sql = Builder::new("UPDATE ");
        sql.push(self.table.name).push(" SET ");
        for (n, ((column, _), value)) in self.table.columns.iter().zip(changed).enumerate() {
            sql.push(if n == 0 { "" } else { ", " }).push(column).push(" = ").push_bind(value);
        }
        sql.push(" WHERE account_id = ").push_bind(account.uuid());
        sql.push(format_args!(" AND {} = ", self.table.page)).push_bind(found.page);
        if let Some(position) = self.table.position {
            sql.push(format_args!(" AND {position} = ")).push_bind(found.position);
        }
        for ((column, said), old) in self.table.columns.iter().zip(found.columns) {
            if matches!(said, Said::Key(_)) {
                sql.push(format_args!(" AND {column} = ")).push_bind(old);
            }
        }
        Ok(sql.build::<()>().execute(connection).await?)
    }

    /// What is looked up first: the others may be bound to it.
    fn rewritten(&self, found: &Found) -> Result<Vec<Stored>, StoreError> {
        let mut columns = Vec::with_capacity(found.columns.len());
        for ((_, said), stored) in self.table.columns.iter().zip(&found.columns) {
            columns.push(match (said, stored) {
                (Said::Key(index) | Said::Looked(index), Stored::Text(Some(text))) => {
                    let shown = if_it_opens(self.from.show_index(*index, text.clone()))?;
                    let shown = shown.unwrap_or_else(|| text.clone());
                    Stored::Text(Some(self.to.index(*index, shown)?))
                }
                (Said::Octets(index), Stored::Octets(Some(octets))) => {
                    // Sealed again they would never open; as they are they cost their row.
                    let shown = if_it_opens(self.from.show_octets(*index, octets.clone()))?;
                    Stored::Octets(Some(match shown {
                        Some(shown) => self.to.index_octets(*index, &shown)?,
                        None => octets.clone(),
                    }))
                }
                (_, stored) => stored.clone(),
            });
        }
        let bound = (self.bound(found, &found.columns), self.bound(found, &columns));
        let mut name = String::new();
        for (n, (column, said)) in self.table.columns.iter().enumerate() {
            let Some(Stored::Text(Some(text))) = columns.get(n).cloned() else { continue };
            let new = match said {
                Said::Hidden => {
                    let qualified = self.qualified(column);
                    let shown = if_it_opens(self.from.show(&qualified, &bound.0, text.clone()))?;
                    let shown = shown.unwrap_or_else(|| text.clone());
                    if *column == "name" {
                        name.clone_from(&shown);
                    }
                    // Sealed by then: a change that was broken off goes on.
                    let is_done = !self.to.are_clear() && shown != text;
                    if is_done { text } else { self.to.hide(&qualified, &bound.1, shown)? }
                }
                Said::NameKey if self.to.are_clear() => fold(&name),
                Said::NameKey => String::new(),
                Said::Key(_) | Said::Looked(_) | Said::Octets(_) => continue,
            };
            if let Some(place) = columns.get_mut(n) {
                *place = Stored::Text(Some(new));
            }
        }
        Ok(columns)
    }

    fn bound(&self, found: &Found, columns: &[Stored]) -> Vec<u8> {
        match self.table.bound {
            Bound::Id => found.page.into_bytes().to_vec(),
            Bound::Position => position_of(found.page, found.position).to_vec(),
            Bound::Key(key) => {
                let place = self.table.columns.iter().position(|(column, _)| *column == key);
                match place.and_then(|place| columns.get(place)) {
                    Some(Stored::Text(Some(text))) => text.clone().into_bytes(),
                    _ => Vec::new(),
                }
            }
        }
    }

    /// `table.column`.
    fn qualified(&self, column: &str) -> String {
        format!("{}.{column}", self.table.name)
    }
}
