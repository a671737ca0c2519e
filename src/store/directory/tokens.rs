//! API tokens: `smx_` and 256 random bits. Only the SHA-256 is stored, so the table gives no access to a reader.

use aws_lc_rs::digest;
use uuid::Uuid;

use crate::address::token::encode;
use crate::id::{AccountId, TokenId};
use crate::store::directory::{Change, DirectoryError, NAME_MAX_CHARS, checked_text};
use crate::store::seal::SealError;
use crate::store::views::{Key, Page, Slice};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What a token may do (CONTRACT, "Token scopes").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Scope { $($(#[$doc])* $variant,)+ }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word of API and store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

scopes! {
    /// Sync and reply addresses, users.
    Addresses = "addresses",
    /// Everything.
    Admin = "admin",
    /// Attachments.
    Attachments = "attachments",
    /// The audit trail.
    Audit = "audit",
    /// Contacts and marks.
    Contacts = "contacts",
    /// Events and webhooks.
    Events = "events",
    /// Messages with subject, text and file names.
    MessagesContent = "messages:content",
    /// Messages without them.
    MessagesMeta = "messages:meta",
    /// Erasing.
    Purge = "purge",
    /// The review queue.
    Review = "review",
}

/// The scopes of a token, each once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// From their words.
    ///
    /// # Errors
    /// `Invalid` if there is none, or one is unknown.
    pub fn parse(words: &[String]) -> Result<Self, DirectoryError> {
        let mut scopes = Vec::with_capacity(words.len());
        for (n, word) in words.iter().enumerate() {
            let found = Scope::ALL.iter().find(|scope| scope.as_str() == word);
            scopes.push(*found.ok_or_else(|| {
                DirectoryError::invalid(format!("scopes[{n}]"), "is none of the scopes of this API")
            })?);
        }
        if scopes.is_empty() {
            return Err(DirectoryError::invalid("scopes", "must not be empty"));
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(Self(scopes))
    }

    /// Whether it is among them, or `admin` is.
    #[must_use]
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope) || self.0.contains(&Scope::Admin)
    }

    /// Their words.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|scope| scope.as_str()).collect()
    }

    fn read(stored: &str) -> Self {
        let words: Vec<String> = serde_json::from_str(stored).unwrap_or_default();
        Self(Scope::ALL.iter().copied().filter(|s| words.iter().any(|w| w == s.as_str())).collect())
    }
}

/// Who asks: a token that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token.
    pub token: TokenId,
    /// Its account; the operator's for an administrator of all.
    pub account: AccountId,
    /// What it may do there.
    pub scopes: Scopes,
}

impl Principal {
    /// Whoever can open the store on this machine: the administration commands.
    #[must_use]
    pub fn operator() -> Self {
        let scopes = Scopes(vec![Scope::Admin]);
        Self { token: TokenId::from_uuid(Uuid::nil()), account: AccountId::OPERATOR, scopes }
    }

    /// Whether it may do everything in every account.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.account == AccountId::OPERATOR && self.scopes.allow(Scope::Admin)
    }
}

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
    /// Its account; none, with scope `admin`, for every account.
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
            sqlx::query_as("SELECT account_id, token_id, scopes FROM tokens WHERE token_hash = $1")
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
    /// If the database fails, or the given token is shorter than 16 characters.
    pub async fn ensure_admin_token(&self, given: Option<&str>) -> Result<Option<String>, DirectoryError> {
        let mut change = self.change().await?;
        let existing: Option<i64> = sqlx::query_scalar("SELECT 1 FROM tokens WHERE account_id = $1 LIMIT 1")
            .bind(AccountId::OPERATOR.uuid())
            .fetch_optional(&mut *change.tx)
            .await?;
        if existing.is_some() {
            return Ok(None);
        }
        let text = match given {
            Some(text) if text.len() < GIVEN_TOKEN_MIN_OCTETS => {
                let why = format!("must have at least {GIVEN_TOKEN_MIN_OCTETS} characters");
                return Err(DirectoryError::invalid("SYNCMX_ADMIN_TOKEN", why));
            }
            Some(text) => text.to_owned(),
            None => fresh_text()?,
        };
        let new = NewToken {
            account: None,
            name: "first administrator".to_owned(),
            scopes: Scopes(vec![Scope::Admin]),
        };
        change.insert_token(&new, &text).await?;
        change.commit().await?;
        Ok(Some(text))
    }

    /// Tokens, oldest first; those of one account if one is given.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn tokens(&self, account: Option<AccountId>, slice: Slice) -> Result<Page<Token>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT token_id, account_id, name, scopes, created_at FROM tokens
             WHERE token_id > $1 AND (account_id = $2 OR $3) ORDER BY token_id LIMIT $4",
        )
        .bind(slice.after.map_or(Uuid::nil(), |key| key.id))
        .bind(account.map_or(Uuid::nil(), AccountId::uuid))
        .bind(account.is_none())
        .bind(slice.fetch_limit())
        .fetch_all(self.reader())
        .await?;
        let tokens = rows.into_iter().map(token_of).collect();
        Ok(slice.page(tokens, |token: &Token| Key::of_id(token.id.uuid())))
    }
}

impl Change {
    /// Makes a token; its text is returned once and never stored.
    ///
    /// # Errors
    /// `NotFound` for the account; `Invalid` for a name or for scopes without an account.
    pub async fn create_token(&mut self, new: &NewToken) -> Result<(Token, String), DirectoryError> {
        match new.account {
            Some(account) => self.require_account(account).await?,
            None if new.scopes.allow(Scope::Admin) => {}
            None => return Err(DirectoryError::invalid("account_id", "only scope `admin` goes without one")),
        }
        let text = fresh_text()?;
        let token = self.insert_token(new, &text).await?;
        Ok((token, text))
    }

    /// Ends a token at once. `within` is the account it must belong to; none for any.
    ///
    /// # Errors
    /// `NotFound` if there is no such token there.
    pub async fn delete_token(
        &mut self,
        token: TokenId,
        within: Option<AccountId>,
    ) -> Result<(), DirectoryError> {
        let gone = sqlx::query("DELETE FROM tokens WHERE token_id = $1 AND (account_id = $2 OR $3)")
            .bind(token.uuid())
            .bind(within.map_or(Uuid::nil(), AccountId::uuid))
            .bind(within.is_none())
            .execute(&mut *self.tx)
            .await?
            .rows_affected();
        if gone == 0 { Err(DirectoryError::NotFound("token")) } else { Ok(()) }
    }

    async fn insert_token(&mut self, new: &NewToken, text: &str) -> Result<Token, DirectoryError> {
        let token = Token {
            id: TokenId::generate(),
            account: new.account,
            name: checked_text("name", &new.name, NAME_MAX_CHARS)?,
            scopes: new.scopes.clone(),
            created_at: self.now,
        };
        sqlx::query(
            "INSERT INTO tokens (account_id, token_id, name, scopes, token_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(new.account.unwrap_or(AccountId::OPERATOR).uuid())
        .bind(token.id.uuid())
        .bind(&token.name)
        .bind(serde_json::Value::from(token.scopes.words()).to_string())
        .bind(hash(text))
        .bind(self.now.as_millis())
        .execute(&mut *self.tx)
        .await?;
        Ok(token)
    }
}

const GIVEN_TOKEN_MIN_OCTETS: usize = 16;

fn fresh_text() -> Result<String, DirectoryError> {
    let mut random = zeroize::Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(random.as_mut()).map_err(|_| StoreError::from(SealError::Failed))?;
    Ok(format!("smx_{}", encode(random.as_ref())))
}

fn hash(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

fn token_of((id, account, name, scopes, created_at): Row) -> Token {
    Token {
        id: TokenId::from_uuid(id),
        account: Some(AccountId::from_uuid(account)).filter(|account| *account != AccountId::OPERATOR),
        name,
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

    #[test]
    fn admin_allows_everything_and_the_others_only_themselves() {
        let scopes =
            |words: &[&str]| Scopes::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let admin = scopes(&["admin"]).unwrap();
        let one = scopes(&["contacts", "contacts"]).unwrap();
        assert_eq!(one.words(), ["contacts"]);
        for scope in Scope::ALL {
            assert!(admin.allow(*scope));
            assert_eq!(one.allow(*scope), *scope == Scope::Contacts);
        }
        assert!(scopes(&[]).is_err());
        assert!(scopes(&["messages"]).is_err());
    }
}
