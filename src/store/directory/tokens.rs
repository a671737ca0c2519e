//! API tokens: `smx_` and 256 random bits. Only the SHA-256 is stored, so the table gives no access to a reader.

use aws_lc_rs::digest;
use uuid::Uuid;

use crate::address::token::encode;
use crate::id::{AccountId, TokenId};
use crate::store::directory::{Change, DirectoryError, NAME_MAX_CHARS, Principal, Scopes, checked_text};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::row_keys::RowKeys;
use crate::store::seal::SealError;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its account; none for an administrator of all.
    pub account: Option<AccountId>,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What makes a token.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its account; none for every account, with these scopes.
    pub account: Option<AccountId>,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
}

type Row = (Uuid, Uuid, String, String, i64);

impl Store {
    /// Who holds this token; none if nobody does.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Principal>, StoreError> {
        let row: Option<(Uuid, Uuid, String)> =
            query_as("SELECT account_id, token_id, scopes FROM tokens WHERE token_hash = $1")
                .bind(hash(token))
                .fetch_optional(self.reader())
                .await?;
        Ok(row.map(|(account, token, scopes)| Principal {
            token: TokenId::from_uuid(token),
            account: AccountId::from_uuid(account),
            scopes: Scopes::read(&scopes),
        }))
    }

    /// Makes the first token with scope `admin` where there is none yet: the one given, else a fresh one. Returns
    /// the text of the token that was made, for `data/admin-token`; none if there was one already.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ensure_admin_token(&self, given: Option<&str>) -> Result<Option<String>, DirectoryError> {
        let mut change = self.change().await?;
        let existing: Option<i64> =
            query_scalar("SELECT created_at FROM tokens WHERE account_id = $1 LIMIT 1")
                .bind(AccountId::OPERATOR.uuid())
                .fetch_optional(change.on(AccountId::OPERATOR).await?)
                .await?;
        if existing.is_some() {
            return Ok(None);
        }
        let text = match given {
            Some(text) => text.to_owned(),
            None => fresh_text()?,
        };
        let new = NewToken { account: None, name: "first administrator".to_owned(), scopes: Scopes::admin() };
        change.insert_token(&new, &text).await?;
        change.commit().await?;
        Ok(Some(text))
    }

    /// Whether the token of a principal is still there.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_current(&self, principal: &Principal) -> Result<bool, StoreError> {
        // The administration commands have none.
        if principal.token.uuid().is_nil() {
            return Ok(true);
        }
        let found: Option<Uuid> =
            query_scalar("SELECT token_id FROM tokens WHERE account_id = $1 AND token_id = $2")
                .bind(principal.account.uuid())
                .bind(principal.token.uuid())
                .fetch_optional(self.reader())
                .await?;
        Ok(found.is_some())
    }

    /// Tokens, oldest first; those of one account if one is given.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn tokens(&self, account: Option<AccountId>, slice: Slice) -> Result<Page<Token>, StoreError> {
        let rows: Vec<Row> = query_as(
            "SELECT token_id, account_id, name, scopes, created_at FROM tokens
             WHERE token_id > $1 AND (account_id = $2 OR $3) ORDER BY token_id LIMIT $4",
        )
        .bind(slice.after.map_or(Uuid::nil(), |key| key.id))
        .bind(account.map_or(Uuid::nil(), AccountId::uuid))
        .bind(account.is_none())
        .bind(slice.fetch_limit())
        .fetch_all(self.reader())
        .await?;
        let keys = self.operator_row_keys();
        let tokens = rows.into_iter().map(|row| token_of(row, &keys)).collect();
        Ok(slice.page(tokens, |token: &Token| Key::of_id(token.id.uuid())))
    }
}

impl Change {
    /// Makes a token; its text is returned once and never stored.
    ///
    /// # Errors
    /// `NotFound` for the account; `Invalid` for a name.
    pub async fn create_token(&mut self, new: &NewToken) -> Result<(Token, String), DirectoryError> {
        if let Some(account) = new.account {
            self.require_account(account).await?;
        }
        let text = fresh_text()?;
        let token = self.insert_token(new, &text).await?;
        Ok((token, text))
    }

    /// Ends a token at once. `within` is the account it must belong to; none for any. Returns its account.
    ///
    /// # Errors
    /// `NotFound` if there is no such token there.
    pub async fn delete_token(
        &mut self,
        token: TokenId,
        within: Option<AccountId>,
    ) -> Result<AccountId, DirectoryError> {
        let gone: Option<Uuid> = query_scalar(
            "DELETE FROM tokens WHERE token_id = $1 AND (account_id = $2 OR $3) RETURNING account_id",
        )
        .bind(token.uuid())
        .bind(within.map_or(Uuid::nil(), AccountId::uuid))
        .bind(within.is_none())
        .fetch_optional(self.anywhere())
        .await?;
        gone.map(AccountId::from_uuid).ok_or(DirectoryError::NotFound("token"))
    }

    async fn insert_token(&mut self, new: &NewToken, text: &str) -> Result<Token, DirectoryError> {
        let token = Token {
            id: TokenId::generate(),
            account: new.account,
            name: checked_text("name", &new.name, NAME_MAX_CHARS)?,
            scopes: new.scopes.clone(),
            created_at: self.now,
        };
        query(
            "INSERT INTO tokens (account_id, token_id, name, scopes, token_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(new.account.unwrap_or(AccountId::OPERATOR).uuid())
        .bind(token.id.uuid())
        .bind(self.store.operator_row_keys().hide("tokens.name", token.id.uuid(), token.name.as_str())?)
        .bind(serde_json::Value::from(token.scopes.words()).to_string())
        .bind(hash(text))
        .bind(self.now.as_millis())
        .execute(self.anywhere())
        .await?;
        Ok(token)
    }
}

fn fresh_text() -> Result<String, DirectoryError> {
    let mut random = zeroize::Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(random.as_mut()).map_err(|_| StoreError::from(SealError::Failed))?;
    Ok(format!("smx_{}", encode(random.as_ref())))
}

fn hash(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

/// A token whose name does not open is one all the same, and can be taken away.
fn token_of((id, account, name, scopes, created_at): Row, keys: &RowKeys) -> Token {
    Token {
        id: TokenId::from_uuid(id),
        account: Some(AccountId::from_uuid(account)).filter(|account| *account != AccountId::OPERATOR),
        name: keys.show_or_nothing("tokens.name", id, name),
        scopes: Scopes::read(&scopes),
        created_at: Timestamp::from_millis(created_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_smx_and_52_digits_and_never_the_same() {
        let (a, b) = (fresh_text().unwrap(), fresh_text().unwrap());
        assert_eq!((a.len(), a.get(..4)), (4 + 52, Some("smx_")));
        assert_ne!(a, b);
    }
}
