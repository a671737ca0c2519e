//! The lines of an export, opened as they are read and sealed as they are written, where rows are sealed: what leaves
//! one store is clear, and what comes to another is as that one has it (`store.seal_rows`, keys of its own).
//!
//! Promises that every column which is sealed is dealt with ([`TABLES`] names them), or the line is refused. Messages
//! and held mail are written as a filing writes them (`row_seal`).

use uuid::Uuid;

use crate::id::AccountId;
use crate::store::StoreError;
use crate::store::directory::fold;
use crate::store::lines::{Hex, Json, Line, Participant};
use crate::store::reseal::tables::{Bound, Said, TABLES, Table, Whose};
use crate::store::row_keyring::RowKeySet;
use crate::store::row_keys::{RowKeys, position_of};

/// What a field of a line holds that is sealed, or that others are bound to.
#[derive(Debug)]
pub(in crate::store) enum Cell<'a> {
    Id(Uuid),
    Json(&'a mut Json),
    Octets(&'a mut Vec<u8>),
    Text(&'a mut String),
}

/// What the field of a line may be.
pub(in crate::store) trait Field {
    /// None where nothing stands, and for what is never sealed.
    fn cell(&mut self) -> Option<Cell<'_>> {
        None
    }
}

impl Field for bool {}

impl Field for i64 {}

impl Field for Hex {
    fn cell(&mut self) -> Option<Cell<'_>> {
        Some(Cell::Octets(&mut self.0))
    }
}

impl Field for Json {
    fn cell(&mut self) -> Option<Cell<'_>> {
        Some(Cell::Json(self))
    }
}

impl Field for String {
    fn cell(&mut self) -> Option<Cell<'_>> {
        Some(Cell::Text(self))
    }
}

impl Field for Uuid {
    fn cell(&mut self) -> Option<Cell<'_>> {
        Some(Cell::Id(*self))
    }
}

impl<F: Field> Field for Option<F> {
    fn cell(&mut self) -> Option<Cell<'_>> {
        self.as_mut().and_then(Field::cell)
    }
}

/// The keys of a kind of lines; clear where nothing of it is sealed.
pub(in crate::store) fn keys_of<L: Line>(set: &RowKeySet, account: AccountId) -> Result<RowKeys, StoreError> {
    match table_of::<L>().map(|table| table.whose) {
        None => Ok(RowKeys::CLEAR),
        Some(Whose::Account) => set.of(account),
        Some(Whose::Operator) => set.of(AccountId::OPERATOR),
    }
}

/// Shows a line as it was before it was sealed. Where others refer to it, what does not open of it is empty, and the
/// error is returned beside it: without the line the others could not be imported.
///
/// # Errors
/// [`StoreError::Damaged`] if this one does not open, and nothing needs it.
pub(in crate::store) fn open<L: Line>(
    line: &mut L,
    keys: &RowKeys,
) -> Result<Option<StoreError>, StoreError> {
    if keys.are_clear() {
        return Ok(None);
    }
    if !PARENTS.contains(&L::TABLE) {
        return try_open(line, keys, Damaged::Refused).map(|()| None);
    }
    let stored = line.clone();
    match try_open(line, keys, Damaged::Refused) {
        Err(error @ StoreError::Damaged { .. }) => {
            *line = stored;
            try_open(line, keys, Damaged::Empty).map(|()| Some(error))
        }
        opened => opened.map(|()| None),
    }
}

/// What becomes of a value that does not open.
#[derive(Clone, Copy, Debug)]
enum Damaged {
    Empty,
    Refused,
}

impl Damaged {
    fn or_empty<T: Default>(self, shown: Result<T, StoreError>) -> Result<T, StoreError> {
        match (self, shown) {
            (Self::Empty, Err(StoreError::Damaged { .. })) => Ok(T::default()),
            (_, shown) => shown,
        }
    }
}

fn try_open<L: Line>(line: &mut L, keys: &RowKeys, damaged: Damaged) -> Result<(), StoreError> {
    let Some(table) = table_of::<L>() else { return Ok(()) };
    let mut cells = line.cells();
    let bound = bound(table, &cells)?;
    for (column, said) in table.columns {
        match (said, cell(&mut cells, column)?) {
            (_, None) | (Said::NameKey, _) => {}
            (Said::Hidden, Some(Cell::Text(text))) => {
                let shown = keys.show(&qualified(table, column), &bound, std::mem::take(*text));
                **text = damaged.or_empty(shown)?;
            }
            (Said::Hidden, Some(Cell::Json(json))) => {
                if let Json::Sealed(sealed) = &mut **json {
                    let name = qualified(table, column);
                    let shown = damaged.or_empty(keys.show(&name, &bound, std::mem::take(sealed)))?;
                    // A list, where it may be empty.
                    let shown = if shown.is_empty() { "[]" } else { &shown };
                    **json = Json::Clear(serde_json::from_str(shown).map_err(|_| no_json(name))?);
                }
            }
            (Said::Key(index) | Said::Looked(index), Some(Cell::Text(text))) => {
                **text = damaged.or_empty(keys.show_index(*index, std::mem::take(*text)))?;
            }
            (Said::Octets(index), Some(Cell::Octets(octets))) => {
                **octets = keys.show_octets(*index, std::mem::take(*octets))?;
            }
            (_, Some(_)) => return Err(UNKNOWN),
        }
    }
    name_key(table, &mut cells, fold)
}

/// Makes a line what the store is to hold.
///
/// # Errors
/// If it cannot be sealed.
pub(in crate::store) fn seal<L: Line>(line: &mut L, keys: &RowKeys) -> Result<(), StoreError> {
    let Some(table) = table_of::<L>().filter(|_| !keys.are_clear()) else { return Ok(()) };
    let mut cells = line.cells();
    for (column, said) in table.columns {
        match (said, cell(&mut cells, column)?) {
            (_, None) | (Said::Hidden | Said::NameKey, _) => {}
            (Said::Key(index) | Said::Looked(index), Some(Cell::Text(text))) => {
                **text = keys.index(*index, std::mem::take(*text))?;
            }
            (Said::Octets(index), Some(Cell::Octets(octets))) => {
                **octets = keys.index_octets(*index, octets)?;
            }
            (_, Some(_)) => return Err(UNKNOWN),
        }
    }
    // What is looked up comes first: others may be bound to it as it is stored.
    let bound = bound(table, &cells)?;
    for (column, said) in table.columns {
        if *said != Said::Hidden {
            continue;
        }
        match cell(&mut cells, column)? {
            None => {}
            Some(Cell::Text(text)) => {
                **text = keys.hide(&qualified(table, column), &bound, std::mem::take(*text))?;
            }
            Some(Cell::Json(json)) => {
                let text = std::mem::replace(*json, Json::Sealed(String::new())).into_text();
                **json = Json::Sealed(keys.hide(&qualified(table, column), &bound, text)?);
            }
            Some(_) => return Err(UNKNOWN),
        }
    }
    name_key(table, &mut cells, |_| String::new())
}

/// The same as [`open`] for somebody on a message.
pub(in crate::store) fn open_participant(
    person: &mut Participant,
    message: Uuid,
    keys: &RowKeys,
) -> Result<(), StoreError> {
    let row = position_of(message, person.position);
    person.name = keys.show_some("participants.name", row, person.name.take())?;
    person.email = keys.show("participants.email", row, std::mem::take(&mut person.email))?;
    Ok(())
}

fn table_of<L: Line>() -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == L::TABLE)
}

type Cells<'a> = [(&'static str, Option<Cell<'a>>)];

fn cell<'c, 'a>(cells: &'c mut Cells<'a>, column: &str) -> Result<Option<&'c mut Cell<'a>>, StoreError> {
    let found = cells.iter_mut().find(|(name, _)| *name == column);
    found.map(|(_, cell)| cell.as_mut()).ok_or(UNKNOWN)
}

/// What sealed values of the row are bound to, as it stands.
fn bound(table: &Table, cells: &Cells<'_>) -> Result<Vec<u8>, StoreError> {
    let column = match table.bound {
        Bound::Id => table.page,
        Bound::Key(key) => key,
        // Only people on messages, which are no lines of their own.
        Bound::Position => return Err(UNKNOWN),
    };
    let found = cells.iter().find(|(name, _)| *name == column);
    match found.and_then(|(_, cell)| cell.as_ref()) {
        Some(Cell::Id(id)) => Ok(id.into_bytes().to_vec()),
        Some(Cell::Text(text)) => Ok(text.as_bytes().to_vec()),
        Some(Cell::Json(_) | Cell::Octets(_)) | None => Err(UNKNOWN),
    }
}

/// The folded name is empty where names are sealed.
fn name_key(table: &Table, cells: &mut Cells<'_>, of: impl Fn(&str) -> String) -> Result<(), StoreError> {
    for (column, _) in table.columns.iter().filter(|(_, said)| *said == Said::NameKey) {
        let name = match cell(cells, "name")? {
            Some(Cell::Text(name)) => of(name),
            _ => return Err(UNKNOWN),
        };
        if let Some(Cell::Text(key)) = cell(cells, column)? {
            **key = name;
        }
    }
    Ok(())
}

/// `table.column`, to which a value is bound.
fn qualified(table: &Table, column: &str) -> String {
    format!("{}.{column}", table.name)
}

fn no_json(name: String) -> StoreError {
    StoreError::Damaged { name, detail: "it is no JSON".to_owned() }
}

/// Rows of these are named by others.
const PARENTS: [&str; 3] = ["contacts", "conversations", "users"];
const UNKNOWN: StoreError = StoreError::Defect("a sealed column is none of its line");
