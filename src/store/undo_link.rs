//! R70a: the links of a digest by which a user takes a filed mail back from the record.
//!
//! Nothing of a link is stored: it names account and message, and proves with a key of ours that it was made for the
//! user whose mail that is. It ends with the 30 days, with the message, and with the user's sync; a mail that a
//! colleague brought in as well is for the API.

use uuid::Uuid;

use crate::id::{AccountId, MessageId, UserId};
use crate::store::directory::undo_ends;
use crate::store::engine::query_as;
use crate::store::views::id_floor;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// A filed mail that can be taken back.
#[derive(Clone, Debug)]
pub struct Undoable {
    /// The account.
    pub account: AccountId,
    /// The mail.
    pub message: MessageId,
    /// Whose mail it is.
    pub user: UserId,
    /// On whose record it is.
    pub contact_name: String,
    /// Whether the user wrote it.
    pub is_outbound: bool,
    /// When it came in.
    pub received_at: Timestamp,
    /// What the link ends with.
    pub token: String,
}

/// Message, user, contact and their name, direction, time of receipt.
type Row = (Uuid, Option<Uuid>, Uuid, String, String, i64);

impl Store {
    /// What was filed for a user since then, newest first: so many at most, and whether there are more. Mail that the
    /// CRM registered is none of it: it did not come in.
    ///
    /// # Errors
    /// If the database fails.
    pub(in crate::store) async fn filed_lately(
        &self,
        account: AccountId,
        user: UserId,
        since: Timestamp,
    ) -> Result<(Vec<Undoable>, bool), StoreError> {
        let rows: Vec<Row> = query_as(
            "SELECT m.message_id, m.user_id, m.contact_id, c.name, m.direction, m.received_at FROM messages m
             JOIN contacts c ON c.account_id = m.account_id AND c.contact_id = m.contact_id
             JOIN users u ON u.account_id = m.account_id AND u.user_id = m.user_id AND u.sync_state = 'on'
             WHERE m.account_id = $1 AND m.message_id >= $2 AND m.received_at > $3 AND m.user_id = $4
             AND m.content_key IS NOT NULL AND m.kind IN ('forwarded', 'mail')
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = m.account_id
             AND d.message_id = m.message_id AND d.user_id <> m.user_id) ORDER BY m.message_id DESC LIMIT $5",
        )
        .bind(account.uuid())
        .bind(id_floor(since.plus_days(-1)))
        .bind(since.as_millis())
        .bind(user.uuid())
        .bind(i64::try_from(LISTED_MAX + 1).unwrap_or(i64::MAX))
        .fetch_all(self.reader())
        .await?;
        let (rows, is_more) = those_listed(rows);
        let mut filed = Vec::with_capacity(rows.len());
        for row in rows {
            match self.undoable_of(account, row).await {
                // Its name does not open: it can be taken back by the API.
                Err(StoreError::Damaged { .. }) => {}
                undoable => filed.extend(undoable?),
            }
        }
        Ok((filed, is_more))
    }

    /// What a link would take back, and the account's name; none if it is forged, used or over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn undoable(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<(Undoable, String)>, StoreError> {
        let Some((account, message, _)) = read_token(token) else { return Ok(None) };
        let account = AccountId::from_uuid(account);
        let row: Option<Row> = query_as(
            "SELECT m.message_id, m.user_id, m.contact_id, c.name, m.direction, m.received_at FROM messages m
             JOIN contacts c ON c.account_id = m.account_id AND c.contact_id = m.contact_id
             JOIN users u ON u.account_id = m.account_id AND u.user_id = m.user_id AND u.sync_state = 'on'
             WHERE m.account_id = $1 AND m.message_id = $2
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.account_id = m.account_id
             AND d.message_id = m.message_id AND d.user_id <> m.user_id)",
        )
        .bind(account.uuid())
        .bind(message)
        .fetch_optional(self.reader())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let Some(found) = self.undoable_of(account, row).await? else { return Ok(None) };
        let is_ours =
            aws_lc_rs::constant_time::verify_slices_are_equal(found.token.as_bytes(), token.as_bytes());
        if is_ours.is_err() || now >= undo_ends(found.received_at) {
            return Ok(None);
        }
        let (account_name, _) = self.names(account, None).await?;
        Ok(Some((found, account_name)))
    }

    /// None for a mail that is no user's.
    async fn undoable_of(
        &self,
        account: AccountId,
        (message, user, contact, name, direction, received_at): Row,
    ) -> Result<Option<Undoable>, StoreError> {
        let Some(user) = user else { return Ok(None) };
        let keys = self.row_keys(account).await?;
        let tag = Uuid::from_bytes(self.inner.keys.undo_tag(account.uuid(), message, user));
        Ok(Some(Undoable {
            account,
            message: MessageId::from_uuid(message),
            user: UserId::from_uuid(user),
            contact_name: keys.show("contacts.name", contact, name)?,
            is_outbound: direction == "outbound",
            received_at: Timestamp::from_millis(received_at),
            token: format!("{}{}{}", account.uuid().simple(), message.simple(), tag.simple()),
        }))
    }
}

/// The first of them, and whether there are more.
fn those_listed<T>(mut rows: Vec<T>) -> (Vec<T>, bool) {
    let is_more = rows.len() > LISTED_MAX;
    rows.truncate(LISTED_MAX);
    (rows, is_more)
}

/// Account, message and tag.
fn read_token(token: &str) -> Option<(Uuid, Uuid, Uuid)> {
    let (account, rest) = token.split_at_checked(32)?;
    let (message, tag) = rest.split_at_checked(32).filter(|(_, tag)| tag.len() == 32)?;
    Some((Uuid::try_parse(account).ok()?, Uuid::try_parse(message).ok()?, Uuid::try_parse(tag).ok()?))
}

/// Mails that a digest lists.
const LISTED_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_lists_so_many_and_says_that_there_are_more() {
        for (found, listed, is_more) in
            [(0, 0, false), (LISTED_MAX, LISTED_MAX, false), (LISTED_MAX + 1, LISTED_MAX, true)]
        {
            let (rows, more) = those_listed(vec![(); found]);
            assert_eq!((rows.len(), more), (listed, is_more), "{found}");
        }
    }

    #[test]
    fn a_link_is_three_ids_and_nothing_else() {
        let id = || Uuid::now_v7().simple().to_string();
        let token = format!("{}{}{}", id(), id(), id());
        assert!(read_token(&token).is_some());
        let short = token.get(..95).unwrap_or_default();
        for bad in ["", "x", short, &format!("{token}0"), &format!("{short}g"), &format!("{short}é")] {
            assert!(read_token(bad).is_none(), "{bad}");
        }
    }
}
