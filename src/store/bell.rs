//! Rings when events have been committed, so that whoever sends them on need not ask again and again.
//!
//! Promises nothing about delivery of a ring: a listener that is late hears that everybody may have something, and
//! looks from time to time by itself. Ringing never waits.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::id::AccountId;

/// The bell of one store.
#[derive(Clone, Debug)]
pub(in crate::store) struct Bell {
    rings: broadcast::Sender<Ring>,
}

/// Whose events have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Of these accounts.
    Accounts(Arc<[AccountId]>),
    /// Possibly of any account: another process has written, or rings were missed.
    All,
}

/// A listener.
#[derive(Debug)]
pub struct Rings(broadcast::Receiver<Ring>);

impl Ring {
    /// Whether it may be about this account.
    #[must_use]
    pub fn is_for(&self, account: AccountId) -> bool {
        match self {
            Self::Accounts(accounts) => accounts.contains(&account),
            Self::All => true,
        }
    }
}

impl Bell {
    pub(in crate::store) fn new() -> Self {
        Self { rings: broadcast::Sender::new(MAX_RINGS) }
    }

    /// Events of these accounts are on disk.
    pub(in crate::store) fn ring(&self, accounts: impl IntoIterator<Item = AccountId>) {
        let mut accounts: Vec<AccountId> = accounts.into_iter().collect();
        accounts.sort_unstable();
        accounts.dedup();
        if !accounts.is_empty() {
            // Nobody listens: a command, or a test.
            let _ = self.rings.send(Ring::Accounts(accounts.into()));
        }
    }

    pub(in crate::store) fn ring_all(&self) {
        let _ = self.rings.send(Ring::All);
    }

    pub(in crate::store) fn listen(&self) -> Rings {
        Rings(self.rings.subscribe())
    }
}

impl Rings {
    /// The next ring; none once the store is gone. Safe to cancel.
    pub async fn next(&mut self) -> Option<Ring> {
        match self.0.recv().await {
            Ok(ring) => Some(ring),
            Err(RecvError::Lagged(_)) => Some(Ring::All),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Rings that a listener may be late by before it hears of everybody.
const MAX_RINGS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_is_too_late_hears_of_everybody() {
        let bell = Bell::new();
        let mut rings = bell.listen();
        let account = AccountId::generate();
        bell.ring([account, account]);
        assert_eq!(rings.next().await, Some(Ring::Accounts([account].into())));
        for _ in 0..=MAX_RINGS {
            bell.ring([account]);
        }
        assert_eq!(rings.next().await, Some(Ring::All));
    }
}
