//! A value on its way into a statement, before it is known which engine runs it.
//!
//! Promises that no text with a NUL reaches a row: PostgreSQL refuses one, and both engines are to keep the same.

use std::sync::Arc;

use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use uuid::Uuid;

/// One value.
#[derive(Clone, Debug)]
pub(in crate::store) enum Value {
    Bool(bool),
    Bytes(Vec<u8>),
    /// One kind of value, for many rows: an array of PostgreSQL.
    Column(Vec<Self>),
    Integer(i64),
    /// Nothing, of this kind: PostgreSQL asks for the type of a NULL too.
    Null(Kind),
    Text(String),
    Uuid(Uuid),
}

/// The types that columns have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Bool,
    Bytes,
    Integer,
    Text,
    Uuid,
}

/// A type whose `None` is a NULL.
pub(in crate::store) trait Nullable: Into<Value> {
    const KIND: Kind;
}

impl Value {
    pub(super) fn for_sqlite(values: Vec<Self>) -> Result<SqliteArguments, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(values.len(), 0);
        for value in values {
            let added = match value {
                Self::Bool(value) => arguments.add(value),
                Self::Bytes(value) => arguments.add(value),
                Self::Column(_) => return Err(sqlx::Error::Encode("SQLite has no arrays".into())),
                Self::Integer(value) => arguments.add(value),
                Self::Null(_) => arguments.add(None::<i64>),
                Self::Text(value) => arguments.add(value),
                Self::Uuid(value) => arguments.add(value),
            };
            added.map_err(encode_error)?;
        }
        Ok(arguments)
    }

    pub(super) fn for_postgres(values: Vec<Self>) -> Result<PgArguments, sqlx::Error> {
        let mut arguments = PgArguments::default();
        let octets = values.iter().map(Self::octets).sum();
        arguments.reserve(values.len(), octets);
        for value in values {
            let added = match value {
                Self::Bool(value) => arguments.add(value),
                Self::Bytes(value) => arguments.add(value),
                Self::Column(values) => add_array(&mut arguments, values),
                Self::Integer(value) => arguments.add(value),
                Self::Null(Kind::Bool) => arguments.add(None::<bool>),
                Self::Null(Kind::Bytes) => arguments.add(None::<Vec<u8>>),
                Self::Null(Kind::Integer) => arguments.add(None::<i64>),
                Self::Null(Kind::Text) => arguments.add(None::<String>),
                Self::Null(Kind::Uuid) => arguments.add(None::<Uuid>),
                Self::Text(value) => arguments.add(value),
                Self::Uuid(value) => arguments.add(value),
            };
            added.map_err(encode_error)?;
        }
        Ok(arguments)
    }

    /// Of a column, that of its values.
    pub(in crate::store) fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Bytes(_) => Kind::Bytes,
            Self::Column(values) => values.first().map_or(Kind::Text, Self::kind),
            Self::Integer(_) => Kind::Integer,
            Self::Null(kind) => *kind,
            Self::Text(_) => Kind::Text,
            Self::Uuid(_) => Kind::Uuid,
        }
    }

    /// As PostgreSQL's protocol writes it: a length of four octets and the value.
    fn octets(&self) -> usize {
        4 + match self {
            Self::Bool(_) => 1,
            Self::Bytes(value) => value.len(),
            Self::Column(values) => 20 + values.iter().map(Self::octets).sum::<usize>(),
            Self::Integer(_) => 8,
            Self::Null(_) => 0,
            Self::Text(value) => value.len(),
            Self::Uuid(_) => 16,
        }
    }
}

/// An array of PostgreSQL. What is of another kind than the first stands there as NULL; there is no such column.
fn add_array(arguments: &mut PgArguments, values: Vec<Value>) -> Result<(), BoxDynError> {
    macro_rules! array {
        ($kind:ident, $type:ty) => {{
            let pick = |value| if let Value::$kind(value) = value { Some(value) } else { None };
            arguments.add(values.into_iter().map(pick).collect::<Vec<Option<$type>>>())
        }};
    }
    match values.first().map_or(Kind::Text, Value::kind) {
        Kind::Bool => array!(Bool, bool),
        Kind::Bytes => array!(Bytes, Vec<u8>),
        Kind::Integer => array!(Integer, i64),
        Kind::Text => array!(Text, String),
        Kind::Uuid => array!(Uuid, Uuid),
    }
}

/// The kind's name in PostgreSQL.
pub(in crate::store) const fn postgres_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::Bytes => "bytea",
        Kind::Integer => "bigint",
        Kind::Text => "text",
        Kind::Uuid => "uuid",
    }
}

fn encode_error(error: BoxDynError) -> sqlx::Error {
    sqlx::Error::Encode(error)
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        if memchr::memchr(0, text.as_bytes()).is_some() {
            return Self::Text(text.replace('\0', "\u{fffd}"));
        }
        Self::Text(text)
    }
}

impl<T: Nullable> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null(T::KIND), Into::into)
    }
}

/// `From` and `Nullable` for each type that a statement is given.
macro_rules! values {
    ($($type:ty as $kind:ident: |$value:ident| $into:expr,)+) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $into
            }
        }

        impl Nullable for $type {
            const KIND: Kind = Kind::$kind;
        }
    )+};
}

values! {
    bool as Bool: |value| Self::Bool(value),
    i64 as Integer: |value| Self::Integer(value),
    Uuid as Uuid: |value| Self::Uuid(value),
    &Uuid as Uuid: |value| Self::Uuid(*value),
    &str as Text: |value| Self::from(value.to_owned()),
    &String as Text: |value| Self::from(value.clone()),
    Arc<str> as Text: |value| Self::from(value.to_string()),
    Vec<u8> as Bytes: |value| Self::Bytes(value),
    &[u8] as Bytes: |value| Self::Bytes(value.to_vec()),
    Arc<[u8]> as Bytes: |value| Self::Bytes(value.to_vec()),
}

impl Nullable for String {
    const KIND: Kind = Kind::Text;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_in_a_text_becomes_the_replacement_character() {
        let texts = [
            Value::from("a\0b"),
            Value::from("a\0b".to_owned()),
            Value::from(Some(Arc::<str>::from("a\0b"))),
        ];
        for value in texts {
            assert!(matches!(&value, Value::Text(text) if text == "a\u{fffd}b"), "{value:?}");
        }
        assert!(matches!(Value::from(None::<String>), Value::Null(Kind::Text)));
    }
}
