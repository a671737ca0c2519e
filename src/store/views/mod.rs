//! What readers are shown: timelines, conversations, messages, deliveries, the review queue, events.
//!
//! Lists are read by keyset, never by offset, so that a page costs the same wherever it stands and nothing is
//! shown twice while mail arrives. Every call takes the account first (R4).

mod attempts;
mod audit;
mod deliveries;
mod events;
mod held;
mod messages;
mod search;
mod timeline;

use std::fmt;
use std::str::FromStr;

use tracing::warn;
use uuid::Uuid;

use crate::store::StoreError;

pub use attempts::{Attempt, AttemptFilter, DeadLetter};
pub use audit::AuditFilter;
pub(in crate::store) use deliveries::id_floor;
pub use deliveries::{Delivery, DeliveryFilter};
pub use events::Event;
pub(in crate::store) use held::names_one_of;
pub use held::{HeldFilter, HeldMail};
pub(in crate::store) use messages::read_message;
pub use messages::{Conversation, Message, Person};
pub use search::{Hit, SearchFilter};
pub use timeline::Entry;

/// A place in a list: the sort key of the last item seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Unix milliseconds; zero where the list is ordered by id alone.
    pub at: i64,
    /// The item.
    pub id: Uuid,
    /// The second half of an item that two ids name; nil otherwise.
    pub second: Uuid,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// At most so many items.
    pub limit: u32,
    /// Behind this one; none from the start.
    pub after: Option<Key>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Where the next part begins; none at the end.
    pub next: Option<Key>,
}

impl Key {
    /// A place in a list ordered by id.
    #[must_use]
    pub const fn of_id(id: Uuid) -> Self {
        Self { at: 0, id, second: Uuid::nil() }
    }

    /// A place in a list ordered by time, then id.
    #[must_use]
    pub const fn of_time(at: i64, id: Uuid) -> Self {
        Self { at, id, second: Uuid::nil() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.at, self.id.simple())?;
        if self.second.is_nil() { Ok(()) } else { write!(f, "{}", self.second.simple()) }
    }
}

/// The text is no cursor that we gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct BadCursor;

impl FromStr for Key {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let is_ours = text.bytes().all(|b| b.is_ascii_hexdigit()) && matches!(text.len(), 48 | 80);
        let (at, ids) = text.split_at_checked(16).filter(|_| is_ours).ok_or(BadCursor)?;
        let (id, second) = ids.split_at_checked(32).ok_or(BadCursor)?;
        Ok(Self {
            at: u64::from_str_radix(at, 16).map_err(|_| BadCursor)?.cast_signed(),
            id: Uuid::try_parse(id).map_err(|_| BadCursor)?,
            second: if second.is_empty() {
                Uuid::nil()
            } else {
                Uuid::try_parse(second).map_err(|_| BadCursor)?
            },
        })
    }
}

impl Slice {
    /// From the start.
    #[must_use]
    pub const fn first(limit: u32) -> Self {
        Self { limit, after: None }
    }

    /// One more than wanted, which tells whether there is a next part.
    pub(super) fn fetch_limit(self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Cuts what was fetched with [`Self::fetch_limit`].
    pub(super) fn page<T>(self, mut items: Vec<T>, key: impl FnOnce(&T) -> Key) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_more).map(key);
        Page { items, next }
    }
}

impl<R> Page<R> {
    /// Each item as it is shown; one that does not open is left out ([`if_it_opens`]).
    pub(in crate::store) fn that_opens<T>(
        self,
        list: &'static str,
        id: impl Fn(&R) -> Uuid,
        mut show: impl FnMut(R) -> Result<T, StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let shown = self.items.into_iter().map(|row| if_it_opens(list, id(&row), show(row)));
        let items = shown.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(Page { items, next: self.next })
    }
}

/// None of a row that does not open: it is named in the log, and holds up none behind it.
pub(in crate::store) fn if_it_opens<T>(
    list: &'static str,
    id: Uuid,
    shown: Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    match shown {
        Err(error @ StoreError::Damaged { .. }) => {
            warn!(list, row.id = %id, error = error.one_line(), "rows.left_out");
            Ok(None)
        }
        shown => shown.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

    use super::*;
    use crate::store::engine::migrations::migrator;
    use crate::store::engine::{Builder, Engine};

    /// How SQLite goes about it, line by line.
    pub(super) async fn plan(sql: &Builder) -> String {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        migrator(Engine::Sqlite).run(&mut connection).await.unwrap();
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.text())))
                .fetch_all(&mut connection)
                .await
                .unwrap();
        plan.into_iter().map(|(.., detail)| detail).collect::<Vec<_>>().join("\n")
    }

    /// Every table is entered by more than the account, of which a large store may have one alone.
    pub(super) async fn expect_no_walk_through_the_account(sql: &Builder) {
        let plan = plan(sql).await;
        let lines: Vec<&str> = plan.lines().collect();
        assert!(!lines.iter().any(|line| line.ends_with("(account_id=?)")), "{lines:#?}");
        // What is scanned are the lists that the statement makes, and the index that it asks.
        let ours = ["SCAN shown", "SCAN r", "SCAN t VIRTUAL"];
        let is_table =
            |line: &&str| line.starts_with("SCAN") && !ours.iter().any(|list| line.starts_with(list));
        assert!(!lines.iter().any(is_table), "{lines:#?}");
    }

    #[test]
    fn a_cursor_is_read_back_and_anything_else_is_refused() {
        let id = Uuid::now_v7();
        for key in [
            Key::of_id(id),
            Key::of_time(1_795_315_445_120, id),
            Key::of_time(-5, id),
            Key { at: 3, id, second: Uuid::now_v7() },
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for bad in ["", "x", "0", &"0".repeat(47), &"0".repeat(49), &"é".repeat(24), &"+".repeat(48)] {
            assert_eq!(bad.parse::<Key>(), Err(BadCursor), "{bad}");
        }
    }

    #[test]
    fn a_page_has_a_next_only_where_more_was_fetched() {
        let ids: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
        let page = Slice::first(2).page(ids.clone(), |id| Key::of_id(*id));
        assert_eq!((page.items.len(), page.next), (2, Some(Key::of_id(ids[1]))));
        assert_eq!(Slice::first(3).page(ids, |id| Key::of_id(*id)).next, None);
    }
}
