//! Statements with a list of rows in them, and many of those at once: a way to the engine and back costs as much as many
//! rows (the number of ways decides the speed, not fsync).
//!
//! Promises that the number of texts is small, so that all of them stay prepared: with PostgreSQL a column is one array,
//! whatever the number of rows; with SQLite rows of NULL, which find and write nothing, fill a statement up to the next
//! of [`SIZES`].

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::store::engine::{self, Connection, Engine, Found, Kind, Recorded, Value, query_with};

/// `before VALUES (…), (…) after`.
#[derive(Debug)]
pub(in crate::store) struct Statement {
    before: &'static str,
    columns: usize,
    after: &'static str,
    /// For SQLite, one for each of [`SIZES`]; with plain placeholders, so that it can stand behind others.
    texts: [OnceLock<Arc<str>>; SIZES.len()],
}

/// What stands between one pair of brackets.
pub(in crate::store) trait Row {
    /// Adds its values in the order of the columns. The first, the account, is never NULL (R4).
    fn bind(self, values: &mut Vec<Value>);
}

/// A row that has its table.
pub(in crate::store) trait Insert: Row {
    /// The statement that writes it.
    fn statement() -> &'static Statement;
}

impl Statement {
    /// `before` ends with `VALUES`.
    pub(in crate::store) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self { before, columns, after, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    fn head(&self) -> &'static str {
        self.before.strip_suffix("VALUES").unwrap_or(self.before)
    }

    fn for_sqlite(&'static self, size: usize) -> Arc<str> {
        match SIZES.iter().position(|known| *known == size).and_then(|index| self.texts.get(index)) {
            Some(text) => text.get_or_init(|| self.write_for_sqlite(size)).clone(),
            None => self.write_for_sqlite(size),
        }
    }

    fn write_for_sqlite(&self, size: usize) -> Arc<str> {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        let rows = vec![row; size].join(",");
        let list = if size > 1 && self.head().starts_with("INSERT") {
            format!("SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL")
        } else {
            format!("VALUES {rows}")
        };
        [self.head(), &list, self.after].concat().into()
    }

    /// `number` counts the placeholders before.
    fn write_for_postgres(&self, kinds: impl Iterator<Item = Kind>, number: usize) -> String {
        let arrays: Vec<String> = kinds
            .enumerate()
            .map(|(column, kind)| format!("${}::{}[]", number + column + 1, engine::postgres_name(kind)))
            .collect();
        format!("{}SELECT * FROM unnest({}){}", self.head(), arrays.join(","), self.after)
    }

    /// The text for one row, to look at its query plan.
    #[cfg(test)]
    pub(in crate::store) fn for_one_row(&'static self) -> Arc<str> {
        self.for_sqlite(1)
    }
}

/// Writes all rows.
pub(in crate::store) async fn insert<R: Insert>(
    connection: &mut Connection,
    rows: Vec<R>,
) -> Result<(), sqlx::Error> {
    let mut writes = Writes::new(connection.engine());
    writes.insert(rows);
    writes.run(connection).await
}

/// Reads what the keys find.
pub(in crate::store) async fn select<K: Row, T: Recorded>(
    connection: &mut Connection,
    statement: &'static Statement,
    keys: Vec<K>,
) -> Result<Vec<T>, sqlx::Error> {
    let mut reads = Reads::new(connection.engine());
    let answer = reads.select(statement, keys);
    reads.run(connection).await?.take(answer)
}

/// Rows of several tables that are written in one way to the engine, in this order.
#[derive(Debug)]
pub(in crate::store) struct Writes(Texts);

impl Writes {
    pub(in crate::store) const fn new(engine: Engine) -> Self {
        Self(Texts::new(engine))
    }

    pub(in crate::store) fn insert<R: Insert>(&mut self, rows: Vec<R>) {
        self.0.add(R::statement(), rows);
    }

    /// With PostgreSQL the tables are written by one statement, at whose end references are checked.
    pub(in crate::store) async fn run(self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let Texts { engine, mut parts, values } = self.0;
        let text = match (engine, parts.pop()) {
            (_, None) => return Ok(()),
            (Engine::Postgres, Some(last)) => {
                let named = parts.iter().enumerate().map(|(n, part)| format!("w{n} AS ({part})"));
                let named: Vec<String> = named.collect();
                if named.is_empty() { last.to_string() } else { format!("WITH {} {last}", named.join(", ")) }
            }
            (Engine::Sqlite, Some(last)) => {
                parts.push(last);
                parts.join(";")
            }
        };
        query_with::<()>(AssertSqlSafe(text).into_sql_str(), values).execute(connection).await.map(|_| ())
    }
}

/// Reads of several tables in one way to the engine.
#[derive(Debug)]
pub(in crate::store) struct Reads {
    texts: Texts,
    /// How many parts each of them has.
    parts: Vec<usize>,
}

/// Where the answer to one of them is.
#[derive(Debug)]
pub(in crate::store) struct Asked<T>(usize, PhantomData<fn() -> T>);

/// What was found, by [`Asked`].
#[derive(Debug)]
pub(in crate::store) struct Answers(Vec<Vec<Found>>);

impl Reads {
    pub(in crate::store) const fn new(engine: Engine) -> Self {
        Self { texts: Texts::new(engine), parts: Vec::new() }
    }

    pub(in crate::store) fn select<K: Row, T: Recorded>(
        &mut self,
        statement: &'static Statement,
        keys: Vec<K>,
    ) -> Asked<T> {
        let before = self.texts.parts.len();
        self.texts.add(statement, keys);
        self.parts.push(self.texts.parts.len() - before);
        Asked(self.parts.len() - 1, PhantomData)
    }

    /// As [`Connection::data_version`]; no row where such changes are announced.
    pub(in crate::store) fn data_version(&mut self) -> Asked<(i64,)> {
        let text = engine::data_version_text(self.texts.engine);
        self.texts.parts.extend(text.map(Arc::from));
        self.parts.push(text.iter().len());
        Asked(self.parts.len() - 1, PhantomData)
    }

    pub(in crate::store) async fn run(self, connection: &mut Connection) -> Result<Answers, sqlx::Error> {
        let Texts { engine, parts, values } = self.texts;
        if parts.is_empty() {
            return Ok(Answers(self.parts.iter().map(|_| Vec::new()).collect()));
        }
        let count = parts.len();
        let text = match engine {
            Engine::Postgres => {
                let record = |(n, part)| format!("SELECT {n}::bigint, ROW(p.*) FROM ({part}) AS p");
                parts.iter().enumerate().map(record).collect::<Vec<_>>().join(" UNION ALL ")
            }
            Engine::Sqlite => parts.join(";"),
        };
        let found = connection.fetch_parts(AssertSqlSafe(text).into_sql_str(), values, count).await?;
        let mut found = found.into_iter();
        Ok(Answers(self.parts.iter().map(|parts| found.by_ref().take(*parts).flatten().collect()).collect()))
    }
}

impl Answers {
    /// The rows of this one; of a second time there are none.
    pub(in crate::store) fn take<T: Recorded>(&mut self, asked: Asked<T>) -> Result<Vec<T>, sqlx::Error> {
        let found = self.0.get_mut(asked.0).map(std::mem::take).unwrap_or_default();
        found.into_iter().map(|row| row.read()).collect()
    }
}

/// Statements of a row list each, and the values of all of them.
#[derive(Debug)]
struct Texts {
    engine: Engine,
    parts: Vec<Arc<str>>,
    values: Vec<Value>,
}

impl Texts {
    const fn new(engine: Engine) -> Self {
        Self { engine, parts: Vec::new(), values: Vec::new() }
    }

    fn add<R: Row>(&mut self, statement: &'static Statement, rows: Vec<R>) {
        match self.engine {
            Engine::Postgres => self.add_arrays(statement, rows),
            Engine::Sqlite => self.add_lists(statement, rows),
        }
    }

    fn add_arrays<R: Row>(&mut self, statement: &'static Statement, rows: Vec<R>) {
        let mut columns: Vec<Vec<Value>> = Vec::new();
        columns.resize_with(statement.columns, || Vec::with_capacity(rows.len()));
        let mut values = Vec::with_capacity(statement.columns);
        for row in rows {
            row.bind(&mut values);
            columns.iter_mut().zip(values.drain(..)).for_each(|(column, value)| column.push(value));
        }
        let kinds = columns.iter().filter_map(|column| column.first()).map(Value::kind);
        let text = statement.write_for_postgres(kinds, self.values.len());
        if columns.iter().all(|column| !column.is_empty()) {
            self.parts.push(text.into());
            self.values.extend(columns.into_iter().map(Value::Column));
        }
    }

    fn add_lists<R: Row>(&mut self, statement: &'static Statement, rows: Vec<R>) {
        let mut rest = rows.into_iter();
        while rest.len() > 0 {
            let size = SIZES.iter().copied().find(|size| *size >= rest.len()).unwrap_or(MAX_SIZE);
            let end = self.values.len() + size * statement.columns;
            self.values.reserve(size * statement.columns);
            rest.by_ref().take(size).for_each(|row| row.bind(&mut self.values));
            self.values.resize(end, Value::Null(Kind::Integer));
            self.parts.push(statement.for_sqlite(size));
        }
    }
}

/// Numbers of rows that have a text of their own.
const SIZES: [usize; 11] = [1, 2, 4, 8, 16, 24, 32, 48, 64, 128, MAX_SIZE];
/// 256 rows of 30 columns stay under the values that a statement of SQLite may have (32,766).
const MAX_SIZE: usize = 256;

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

    static STATEMENT: Statement = Statement::new("INSERT INTO t (a, b) VALUES", 2, " ON CONFLICT DO NOTHING");

    struct Pair(i64, Option<String>);

    impl Row for Pair {
        fn bind(self, values: &mut Vec<Value>) {
            values.push(self.0.into());
            values.push(self.1.into());
        }
    }

    fn texts(engine: Engine, rows: usize) -> Texts {
        let mut texts = Texts::new(engine);
        texts.add(&STATEMENT, (0..rows).map(|n| Pair(n as i64, None)).collect());
        texts
    }

    #[test]
    fn any_number_of_rows_is_one_of_a_few_texts() {
        assert_eq!(&*STATEMENT.for_sqlite(1), "INSERT INTO t (a, b) VALUES (?,?) ON CONFLICT DO NOTHING");
        assert_eq!(
            &*STATEMENT.for_sqlite(2),
            "INSERT INTO t (a, b) SELECT * FROM (VALUES (?,?),(?,?)) WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING"
        );
        assert!(Arc::ptr_eq(&STATEMENT.for_sqlite(64), &STATEMENT.for_sqlite(64)));
        for rows in 1..=MAX_SIZE {
            let Texts { parts, values, .. } = texts(Engine::Sqlite, rows);
            assert_eq!(parts.len(), 1, "{rows} rows");
            assert_eq!(values.len(), parts[0].matches('?').count());
            assert!(SIZES.iter().any(|size| values.len() == 2 * size));
        }
        assert_eq!(texts(Engine::Sqlite, MAX_SIZE + 1).parts.len(), 2);
        assert!(texts(Engine::Sqlite, 0).parts.is_empty());
    }

    #[test]
    fn with_postgresql_a_column_is_one_value_whatever_the_number_of_rows() {
        let mut two = texts(Engine::Postgres, 300);
        two.add(&STATEMENT, vec![Pair(1, None)]);
        two.add(&STATEMENT, Vec::<Pair>::new());
        let expected = |a, b| {
            format!(
                "INSERT INTO t (a, b) SELECT * FROM unnest(${a}::bigint[],${b}::text[]) ON CONFLICT DO NOTHING"
            )
        };
        assert_eq!(
            two.parts.iter().map(|part| &**part).collect::<Vec<_>>(),
            [expected(1, 2), expected(3, 4)]
        );
        assert_eq!(two.values.len(), 4);
    }
}
