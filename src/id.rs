//! Identifiers: one newtype per thing, all `UUIDv7`, so that they sort by the time they were made.
//!
//! Promises that an id of one thing is never taken for that of another. An id does not name its account:
//! every store call takes the account first (R4).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that was read from the store, a path or a token.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// A fresh `UUIDv7` of this moment. Reads clock and randomness: not for the pure modules.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID itself, for binding to a statement.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

ids! {
    /// One customer of the CRM: a tenant.
    AccountId;
    /// A person of the practice's staff.
    UserId;
    /// A patient or other person on the CRM's records.
    ContactId;
    /// A thread of messages between one contact and the practice.
    ConversationId;
    /// A filed message. Not its RFC 5322 Message-ID, which is called `message_id_header` throughout.
    MessageId;
    /// One recipient of one transaction, and the trace that explains what became of it (R3).
    DeliveryId;
    /// An event that the CRM pulls or is pushed.
    EventId;
    /// An API token.
    TokenId;
    /// An endpoint that events are pushed to.
    WebhookId;
    /// One attempt to give a webhook an event.
    AttemptId;
}

impl EventId {
    /// The place right before this event: no other event of the account lies between them.
    #[must_use]
    pub const fn just_before(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_sub(1)))
    }
}

impl AccountId {
    /// The operator's own account: deliveries that belong to no customer (unknown recipients, postmaster).
    /// It is not reachable through the API.
    pub const OPERATOR: Self = Self(Uuid::nil());
}

impl EventId {
    /// This id, or if it is not greater than `last` the next one after that.
    #[must_use]
    pub fn behind(self, last: Option<Self>) -> Self {
        match last {
            // The low half is random: it has room for any number of events.
            Some(last) if self <= last => Self(Uuid::from_u128(last.0.as_u128().wrapping_add(1))),
            Some(_) | None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_follows_the_last_one_whatever_the_clock_says() {
        let (earlier, later) = (EventId::generate(), EventId::generate());
        assert_eq!(later.behind(Some(earlier)), later);
        assert_eq!(later.behind(None), later);
        for late in [earlier, later] {
            let next = late.behind(Some(later));
            assert!(next > later && next.uuid().get_version_num() == 7, "{next}");
        }
    }
}
