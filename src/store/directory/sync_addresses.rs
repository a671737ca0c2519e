//! Changing a user's sync address: rotate, disconnect, connect. What the store remembers of addresses is forgotten
//! when the change is committed, so that the next RCPT sees it (R62).

use crate::address::{EmailAddress, sync};
use crate::id::{AccountId, UserId};
use crate::store::StoreError;
use crate::store::directory::{Addresses, Change, DirectoryError, SyncState, User};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::row_keys::Index;

impl Change {
    /// Gives the user a new sync address; the old one is refused from now on.
    ///
    /// # Errors
    /// `NotFound` if there is no such user.
    pub async fn rotate_sync_address(
        &mut self,
        account: AccountId,
        user: UserId,
    ) -> Result<User, DirectoryError> {
        let old = self.user(account, user).await?;
        self.addresses = Addresses::Changed;
        query("UPDATE sync_addresses SET state = 'retired' WHERE account_id = $1 AND user_id = $2")
            .bind(account.uuid())
            .bind(user.uuid())
            .execute(self.on(account).await?)
            .await?;
        let local = self.fresh_local_part(&old.name).await?;
        self.keep_local_part(account, user, &local).await?;
        let local = self.row_keys(account).await?.hide("users.sync_local", user.uuid(), local)?;
        query("UPDATE users SET sync_local = $3 WHERE account_id = $1 AND user_id = $2")
            .bind(account.uuid())
            .bind(user.uuid())
            .bind(local)
            .execute(self.on(account).await?)
            .await?;
        self.user(account, user).await
    }

    /// R62: stops filing at once.
    ///
    /// # Errors
    /// `NotFound` if there is no such user.
    pub async fn disconnect_sync(
        &mut self,
        account: AccountId,
        user: UserId,
    ) -> Result<User, DirectoryError> {
        self.set_sync_state(account, user, SyncState::Off).await
    }

    /// Files again, under the same address.
    ///
    /// # Errors
    /// `NotFound` if there is no such user.
    pub async fn connect_sync(&mut self, account: AccountId, user: UserId) -> Result<User, DirectoryError> {
        self.set_sync_state(account, user, SyncState::On).await
    }

    pub(super) async fn set_sync_state(
        &mut self,
        account: AccountId,
        user: UserId,
        state: SyncState,
    ) -> Result<User, DirectoryError> {
        self.addresses = Addresses::Changed;
        query("UPDATE users SET sync_state = $3 WHERE account_id = $1 AND user_id = $2")
            .bind(account.uuid())
            .bind(user.uuid())
            .bind(state.as_str())
            .execute(self.on(account).await?)
            .await?;
        self.user(account, user).await
    }

    /// A local part that nobody in any account ever had: the envelope recipient alone picks the account (R39).
    pub(super) async fn fresh_local_part(&mut self, name: &str) -> Result<String, DirectoryError> {
        loop {
            let mut random = [0; 8];
            aws_lc_rs::rand::fill(&mut random)
                .map_err(|_| StoreError::from(crate::store::seal::SealError::Failed))?;
            let local = sync::local_part(name, u64::from_be_bytes(random));
            let [key, erased] = self.store.sync_address_keys(&local)?;
            let taken: Option<i64> =
                query_scalar("SELECT created_at FROM sync_addresses WHERE local_part IN ($1, $2)")
                    .bind(key)
                    .bind(erased)
                    .fetch_optional(self.anywhere())
                    .await?;
            if taken.is_none() {
                return Ok(local);
            }
        }
    }

    /// Every address under which mail for this user came or comes, with `+auto` and without.
    pub(super) async fn sync_addresses_of(
        &mut self,
        account: AccountId,
        user: UserId,
    ) -> Result<Vec<EmailAddress>, DirectoryError> {
        let store = self.store.clone();
        let mut addresses = Vec::new();
        for (_, local) in self.local_parts(account, user).await? {
            let domains = store.inner.served.sync_domains();
            let spelt = domains
                .iter()
                .flat_map(|domain| [format!("{local}@{domain}"), format!("{local}+auto@{domain}")]);
            addresses.extend(spelt.filter_map(|text| EmailAddress::parse(&text)));
        }
        Ok(addresses)
    }

    /// They bear the user's name: of one who is erased a keyed hash stays, by which the address is refused for ever
    /// and given to nobody else.
    pub(super) async fn hash_sync_addresses(
        &mut self,
        account: AccountId,
        user: UserId,
    ) -> Result<(), DirectoryError> {
        for (stored, local) in self.local_parts(account, user).await? {
            let [_, erased] = self.store.sync_address_keys(&local)?;
            query("UPDATE sync_addresses SET local_part = $3 WHERE account_id = $1 AND local_part = $2")
                .bind(account.uuid())
                .bind(stored)
                .bind(erased)
                .execute(self.on(account).await?)
                .await?;
        }
        Ok(())
    }

    /// As stored and as they are, but for those that are hashed and those that do not open.
    async fn local_parts(
        &mut self,
        account: AccountId,
        user: UserId,
    ) -> Result<Vec<(String, String)>, DirectoryError> {
        let stored: Vec<(String,)> =
            query_as("SELECT local_part FROM sync_addresses WHERE account_id = $1 AND user_id = $2")
                .bind(account.uuid())
                .bind(user.uuid())
                .fetch_all(self.on(account).await?)
                .await?;
        let keys = self.store.operator_row_keys();
        let shown = stored.into_iter().filter_map(|(stored,)| {
            let local = keys.show_index(Index::SyncAddress, stored.clone()).ok()?;
            (!sync::is_erased(&local)).then_some((stored, local))
        });
        Ok(shown.collect())
    }

    pub(super) async fn keep_local_part(
        &mut self,
        account: AccountId,
        user: UserId,
        local: &str,
    ) -> Result<(), DirectoryError> {
        query(
            "INSERT INTO sync_addresses (account_id, local_part, user_id, state, created_at) VALUES ($1, $2, $3, 'active', $4)",
        )
        .bind(account.uuid())
        .bind(self.store.operator_row_keys().index(Index::SyncAddress, local)?)
        .bind(user.uuid())
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        Ok(())
    }
}
