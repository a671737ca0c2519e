//! What a user's profile shows beside name and addresses: which feeds are live (R35), and the forwarding confirmation
//! that waits (R34).
//!
//! A feed is seen through the deliveries to its address: their hashes are kept anyway (R5), their ids are in the order
//! of time, so that the last one is one look-up and filing writes nothing more for it.

use uuid::Uuid;

use crate::address::{EmailAddress, ServedDomains};
use crate::id::{AccountId, UserId};
use crate::keys::Keys;
use crate::store::StoreError;
use crate::store::engine::{Connection, query_as, query_scalar};
use crate::store::row_keys::RowKeys;
use crate::time::Timestamp;

/// When mail was last seen through each feed; none if never, or not since traces are kept (R3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feeds {
    /// Somebody put the sync address on a mail.
    pub sync_address: Option<Timestamp>,
    /// A filter or rule forwards to the auto address.
    pub auto_forward: Option<Timestamp>,
    /// Journal reports (R33).
    pub journal: Option<Timestamp>,
    /// Answers to reply addresses of this user's conversations (R45).
    pub routed_replies: Option<Timestamp>,
}

/// R34: what Gmail asks to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardingConfirmation {
    /// The digits to type in.
    pub code: Option<String>,
    /// The link to open.
    pub link: Option<String>,
    /// When it was asked.
    pub at: Timestamp,
}

/// The changing part of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The feeds.
    pub feeds: Feeds,
    /// The latest, if there was any.
    pub confirmation: Option<ForwardingConfirmation>,
}

/// A feed that has no address of its own, under which its deliveries are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum UnaddressedFeed {
    Journal,
    RoutedReplies,
}

impl UnaddressedFeed {
    /// Nobody can have it: RFC 6761 keeps `invalid` free.
    pub(in crate::store) fn address(self, user: UserId) -> Option<EmailAddress> {
        let local = match self {
            Self::Journal => "journal",
            Self::RoutedReplies => "replies",
        };
        EmailAddress::parse(&format!("{local}.{user}@feeds.invalid"))
    }
}

/// As the connection sees it.
pub(super) async fn read(
    connection: &mut Connection,
    keys: &Keys,
    served: &ServedDomains,
    (account, user, rows): (AccountId, UserId, &RowKeys),
    sync_local: &str,
) -> Result<Profile, StoreError> {
    let domain = served.sync_domain();
    let addresses = [
        EmailAddress::parse(&format!("{sync_local}@{domain}")),
        EmailAddress::parse(&format!("{sync_local}+auto@{domain}")),
        UnaddressedFeed::Journal.address(user),
        UnaddressedFeed::RoutedReplies.address(user),
    ];
    let mut seen = [None; 4];
    for (seen, address) in seen.iter_mut().zip(addresses) {
        let Some(address) = address else { continue };
        *seen = last_seen(connection, keys, account, &address).await?;
    }
    let [sync_address, auto_forward, journal, routed_replies] = seen;
    let asked: Option<(Option<String>, Option<String>, i64)> = query_as(
        "SELECT code, link, at FROM forwarding_confirmations WHERE account_id = $1 AND user_id = $2",
    )
    .bind(account.uuid())
    .bind(user.uuid())
    .fetch_optional(connection)
    .await?;
    let confirmation = asked.map(|(code, link, at)| {
        Ok::<_, StoreError>(ForwardingConfirmation {
            code: rows.show_some("forwarding_confirmations.code", user.uuid(), code)?,
            link: rows.show_some("forwarding_confirmations.link", user.uuid(), link)?,
            at: Timestamp::from_millis(at),
        })
    });
    let confirmation = confirmation.transpose()?;
    Ok(Profile { feeds: Feeds { sync_address, auto_forward, journal, routed_replies }, confirmation })
}

async fn last_seen(
    connection: &mut Connection,
    keys: &Keys,
    account: AccountId,
    address: &EmailAddress,
) -> Result<Option<Timestamp>, StoreError> {
    let last: Option<Uuid> = query_scalar(
        "SELECT delivery_id FROM delivery_addresses WHERE account_id = $1 AND address_hash = $2 AND role = 'to'
         ORDER BY delivery_id DESC LIMIT 1",
    )
    .bind(account.uuid())
    .bind(keys.address_hash(address).to_vec())
    .fetch_optional(connection)
    .await?;
    // The first 48 bits of a UUIDv7 are its milliseconds.
    Ok(last.map(|id| Timestamp::from_millis(i64::try_from(id.as_u128() >> 80).unwrap_or_default())))
}
