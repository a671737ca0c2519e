//! Statements with a list of rows in them: one statement for a whole batch (the number of statements decides the
//! speed, not fsync). The text depends on the number of rows and the engine alone, is made once, and stays prepared.

use std::sync::{Arc, OnceLock};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::store::engine::{self, Connection, Engine, Fetched, Value, query_with};

/// `before VALUES (…), (…) after`.
#[derive(Debug)]
pub(in crate::store) struct Statement {
    before: &'static str,
    columns: usize,
    after: &'static str,
    postgres: Texts,
    sqlite: Texts,
}

/// One for each of [`SIZES`].
type Texts = [OnceLock<Arc<str>>; SIZES.len()];

/// What stands between one pair of brackets.
pub(in crate::store) trait Row {
    /// Adds its values in the order of the columns.
    fn bind(self, values: &mut Vec<Value>);
}

/// A row that has its table.
pub(in crate::store) trait Insert: Row {
    /// The statement that writes it.
    fn statement() -> &'static Statement;
}

impl Statement {
    pub(in crate::store) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self {
            before,
            columns,
            after,
            postgres: [const { OnceLock::new() }; SIZES.len()],
            sqlite: [const { OnceLock::new() }; SIZES.len()],
        }
    }

    fn text(&'static self, engine: Engine, rows: usize) -> Arc<str> {
        let texts = match engine {
            Engine::Postgres => &self.postgres,
            Engine::Sqlite => &self.sqlite,
        };
        match SIZES.iter().position(|size| *size == rows).and_then(|index| texts.get(index)) {
            Some(text) => text.get_or_init(|| self.write_text(engine, rows)).clone(),
            None => self.write_text(engine, rows),
        }
    }

    fn write_text(&self, engine: Engine, rows: usize) -> Arc<str> {
        let mut text = self.before.to_owned();
        let mut number = 0;
        for row in 0..rows {
            text.push_str(if row == 0 { " (" } else { ",(" });
            for column in 0..self.columns {
                if column > 0 {
                    text.push(',');
                }
                number += 1;
                engine::push_placeholder(&mut text, engine, number);
            }
            text.push(')');
        }
        text.push_str(self.after);
        text.into()
    }

    /// The text for one row, to look at its query plan.
    #[cfg(test)]
    pub(in crate::store) fn for_one_row(&'static self) -> Arc<str> {
        self.text(Engine::Sqlite, 1)
    }
}

/// Writes all rows, in as few statements as their number allows.
pub(in crate::store) async fn insert<R: Insert>(
    connection: &mut Connection,
    rows: Vec<R>,
) -> Result<(), sqlx::Error> {
    let statement = R::statement();
    let mut rest = rows.into_iter();
    while rest.len() > 0 {
        let (text, values) = piece(statement, connection.engine(), &mut rest);
        query_with::<()>(text, values).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Reads what the keys find.
pub(in crate::store) async fn select<K: Row, T: Fetched>(
    connection: &mut Connection,
    statement: &'static Statement,
    keys: Vec<K>,
) -> Result<Vec<T>, sqlx::Error> {
    let mut found = Vec::new();
    let mut rest = keys.into_iter();
    while rest.len() > 0 {
        let (text, values) = piece(statement, connection.engine(), &mut rest);
        found.extend(query_with(text, values).fetch_all(&mut *connection).await?);
    }
    Ok(found)
}

/// As many rows as one statement takes: its text and its values.
fn piece<R: Row>(
    statement: &'static Statement,
    engine: Engine,
    rest: &mut impl ExactSizeIterator<Item = R>,
) -> (SqlStr, Vec<Value>) {
    let size = largest_size(rest.len());
    let mut values = Vec::with_capacity(size * statement.columns);
    for row in rest.take(size) {
        row.bind(&mut values);
    }
    (AssertSqlSafe(statement.text(engine, size)).into_sql_str(), values)
}

fn largest_size(rows: usize) -> usize {
    SIZES.iter().rev().copied().find(|size| *size <= rows).unwrap_or(1)
}

/// Numbers of rows that have a text of their own; any number is at most a few of them. 256 rows of 30 columns stay
/// under the values that a statement may have (SQLite 32,766, PostgreSQL 65,535).
const SIZES: [usize; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256];

/// A row of a table: fields in the order of the columns, whose names they bear.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident into $table:literal $(, then $after:literal)? {
        $first:ident: $first_type:ty, $($field:ident: $type:ty,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(in crate::store) struct $name {
            pub(in crate::store) $first: $first_type,
            $(pub(in crate::store) $field: $type,)+
        }

        impl $crate::store::statement::Row for $name {
            fn bind(self, values: &mut Vec<$crate::store::engine::Value>) {
                values.push(self.$first.into());
                $(values.push(self.$field.into());)+
            }
        }

        impl $crate::store::statement::Insert for $name {
            fn statement() -> &'static $crate::store::statement::Statement {
                static STATEMENT: $crate::store::statement::Statement = $crate::store::statement::Statement::new(
                    concat!("INSERT INTO ", $table, " (", stringify!($first) $(, ", ", stringify!($field))+, ") VALUES"),
                    [stringify!($first) $(, stringify!($field))+].len(),
                    concat!("", $(" ", $after)?),
                );
                &STATEMENT
            }
        }
    };
}
pub(in crate::store) use row;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_a_few_statements_whose_texts_are_made_once() {
        static STATEMENT: Statement =
            Statement::new("INSERT INTO t (a, b) VALUES", 2, " ON CONFLICT DO NOTHING");
        assert_eq!(
            &*STATEMENT.text(Engine::Sqlite, 2),
            "INSERT INTO t (a, b) VALUES (?,?),(?,?) ON CONFLICT DO NOTHING"
        );
        assert_eq!(
            &*STATEMENT.text(Engine::Postgres, 2),
            "INSERT INTO t (a, b) VALUES ($1,$2),($3,$4) ON CONFLICT DO NOTHING"
        );
        assert!(Arc::ptr_eq(&STATEMENT.text(Engine::Sqlite, 64), &STATEMENT.text(Engine::Sqlite, 64)));
        for rows in 1..=256_usize {
            let (mut left, mut statements) = (rows, 0);
            while left > 0 {
                left -= largest_size(left);
                statements += 1;
            }
            assert!(statements <= 5, "{rows} rows take {statements} statements");
        }
    }
}
