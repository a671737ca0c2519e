//! The addresses on a user's profile (R10). An address belongs to at most one user of an account.

use crate::id::{AccountId, UserId};
use crate::store::StoreError;
use crate::store::directory::{Change, DirectoryError, User, checked_email};
use crate::store::engine::{query, query_scalar};
use crate::store::row_keys::{Index, RowKeys};
use crate::time::Timestamp;

/// An address on a user's profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEmail {
    /// As given.
    pub address: String,
    /// When it was proven to be theirs; only then it is an identity.
    pub verified_at: Option<Timestamp>,
}

/// Whether an address given counts as proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The administrator vouches for it.
    Trusted,
    /// It waits for proof (R12).
    Wanted,
}

/// A row of [`SELECT_OF_USER`].
pub(super) type Row = (String, String, Option<i64>);

impl UserEmail {
    pub(super) fn read((key, address, verified_at): Row, keys: &RowKeys) -> Result<Self, StoreError> {
        let address = keys.show("user_emails.address", key, address)?;
        Ok(Self { address, verified_at: verified_at.map(Timestamp::from_millis) })
    }
}

impl Change {
    /// Adds an address to a user's profile, or verifies one that is there.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, or `Conflict` where the address is another user's.
    pub async fn add_user_email(
        &mut self,
        account: AccountId,
        user: UserId,
        address: &str,
        verification: Verification,
    ) -> Result<User, DirectoryError> {
        let before = self.user(account, user).await?;
        if before.emails.len() >= EMAILS_MAX {
            return Err(DirectoryError::Conflict(format!("a user has at most {EMAILS_MAX} addresses")));
        }
        self.put_user_email(account, user, "address", address, verification).await?;
        self.user(account, user).await
    }

    pub(super) async fn put_user_email(
        &mut self,
        account: AccountId,
        user: UserId,
        field: &str,
        address: &str,
        verification: Verification,
    ) -> Result<(), DirectoryError> {
        let address = checked_email(field, address)?;
        if self.store.inner.served.all().contains(&address.domain().to_lowercase()) {
            return Err(DirectoryError::invalid(field, "stands in a domain that syncmx serves"));
        }
        let keys = self.row_keys(account).await?;
        let key = keys.index(Index::Address, address.key())?;
        let owner: Option<uuid::Uuid> =
            query_scalar("SELECT user_id FROM user_emails WHERE account_id = $1 AND email_key = $2")
                .bind(account.uuid())
                .bind(&key)
                .fetch_optional(self.on(account).await?)
                .await?;
        if owner.is_some_and(|owner| owner != user.uuid()) {
            return Err(DirectoryError::Conflict(format!("{field}: belongs to another user of the account")));
        }
        let verified_at = match verification {
            Verification::Trusted => Some(self.now.as_millis()),
            Verification::Wanted => None,
        };
        query(
            "INSERT INTO user_emails (account_id, email_key, user_id, address, verified_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (account_id, email_key) DO UPDATE SET verified_at = COALESCE(user_emails.verified_at, excluded.verified_at)",
        )
        .bind(account.uuid())
        .bind(&key)
        .bind(user.uuid())
        .bind(keys.hide("user_emails.address", &key, address.as_str())?)
        .bind(verified_at)
        .execute(self.on(account).await?)
        .await?;
        match verification {
            Verification::Trusted => Ok(()),
            Verification::Wanted => self.ask_for_confirmation(account, user, &address).await,
        }
    }
}

/// The addresses of one user.
pub(super) const SELECT_OF_USER: &str = "SELECT email_key, address, verified_at FROM user_emails WHERE account_id = $1 AND user_id = $2 ORDER BY email_key";
/// Addresses of one user.
pub(super) const EMAILS_MAX: usize = 50;
