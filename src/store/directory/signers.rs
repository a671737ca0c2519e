//! R13: which domains may sign for which of a user's addresses, because a person has accepted it once (Gmail's "send
//! mail as").

use uuid::Uuid;

use crate::auth::{AuthResult, DmarcPolicy};
use crate::filing::Reason;
use crate::id::{AccountId, UserId};
use crate::store::StoreError;
use crate::store::directory::{Change, DirectoryError, OpenedHeld, User};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::row_keys::{Index, RowKeys};
use crate::time::Timestamp;
use crate::wire::AuthView;

/// An address of a user's and the domain whose signature proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedSigner {
    /// The user's address.
    pub address: String,
    /// `d=` of the signature.
    pub domain: String,
    /// When it was accepted.
    pub at: Timestamp,
}

/// A row of [`SELECT_OF_USER`].
pub(super) type Row = (String, String, String, i64);

impl RememberedSigner {
    pub(super) fn read((key, address, domain, at): Row, keys: &RowKeys) -> Result<Self, StoreError> {
        let address = keys.show("remembered_signers.address", key, address)?;
        let domain = keys.show_index(Index::Domain, domain)?;
        Ok(Self { address, domain, at: Timestamp::from_millis(at) })
    }
}

impl Change {
    /// Remembers who signed a message that is held as `unverified_sender` and bears a user's address. To be called
    /// before it is filed, in the same change.
    ///
    /// # Errors
    /// `Conflict` where there is nothing to remember: it is held for something else, From is no user's, no signature
    /// passed, or the domain of the address disowns what is not aligned (`p=reject`).
    pub async fn remember_signer(&mut self, held: &OpenedHeld) -> Result<(), DirectoryError> {
        let conflict = |why: &str| Err(DirectoryError::Conflict(format!("remember_signer: {why}")));
        let (account, delivery) = held.key();
        let found: Option<(String, Option<String>)> = query_as(
            "SELECT h.reason, d.auth FROM held h JOIN deliveries d
             ON d.account_id = h.account_id AND d.delivery_id = h.delivery_id
             WHERE h.account_id = $1 AND h.delivery_id = $2",
        )
        .bind(account.uuid())
        .bind(delivery.uuid())
        .fetch_optional(self.on(account).await?)
        .await?;
        let (reason, auth) = found.ok_or(DirectoryError::NotFound("held message"))?;
        if reason != Reason::UnverifiedSender.as_str() {
            return conflict("only for mail that is held as unverified_sender");
        }
        let Some(from) = held.author() else { return conflict("its author cannot be read") };
        let keys = self.row_keys(account).await?;
        let key = keys.index(Index::Address, from.key())?;
        let owner: Option<Uuid> = query_scalar(
            "SELECT user_id FROM user_emails WHERE account_id = $1 AND email_key = $2 AND verified_at IS NOT NULL",
        )
        .bind(account.uuid())
        .bind(&key)
        .fetch_optional(self.on(account).await?)
        .await?;
        let Some(owner) = owner else { return conflict("its author is not a user") };
        let auth = keys.show_some("deliveries.auth", delivery.uuid(), auth)?;
        let auth: Option<AuthView> = auth.and_then(|auth| serde_json::from_str(&auth).ok());
        let Some(auth) = auth else { return conflict("its authentication is not on file") };
        if auth.dmarc.policy == DmarcPolicy::Reject.as_str() {
            return conflict("the domain of the address asks to reject what is not aligned with it");
        }
        let signer = auth.dkim.iter().find(|signature| signature.result == AuthResult::Pass.as_str());
        let Some(signer) = signer else { return conflict("no signature on it passed") };
        query(
            "INSERT INTO remembered_signers (account_id, email_key, domain, user_id, address, at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, email_key, domain) DO NOTHING",
        )
        .bind(account.uuid())
        .bind(&key)
        .bind(keys.index(Index::Domain, signer.domain.as_str())?)
        .bind(owner)
        .bind(keys.hide("remembered_signers.address", &key, from.as_str())?)
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        Ok(())
    }

    /// Takes it back: later mail is held again.
    ///
    /// # Errors
    /// `NotFound` if that user has no such signer.
    pub async fn forget_signer(
        &mut self,
        account: AccountId,
        user: UserId,
        address: &str,
        domain: &str,
    ) -> Result<User, DirectoryError> {
        let keys = self.row_keys(account).await?;
        let gone = query(
            "DELETE FROM remembered_signers WHERE account_id = $1 AND user_id = $2 AND email_key = $3 AND domain = $4",
        )
        .bind(account.uuid())
        .bind(user.uuid())
        .bind(keys.index(Index::Address, address.trim().to_lowercase())?)
        .bind(keys.index(Index::Domain, domain.trim().to_lowercase())?)
        .execute(self.on(account).await?)
        .await?;
        if gone == 0 {
            return Err(DirectoryError::NotFound("remembered signer"));
        }
        self.user(account, user).await
    }
}

/// Those of one user.
pub(super) const SELECT_OF_USER: &str = "SELECT email_key, address, domain, at FROM remembered_signers
     WHERE account_id = $1 AND user_id = $2 ORDER BY email_key, domain";
