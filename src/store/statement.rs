//! Statements with a list of rows in them, and many of those at once: a way to the engine and back costs as much as
//! many rows (the number of ways decides the speed, not fsync).
//!
//! Promises that the number of texts is small, so that all of them stay prepared: with PostgreSQL a column is one
//! array, whatever the number of rows; with SQLite rows of NULL, which find and write nothing, fill a statement up to
//! the next of [`SIZES`].

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
        let engine = self.0.engine;
        for mut parts in self.0.together() {
            let values = values_of(&mut parts);
            let text = match (engine, parts.split_last()) {
                (_, None) => continue,
                (_, Some((only, []))) => only.text.to_string(),
                (Engine::Postgres, Some((last, before))) => {
                    let named = before.iter().enumerate().map(|(n, part)| format!("w{n} AS ({})", part.text));
                    format!("WITH {} {}", named.collect::<Vec<_>>().join(", "), last.text)
                }
                (Engine::Sqlite, Some(_)) => one_after_another(&parts),
            };
            query_with::<()>(AssertSqlSafe(text).into_sql_str(), values).execute(&mut *connection).await?;
        }
        Ok(())
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
        self.texts.parts.extend(text.map(|text| Part { text: text.into(), values: Vec::new() }));
        self.parts.push(text.iter().len());
        Asked(self.parts.len() - 1, PhantomData)
    }

    pub(in crate::store) async fn run(self, connection: &mut Connection) -> Result<Answers, sqlx::Error> {
        let engine = self.texts.engine;
        let mut found = Vec::new();
        for mut parts in self.texts.together() {
            let values = values_of(&mut parts);
            let text = match engine {
                Engine::Postgres => {
                    let record = |(n, part): (usize, &Part)| {
                        format!("SELECT {n}::bigint, ROW(p.*) FROM ({}) AS p", part.text)
                    };
                    parts.iter().enumerate().map(record).collect::<Vec<_>>().join(" UNION ALL ")
                }
                Engine::Sqlite => one_after_another(&parts),
            };
            let text = AssertSqlSafe(text).into_sql_str();
            found.extend(connection.fetch_parts(text, values, parts.len()).await?);
        }
        let mut found = found.into_iter();
        Ok(Answers(self.parts.iter().map(|parts| found.by_ref().take(*parts).flatten().collect()).collect()))
    }
}

impl Answers {
    /// The rows of this one; of a second time there are none.
    pub(in crate::store) fn take<T: Recorded>(
        &mut self,
        Asked(place, _): Asked<T>,
    ) -> Result<Vec<T>, sqlx::Error> {
        let found = self.0.get_mut(place).map(std::mem::take).unwrap_or_default();
        found.into_iter().map(|row| row.read()).collect()
    }
}

/// Statements of a row list each.
#[derive(Debug)]
struct Texts {
    engine: Engine,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    text: Arc<str>,
    values: Vec<Value>,
}

impl Texts {
    const fn new(engine: Engine) -> Self {
        Self { engine, parts: Vec::new() }
    }

    fn add<R: Row>(&mut self, statement: &'static Statement, rows: Vec<R>) {
        match self.engine {
            Engine::Postgres => self.add_arrays(statement, rows),
            Engine::Sqlite => self.add_lists(statement, rows),
        }
    }

    fn add_arrays<R: Row>(&mut self, statement: &'static Statement, rows: Vec<R>) {
        if rows.is_empty() {
            return;
        }
        let mut columns: Vec<Vec<Value>> = Vec::new();
        columns.resize_with(statement.columns, || Vec::with_capacity(rows.len()));
        let mut values = Vec::with_capacity(statement.columns);
        for row in rows {
            row.bind(&mut values);
            columns.iter_mut().zip(values.drain(..)).for_each(|(column, value)| column.push(value));
        }
        let values: Vec<Value> = columns.into_iter().map(Value::Column).collect();
        let before = self.parts.iter().map(|part| part.values.len()).sum();
        let text = statement.write_for_postgres(values.iter().map(Value::kind), before).into();
        self.parts.push(Part { text, values });
    }

    fn add_lists<R: Row>(&mut self, statement: &'static Statement, rows: Vec<R>) {
        let mut rest = rows.into_iter();
        while rest.len() > 0 {
            let size = SIZES.iter().copied().find(|size| *size >= rest.len()).unwrap_or(MAX_SIZE);
            let mut values = Vec::with_capacity(size * statement.columns);
            rest.by_ref().take(size).for_each(|row| row.bind(&mut values));
            values.resize(size * statement.columns, Value::Null(Kind::Integer));
            self.parts.push(Part { text: statement.for_sqlite(size), values });
        }
    }

    /// What goes in one way. With SQLite long texts go alone: few are alike, and what is prepared takes memory.
    fn together(self) -> Vec<Vec<Part>> {
        if self.engine == Engine::Postgres {
            return if self.parts.is_empty() { Vec::new() } else { vec![self.parts] };
        }
        let mut groups: Vec<Vec<Part>> = Vec::new();
        let mut values = 0;
        for part in self.parts {
            values += part.values.len();
            match groups.last_mut().filter(|_| values <= MAX_TOGETHER) {
                Some(group) => group.push(part),
                None => {
                    values = part.values.len();
                    groups.push(vec![part]);
                }
            }
        }
        groups
    }
}

fn values_of(parts: &mut [Part]) -> Vec<Value> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.values.len()).sum());
    parts.iter_mut().for_each(|part| all.append(&mut part.values));
    all
}

fn one_after_another(parts: &[Part]) -> String {
    parts.iter().map(|part| &*part.text).collect::<Vec<_>>().join(";")
}

/// Numbers of rows that have a text of their own.
const SIZES: [usize; 11] = [1, 2, 4, 8, 16, 24, 32, 48, 64, 128, MAX_SIZE];
/// 256 rows of 30 columns stay under the values that a statement of SQLite may have (32,766).
const MAX_SIZE: usize = 256;
/// Values of statements that SQLite is given as one text: those of some ten mails.
const MAX_TOGETHER: usize = 2048;

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
        texts.add(&STATEMENT, (0..rows).map(|_| Pair(1, None)).collect());
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
            let parts = texts(Engine::Sqlite, rows).parts;
            assert_eq!(parts.len(), 1, "{rows} rows");
            assert_eq!(parts[0].values.len(), parts[0].text.matches('?').count());
            assert!(SIZES.iter().any(|size| parts[0].values.len() == 2 * size));
        }
        assert_eq!(texts(Engine::Sqlite, MAX_SIZE + 1).parts.len(), 2);
        assert!(texts(Engine::Sqlite, 0).parts.is_empty());
    }

    #[test]
    fn statements_go_together_up_to_a_number_of_values() {
        let mut texts = Texts::new(Engine::Sqlite);
        for rows in [256, 256, 256, 256, 1, 256] {
            texts.add(&STATEMENT, (0..rows).map(|n| Pair(n, None)).collect());
        }
        let groups: Vec<usize> = texts.together().iter().map(Vec::len).collect();
        assert_eq!(groups, [4, 2]);
        assert!(Texts::new(Engine::Sqlite).together().is_empty());
        assert!(Texts::new(Engine::Postgres).together().is_empty());
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
            two.parts.iter().map(|part| &*part.text).collect::<Vec<_>>(),
            [expected(1, 2), expected(3, 4)]
        );
        assert_eq!(two.parts.iter().map(|part| part.values.len()).collect::<Vec<_>>(), [2, 2]);
    }
}
