//! The timeline of a contact: what is on its record, and what it was copied on (R25), newest first.

use crate::filing::Role;
use crate::id::{AccountId, ContactId};
use crate::store::engine::Builder;
use crate::store::views::messages::{COLUMNS, Message, Row, side_of_contact};
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};

/// A message on a contact's timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The message.
    pub message: Message,
    /// How this contact stands on it: `from`, `to` or `cc`. Where it is on its record but does not name it (a
    /// bounce, somebody else's answer): the side of the dialogue that is the contact's.
    pub role: String,
}

#[derive(sqlx::FromRow)]
struct EntryRow {
    contact_role: Option<String>,
    #[sqlx(flatten)]
    message: Row,
}

impl Store {
    /// Part of a contact's timeline.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn timeline(
        &self,
        account: AccountId,
        contact: ContactId,
        slice: Slice,
    ) -> Result<Page<Entry>, StoreError> {
        let sql = select(account, contact, slice);
        let rows: Vec<EntryRow> = sql.build().fetch_all(self.reader()).await?;
        let page = slice.page(rows, |row| Key::of_time(row.message.sent_at, row.message.message_id));
        self.entries(account, page).await
    }

    async fn entries(&self, account: AccountId, page: Page<EntryRow>) -> Result<Page<Entry>, StoreError> {
        let (roles, rows): (Vec<String>, Vec<Row>) =
            page.items.into_iter().map(|row| (role_of(&row), row.message)).unzip();
        let messages = self.with_people(account, rows).await?;
        let entries = messages.into_iter().zip(roles);
        Ok(Page { items: entries.map(|(message, role)| Entry { message, role }).collect(), next: page.next })
    }
}

/// Walks an index backwards and stops at the limit. `CROSS JOIN` keeps the join in this order: else SQLite walks all
/// messages of the account.
fn select(account: AccountId, contact: ContactId, slice: Slice) -> Builder {
    let mut sql = Builder::new("SELECT ");
    sql.push(COLUMNS).push(
        ", (SELECT p.role FROM participants p WHERE p.account_id = m.account_id AND p.message_id = m.message_id AND p.contact_id = ",
    );
    sql.push_bind(contact.uuid()).push(" ORDER BY p.position LIMIT 1) AS contact_role");
    sql.push(" FROM ");
    push_record(&mut sql, account, contact, slice.after, slice.fetch_limit());
    sql.push(" AS shown CROSS JOIN messages m WHERE m.account_id = ").push_bind(account.uuid());
    sql.push(" AND m.message_id = shown.message_id ORDER BY m.sent_at DESC, m.message_id DESC");
    sql
}

/// A list of the next messages on a contact's timeline: the owner of a message is among its people, whether a field
/// names them or not.
pub(super) fn push_record(
    sql: &mut Builder,
    account: AccountId,
    contact: ContactId,
    after: Option<Key>,
    limit: i64,
) {
    sql.push("(SELECT DISTINCT message_id, sent_at FROM participants WHERE account_id = ");
    sql.push_bind(account.uuid()).push(" AND contact_id = ").push_bind(contact.uuid());
    push_until(sql, after, "sent_at", "message_id");
    sql.push(" ORDER BY sent_at DESC, message_id DESC LIMIT ").push_bind(limit).push(")");
}

/// Older than the last one seen.
pub(super) fn push_until(sql: &mut Builder, after: Option<Key>, time: &str, id: &str) {
    if let Some(Key { at, id: last, .. }) = after {
        sql.push(format_args!(" AND ({time}, {id}) < (")).push_bind(at);
        sql.push(", ").push_bind(last).push(")");
    }
}

fn role_of(row: &EntryRow) -> String {
    let on_it = row.contact_role.clone().filter(|role| *role != Role::About.as_str());
    on_it.unwrap_or_else(|| side_of_contact(&row.message.direction).to_owned())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::views::tests::{expect_no_walk_through_the_account, plan};

    #[tokio::test]
    async fn a_timeline_is_read_without_walking_through_the_account() {
        let (account, contact) = (AccountId::generate(), ContactId::generate());
        let further = Slice { limit: 50, after: Some(Key::of_time(1, Uuid::now_v7())) };
        for slice in [Slice::first(50), further] {
            let sql = select(account, contact, slice);
            expect_no_walk_through_the_account(&sql).await;
            // Nothing of a long record is sorted but the part that is shown.
            let plan = plan(&sql).await;
            assert!(
                plan.contains("participants_by_contact") && !plan.contains("TEMP B-TREE FOR DISTINCT"),
                "{plan}"
            );
        }
    }
}
