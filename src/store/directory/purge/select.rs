//! Which messages, held mails and traces a purge is about.

use std::collections::HashMap;

use uuid::Uuid;

use crate::address::{Asked, EmailAddress};
use crate::id::AccountId;
use crate::keys::Keys;
use crate::smtp::ForwardPath;
use crate::store::StoreError;
use crate::store::directory::erase::read_of;
use crate::store::directory::purge::PurgeOf;
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{Builder, Connection, query, query_as, query_scalar};
use crate::store::row_keys::{Index, RowKeys};
use crate::store::views::names_one_of;

impl PurgeOf {
    /// Where to go on behind this message. Where everything that is found is erased, from the start: nothing that
    /// comes meanwhile is missed.
    pub(super) const fn place_after(self, last: Uuid) -> Uuid {
        match self {
            Self::All | Self::Contact(_) | Self::Message(_) => Uuid::nil(),
            Self::Mine(_) | Self::User(_) => last,
        }
    }
}

/// The next messages behind `after`, in the order of their ids, and behind which id the next look goes on; none when
/// there is nothing more to look at.
pub(super) async fn messages(
    connection: &mut Connection,
    account: AccountId,
    of: PurgeOf,
    after: Uuid,
    limit: i64,
) -> Result<(Vec<Uuid>, Option<Uuid>), sqlx::Error> {
    let end = match of {
        PurgeOf::Mine(_) | PurgeOf::User(_) => {
            let text = "SELECT message_id FROM messages WHERE account_id = $1 AND message_id > $2
                        ORDER BY message_id LIMIT 1 OFFSET $3";
            look_ends(connection, account, text, after).await?
        }
        PurgeOf::All | PurgeOf::Contact(_) | PurgeOf::Message(_) => None,
    };
    let mut sql = Builder::new("SELECT m.message_id FROM messages m WHERE m.account_id = ");
    sql.push_bind(account.uuid());
    match of {
        PurgeOf::All => {}
        PurgeOf::Contact(contact) => {
            sql.push(
                " AND m.conversation_id IN (SELECT conversation_id FROM conversations WHERE account_id = ",
            );
            sql.push_bind(account.uuid()).push(" AND contact_id = ").push_bind(contact.uuid()).push(")");
        }
        PurgeOf::Message(message) => {
            sql.push(" AND m.message_id = ").push_bind(message.uuid());
        }
        // What the CRM registered, no address brought in.
        PurgeOf::Mine(user) => {
            sql.push(" AND m.content_key IS NOT NULL AND m.user_id = ").push_bind(user.uuid());
        }
        PurgeOf::User(user) => {
            sql.push(" AND m.user_id = ").push_bind(user.uuid());
        }
    }
    sql.push(" AND m.message_id > ").push_bind(after);
    if let Some(end) = end {
        sql.push(" AND m.message_id <= ").push_bind(end);
    }
    sql.push(" ORDER BY m.message_id LIMIT ").push_bind(limit);
    Ok(looked(ids(sql, connection).await?, limit, end))
}

/// What was found, and behind which the next look goes on.
fn looked(found: Vec<Uuid>, limit: i64, end: Option<Uuid>) -> (Vec<Uuid>, Option<Uuid>) {
    let is_full = found.len() as u64 >= limit.unsigned_abs();
    let next = if is_full { found.last().copied() } else { end };
    (found, next)
}

/// What is a user's is found by no index, which every filing would have to keep: it is looked for among so many rows at
/// a time, so that filing goes on between. Where such a look ends; none where it goes to the end.
async fn look_ends(
    connection: &mut Connection,
    account: AccountId,
    text: &'static str,
    after: Uuid,
) -> Result<Option<Uuid>, sqlx::Error> {
    query_scalar(text).bind(account.uuid()).bind(after).bind(LOOKED_AT - 1).fetch_optional(connection).await
}

/// Rows of one look.
const LOOKED_AT: i64 = 2_000;

/// The next held mails behind `after`.
pub(super) async fn held(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    of: PurgeOf,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    let mut sql = Builder::new("SELECT delivery_id FROM held WHERE account_id = ");
    sql.push_bind(account.uuid());
    match of {
        PurgeOf::All => {}
        PurgeOf::Contact(contact) => {
            return held_of_contact(connection, (account, keys), contact.uuid(), after, limit).await;
        }
        PurgeOf::Message(_) => return Ok(Vec::new()),
        PurgeOf::Mine(user) | PurgeOf::User(user) => {
            sql.push(" AND user_id = ").push_bind(user.uuid());
        }
    }
    sql.push(" AND delivery_id > ").push_bind(after);
    sql.push(" ORDER BY delivery_id LIMIT ").push_bind(limit);
    Ok(ids(sql, connection).await?)
}

/// What waits for this contact; and what waits for nobody in particular, but names them. Compared here: SQLite folds
/// ASCII alone, and what is sealed is to be opened.
async fn held_of_contact(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    contact: Uuid,
    mut after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    let addresses = own_addresses_of_contact(connection, (account, keys), contact).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    loop {
        let rows: Vec<(Uuid, Option<Uuid>, String)> = query_as(
            "SELECT delivery_id, contact_id, headers FROM held
             WHERE account_id = $1 AND delivery_id > $2 AND (contact_id = $3 OR contact_id IS NULL)
             ORDER BY delivery_id LIMIT $4",
        )
        .bind(account.uuid())
        .bind(after)
        .bind(contact)
        .bind(HELD_AT_ONCE)
        .fetch_all(&mut *connection)
        .await?;
        let Some((last, ..)) = rows.last() else { return Ok(found) };
        after = *last;
        for (delivery, waits_for, headers) in rows {
            let headers = keys.show_or_nothing("held.headers", delivery, headers);
            if waits_for.is_some() || names_one_of(&headers, &addresses) {
                found.push(delivery);
            }
            if found.len() >= wanted {
                return Ok(found);
            }
        }
    }
}

/// Held mails that are looked at together.
const HELD_AT_ONCE: i64 = 500;

/// Traces about the contact or user that belong to no held mail: of what was refused or discarded; and of a user, the
/// next behind `after`, also by which way a message has come that stays, because it is somebody else's. And behind which
/// the next look goes on; none where these are all.
pub(super) async fn traces(
    connection: &mut Connection,
    account: AccountId,
    of: PurgeOf,
    hashes: &[Vec<u8>],
    after: Uuid,
    limit: i64,
) -> Result<(Vec<Uuid>, Option<Uuid>), sqlx::Error> {
    let mut end = None;
    let mut sql = Builder::new("SELECT d.delivery_id FROM deliveries d WHERE d.account_id = ");
    sql.push_bind(account.uuid());
    sql.push(
        " AND NOT EXISTS (SELECT 1 FROM held h WHERE h.account_id = d.account_id AND h.delivery_id = d.delivery_id)",
    );
    match of {
        PurgeOf::Contact(contact) => {
            // R61: the trace of a message whose content has ended has its message's id still.
            sql.push(
                " AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.account_id = d.account_id AND m.message_id = d.message_id)
                 AND (d.contact_id = ",
            );
            sql.push_bind(contact.uuid());
            if !hashes.is_empty() {
                sql.push(
                    " OR d.delivery_id IN (SELECT delivery_id FROM delivery_addresses WHERE account_id = ",
                );
                sql.push_bind(account.uuid()).push(" AND address_hash IN (");
                sql.push_list(hashes.iter().map(Vec::as_slice)).push("))");
            }
            sql.push(")");
        }
        PurgeOf::User(user) => {
            let text = "SELECT delivery_id FROM deliveries WHERE account_id = $1 AND delivery_id > $2
                        ORDER BY delivery_id LIMIT 1 OFFSET $3";
            end = look_ends(connection, account, text, after).await?;
            sql.push(" AND d.user_id = ").push_bind(user.uuid());
            sql.push(" AND d.delivery_id > ").push_bind(after);
            if let Some(end) = end {
                sql.push(" AND d.delivery_id <= ").push_bind(end);
            }
            sql.push(" ORDER BY d.delivery_id");
        }
        PurgeOf::All | PurgeOf::Message(_) | PurgeOf::Mine(_) => return Ok((Vec::new(), None)),
    }
    sql.push(" LIMIT ").push_bind(limit);
    Ok(looked(ids(sql, connection).await?, limit, end))
}

/// By which the traces of a contact are found (R5).
pub(super) async fn hashes_of(
    connection: &mut Connection,
    (account, rows): (AccountId, &RowKeys),
    of: PurgeOf,
    keys: &Keys,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let PurgeOf::Contact(contact) = of else { return Ok(Vec::new()) };
    let addresses = own_addresses_of_contact(connection, (account, rows), contact.uuid()).await?;
    Ok(addresses.iter().map(|address| keys.address_hash(address).to_vec()).collect())
}

/// Those of a contact's addresses by which nobody else in the account is found.
async fn own_addresses_of_contact(
    connection: &mut Connection,
    whose: (AccountId, &RowKeys),
    contact: Uuid,
) -> Result<Vec<EmailAddress>, StoreError> {
    let mut own = Vec::new();
    for address in addresses_of_contact(connection, whose, contact).await? {
        if is_nobody_elses(connection, whose, &address.key(), contact).await? {
            own.push(address);
        }
    }
    Ok(own)
}

/// Whether this folded address is not another contact's primary email (R21), nor another user's (R10); who is erased
/// at the same time is nobody else.
pub(super) async fn is_nobody_elses(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    address: &str,
    of: Uuid,
) -> Result<bool, StoreError> {
    let others: i64 = query_scalar(
        "SELECT (SELECT COUNT(*) FROM contacts c WHERE c.account_id = $1 AND c.email_key = $2 AND c.contact_id <> $3
            AND NOT EXISTS (SELECT 1 FROM purges p WHERE p.account_id = c.account_id AND p.kind = 'contact'
            AND p.subject_id = c.contact_id))
         + (SELECT COUNT(*) FROM user_emails u WHERE u.account_id = $1 AND u.email_key = $2 AND u.user_id <> $3
            AND u.verified_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM purges p WHERE p.account_id = u.account_id
            AND p.kind = 'user' AND p.subject_id = u.user_id))",
    )
    .bind(account.uuid())
    .bind(keys.index(Index::Address, address)?)
    .bind(of)
    .fetch_one(connection)
    .await?;
    Ok(others == 0)
}

/// The primary and the other addresses of a contact.
pub(super) async fn addresses_of_contact(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    contact: Uuid,
) -> Result<Vec<EmailAddress>, StoreError> {
    let row: Option<(String, String)> =
        query_as("SELECT email, other_emails FROM contacts WHERE account_id = $1 AND contact_id = $2")
            .bind(account.uuid())
            .bind(contact)
            .fetch_optional(connection)
            .await?;
    let Some((email, others)) = row else { return Ok(Vec::new()) };
    let email = keys.show_or_nothing("contacts.email", contact, email);
    let others = keys.show_or_nothing("contacts.other_emails", contact, others);
    let others: Vec<String> = serde_json::from_str(&others).unwrap_or_default();
    Ok(std::iter::once(&email).chain(&others).filter_map(|text| EmailAddress::parse(text)).collect())
}

/// The addresses on a user's profile.
pub(super) async fn addresses_of_user(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    user: Uuid,
) -> Result<Vec<EmailAddress>, StoreError> {
    let emails: Vec<(String, String)> =
        query_as("SELECT email_key, address FROM user_emails WHERE account_id = $1 AND user_id = $2")
            .bind(account.uuid())
            .bind(user)
            .fetch_all(connection)
            .await?;
    let mut addresses = Vec::with_capacity(emails.len());
    for (key, address) in emails {
        addresses.extend(EmailAddress::parse(&keys.show_or_nothing("user_emails.address", key, address)));
    }
    Ok(addresses)
}

async fn ids(sql: Builder, connection: &mut Connection) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows: Vec<(Uuid,)> = sql.build().fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// One way in which a message came: message, delivery, user, recipient.
type Way = (Uuid, Uuid, Option<Uuid>, Option<String>);

/// Messages of a user that stay.
#[derive(Debug, Default)]
pub(super) struct Spared {
    /// Each with whose it is from now on.
    pub(super) messages: HashMap<Uuid, Uuid>,
    /// The traces of their ways in through a user who is purged.
    pub(super) own_ways: Vec<Uuid>,
}

/// Messages of a user that a colleague's address brought in as well; and where only what the user's own addresses
/// brought in is meant, those that came by a reply address. These stay.
pub(super) async fn brought_by_others(
    connection: &mut Connection,
    (account, keys): (AccountId, &RowKeys),
    of: PurgeOf,
    ids: &[Uuid],
    is_reply: impl Fn(&str) -> bool,
) -> Result<Spared, StoreError> {
    let (user, is_mine) = match of {
        PurgeOf::Mine(user) => (user.uuid(), true),
        PurgeOf::User(user) => (user.uuid(), false),
        PurgeOf::All | PurgeOf::Contact(_) | PurgeOf::Message(_) => return Ok(Spared::default()),
    };
    let text = "SELECT message_id, delivery_id, user_id, rcpt FROM deliveries WHERE account_id = ";
    let mut ways: Vec<Way> = read_of(connection, account, text, "message_id", ids).await?;
    for (_, delivery, _, rcpt) in &mut ways {
        *rcpt = keys.show_some_or_nothing("deliveries.rcpt", *delivery, rcpt.take());
    }
    let mut spared = Spared::default();
    for (message, _, by, rcpt) in &ways {
        match by {
            Some(by) if *by != user => drop(spared.messages.insert(*message, *by)),
            _ if is_mine && rcpt.as_deref().is_some_and(&is_reply) => {
                spared.messages.entry(*message).or_insert(user);
            }
            _ => {}
        }
    }
    if !is_mine {
        let own = ways
            .iter()
            .filter(|(message, _, by, _)| *by == Some(user) && spared.messages.contains_key(message));
        spared.own_ways = own.map(|(_, delivery, ..)| *delivery).collect();
    }
    Ok(spared)
}

impl Change {
    /// Leaves the messages that are to be erased. One that a colleague's address brought in too is theirs now. Returns
    /// how many traces of it have gone.
    pub(super) async fn spare_what_others_brought(
        &mut self,
        account: AccountId,
        of: PurgeOf,
        ids: &mut Vec<Uuid>,
    ) -> Result<u64, DirectoryError> {
        let served = self.store.inner.served.clone();
        let is_reply = |rcpt: &str| {
            let path = EmailAddress::parse(rcpt).map(ForwardPath::Address);
            path.is_some_and(|path| matches!(served.classify(&path), Asked::Reply(_)))
        };
        let keys = self.row_keys(account).await?;
        let spared = brought_by_others(self.on(account).await?, (account, &keys), of, ids, is_reply).await?;
        ids.retain(|id| !spared.messages.contains_key(id));
        for (message, user) in spared.messages {
            query("UPDATE messages SET user_id = $3 WHERE account_id = $1 AND message_id = $2")
                .bind(account.uuid())
                .bind(message)
                .bind(user)
                .execute(self.on(account).await?)
                .await?;
        }
        self.erase_deliveries(account, &spared.own_ways).await
    }
}
