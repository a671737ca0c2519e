//! From what a recipient path asks for to a mailbox: one indexed read, or a remembered answer for sync addresses.
//!
//! Only addresses that are in use are remembered, for 30 seconds, and forgotten at once when the directory changes.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::address::token::{ReplyToken, TokenText};
use crate::address::{Asked, Mailbox, ReplyMailbox, UserMailbox, sync};
use crate::id::{AccountId, ConversationId, UserId};
use crate::store::cache::Cache;
use crate::store::engine::query_as;
use crate::store::row_keys::Index;
use crate::store::{Store, StoreError};

/// What a recipient path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A mailbox.
    Found(Mailbox),
    /// It was one, of this account: rotated away, disconnected or revoked (R62): `550 5.2.1`.
    Off(AccountId),
    /// Nothing of ours: `550 5.1.1`.
    Unknown,
}

/// Sync addresses that were found in use.
#[derive(Debug)]
pub(in crate::store) struct Addresses {
    known: Cache<String, (UserMailbox, Instant)>,
    /// Accounts that are here as a whole, and will be.
    whole: Cache<AccountId, ()>,
}

impl Addresses {
    pub(in crate::store) fn new() -> Self {
        Self { known: Cache::new(MAX_ADDRESSES), whole: Cache::new(MAX_ADDRESSES) }
    }

    pub(in crate::store) fn forget(&self) {
        self.known.forget();
    }

    fn find(&self, local_part: &String, now: Instant) -> Option<UserMailbox> {
        let (mailbox, since) = self.known.find(local_part)?;
        (now.saturating_duration_since(since) < REMEMBERED).then_some(mailbox)
    }
}

enum SyncAddress {
    Active(UserMailbox),
    Off(AccountId),
    Unknown,
}

impl Store {
    /// The mailbox that was asked for. A user who has disconnected, a rotated address and a revoked conversation
    /// are [`Lookup::Off`].
    ///
    /// # Errors
    /// If the database fails or does not answer within 5 seconds.
    pub async fn mailbox(&self, asked: &Asked) -> Result<Lookup, StoreError> {
        tokio::time::timeout(LOOKUP_LIMIT, self.look_up(asked)).await.map_err(|_| StoreError::TimedOut)?
    }

    async fn look_up(&self, asked: &Asked) -> Result<Lookup, StoreError> {
        match asked {
            Asked::Auto(local_part) => self.sync_address(local_part, Mailbox::Auto).await,
            Asked::Foreign => Ok(Lookup::Unknown),
            Asked::Postmaster => Ok(Lookup::Found(Mailbox::Postmaster)),
            Asked::Reply(token) => self.reply_address(token).await,
            Asked::Sync(local_part) => self.sync_address(local_part, Mailbox::Sync).await,
            Asked::Unknown => self.unknown().await,
        }
    }

    /// What could not be ours costs the same read, so that its answer takes the same time.
    async fn unknown(&self) -> Result<Lookup, StoreError> {
        self.read_sync_address("").await.map(|_| Lookup::Unknown)
    }

    async fn sync_address(
        &self,
        local_part: &String,
        kind: fn(UserMailbox) -> Mailbox,
    ) -> Result<Lookup, StoreError> {
        let addresses = &self.inner.addresses;
        if let Some(mailbox) = addresses.find(local_part, Instant::now()) {
            return Ok(Lookup::Found(kind(mailbox)));
        }
        let epoch = addresses.known.epoch();
        Ok(match self.read_sync_address(local_part).await? {
            SyncAddress::Active(mailbox) => {
                addresses.known.put(epoch, local_part.clone(), (mailbox, Instant::now()));
                Lookup::Found(kind(mailbox))
            }
            SyncAddress::Off(account) => Lookup::Off(account),
            SyncAddress::Unknown => Lookup::Unknown,
        })
    }

    async fn read_sync_address(&self, local_part: &str) -> Result<SyncAddress, StoreError> {
        let [key, erased] = self.sync_address_keys(local_part)?;
        let found: Option<(Uuid, Uuid, String, String)> =
            query_as(SYNC_ADDRESS).bind(key).bind(erased).fetch_optional(self.reader()).await?;
        Ok(match found {
            None => SyncAddress::Unknown,
            Some((account, user, address_state, sync_state)) => {
                let (account, user) = (AccountId::from_uuid(account), UserId::from_uuid(user));
                if address_state == "active" && sync_state == "on" {
                    SyncAddress::Active(UserMailbox { account, user })
                } else {
                    SyncAddress::Off(account)
                }
            }
        })
    }

    /// By which a sync address is found: as it is, and as what stays of it once its user is erased.
    pub(in crate::store) fn sync_address_keys(&self, local_part: &str) -> Result<[String; 2], StoreError> {
        let keys = self.operator_row_keys();
        let erased = sync::erased(&self.inner.keys.sync_address_hash(local_part));
        Ok([keys.index(Index::SyncAddress, local_part)?, keys.index(Index::SyncAddress, erased)?])
    }

    /// R41, R45: the conversation that the token names, or the one it was merged into.
    async fn reply_address(&self, token: &TokenText) -> Result<Lookup, StoreError> {
        let Some(token) = ReplyToken::verify(token, &self.inner.keys.reply_tokens()) else {
            return self.unknown().await;
        };
        let chain: Vec<(Uuid, Uuid, Option<Uuid>, Option<i64>)> =
            query_as(REPLY_CONVERSATION).bind(token.conversation.uuid()).fetch_all(self.reader()).await?;
        Ok(match chain.last() {
            None => Lookup::Unknown,
            Some((account, ..)) if chain.iter().any(|(.., revoked_at)| revoked_at.is_some()) => {
                Lookup::Off(AccountId::from_uuid(*account))
            }
            Some((account, conversation, None, _)) => {
                let account = AccountId::from_uuid(*account);
                self.require_whole(account).await?;
                let conversation = ConversationId::from_uuid(*conversation);
                Lookup::Found(Mailbox::Reply(ReplyMailbox { account, conversation }))
            }
            // Merged into one that is no longer there.
            Some((_, _, Some(_), _)) => Lookup::Unknown,
        })
    }
}

impl Store {
    /// Mail is taken once all of an import is there: until then the sender is to try again.
    async fn require_whole(&self, account: AccountId) -> Result<(), StoreError> {
        let whole = &self.inner.addresses.whole;
        if whole.find(&account).is_some() {
            return Ok(());
        }
        let epoch = whole.epoch();
        if self.is_importing(account).await? {
            return Err(StoreError::Importing);
        }
        whole.put(epoch, account, ());
        Ok(())
    }
}

/// `active` sorts before `retired`.
pub(in crate::store) const SYNC_ADDRESS: &str = "SELECT a.account_id, a.user_id, a.state, u.sync_state FROM sync_addresses a \
     JOIN users u ON u.account_id = a.account_id AND u.user_id = a.user_id \
     WHERE a.local_part IN ($1, $2) ORDER BY a.state LIMIT 1";

pub(in crate::store) const REPLY_CONVERSATION: &str = "WITH RECURSIVE chain (account_id, conversation_id, merged_into, reply_revoked_at, hops) AS ( \
     SELECT account_id, conversation_id, merged_into, reply_revoked_at, 0 FROM conversations \
     WHERE conversation_id = $1 UNION ALL \
     SELECT c.account_id, c.conversation_id, c.merged_into, c.reply_revoked_at, chain.hops + 1 \
     FROM chain CROSS JOIN conversations c \
     WHERE c.account_id = chain.account_id AND c.conversation_id = chain.merged_into AND chain.hops < 32) \
     SELECT account_id, conversation_id, merged_into, reply_revoked_at FROM chain ORDER BY hops";

/// RCPT is answered within 5 seconds.
const LOOKUP_LIMIT: Duration = Duration::from_millis(4500);
/// Announcements of changes may be lost; this is the net.
pub(in crate::store) const REMEMBERED: Duration = Duration::from_secs(30);
const MAX_ADDRESSES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_remembered_for_30_seconds_and_no_longer() {
        let addresses = Addresses::new();
        let mailbox = UserMailbox { account: AccountId::generate(), user: UserId::generate() };
        let (name, now) = ("ana-0123456789ab".to_owned(), Instant::now());
        addresses.known.put(addresses.known.epoch(), name.clone(), (mailbox, now));
        assert_eq!(addresses.find(&name, now + REMEMBERED - Duration::from_millis(1)), Some(mailbox));
        assert_eq!(addresses.find(&name, now + REMEMBERED), None);
    }
}
