//! Remembered answers: a write that carried an Idempotency-Key is answered again instead of done again.
//!
//! The answer is written in the transaction of the write itself, so that there is no moment at which one exists
//! without the other. Kept for a day. An answer that shows a secret is sealed.

use aws_lc_rs::digest;
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::seal::{AccountKey, SealError};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::wire::hex;

/// Which request an answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The account of the token that asks.
    pub account: AccountId,
    /// The client's key.
    pub key: String,
    /// The account that it is about: a purge of that one forgets the answer.
    pub about: AccountId,
    /// SHA-256 over everything that makes it this request.
    pub hash: [u8; 32],
}

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It was answered this.
    Answered(StoredAnswer),
    /// Another request had this key.
    Other,
    /// Nothing: it is to be done.
    Unknown,
}

impl Store {
    /// What was answered to this key within the last day.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn recall(&self, request: &Request) -> Result<Remembered, StoreError> {
        let row: Option<(Vec<u8>, i64, String)> = query_as(
            "SELECT request_hash, status, response FROM idempotency_keys
             WHERE account_id = $1 AND key = $2 AND created_at > $3",
        )
        .bind(request.account.uuid())
        .bind(&request.key)
        .bind(Timestamp::now().plus_days(-KEPT_DAYS).as_millis())
        .fetch_optional(self.reader())
        .await?;
        let Some((hash, status, stored)) = row else { return Ok(Remembered::Unknown) };
        if hash != request.hash {
            return Ok(Remembered::Other);
        }
        let body = match stored.strip_prefix(SEALED) {
            Some(sealed) => open(&self.key_of(request.account).await?, request, sealed)?,
            None => stored,
        };
        Ok(Remembered::Answered(StoredAnswer { status: u16::try_from(status).unwrap_or(200), body }))
    }

    async fn key_of(&self, account: AccountId) -> Result<AccountKey, StoreError> {
        let wrapped: Vec<u8> = query_scalar("SELECT wrapped_key FROM accounts WHERE account_id = $1")
            .bind(account.uuid())
            .fetch_one(self.reader())
            .await?;
        Ok(self.vault().open_account_key(account, &wrapped)?)
    }
}

impl Change {
    /// Keeps the answer of this change for a day.
    ///
    /// # Errors
    /// `Conflict` if the same key was answered in the meantime: then this change must not be committed.
    pub async fn remember(&mut self, request: &Request, answer: &StoredAnswer) -> Result<(), DirectoryError> {
        self.keep(request, answer.status, &answer.body).await
    }

    /// The same for an answer that shows a secret.
    ///
    /// # Errors
    /// As [`Self::remember`].
    pub async fn remember_sealed(
        &mut self,
        request: &Request,
        answer: &StoredAnswer,
    ) -> Result<(), DirectoryError> {
        let wrapped: Vec<u8> = query_scalar("SELECT wrapped_key FROM accounts WHERE account_id = $1")
            .bind(request.account.uuid())
            .fetch_one(self.anywhere())
            .await?;
        let vault = self.store.vault().clone();
        let key = vault.open_account_key(request.account, &wrapped).map_err(StoreError::from)?;
        let sealed = key.seal(binding(request), answer.body.as_bytes()).map_err(StoreError::from)?;
        let text = format!("{SEALED}{}.{}", hex(&sealed.content_key), hex(&sealed.bytes));
        self.keep(request, answer.status, &text).await
    }

    async fn keep(&mut self, request: &Request, status: u16, body: &str) -> Result<(), DirectoryError> {
        query("DELETE FROM idempotency_keys WHERE account_id = $1 AND created_at <= $2")
            .bind(request.account.uuid())
            .bind(self.now.plus_days(-KEPT_DAYS).as_millis())
            .execute(self.anywhere())
            .await?;
        let kept = query(
            "INSERT INTO idempotency_keys (account_id, key, request_hash, status, response, created_at, about)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (account_id, key) DO NOTHING",
        )
        .bind(request.account.uuid())
        .bind(&request.key)
        .bind(request.hash.as_slice())
        .bind(i64::from(status))
        .bind(body)
        .bind(self.now.as_millis())
        .bind(request.about.uuid())
        .execute(self.anywhere())
        .await?;
        if kept == 0 {
            return Err(DirectoryError::Conflict(
                "the same Idempotency-Key was used at the same time".to_owned(),
            ));
        }
        Ok(())
    }
}

const KEPT_DAYS: i64 = 1;
/// No JSON begins so.
const SEALED: &str = "sealed:";

/// What the sealed answer is bound to: this key and this request.
fn binding(request: &Request) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&request.hash);
    context.update(request.key.as_bytes());
    Uuid::from_slice(context.finish().as_ref().get(..16).unwrap_or_default()).unwrap_or_default()
}

fn open(key: &AccountKey, request: &Request, sealed: &str) -> Result<String, StoreError> {
    let (content_key, bytes) = sealed.split_once('.').ok_or(SealError::DoesNotOpen)?;
    let (content_key, bytes) = (unhex(content_key)?, unhex(bytes)?);
    let body = key.open(binding(request), &content_key, &bytes)?;
    String::from_utf8(body).map_err(|_| SealError::DoesNotUnpack.into())
}

fn unhex(text: &str) -> Result<Vec<u8>, SealError> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => digit(high).zip(digit(low)).map(|(high, low)| (high << 4) | low),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or(SealError::DoesNotOpen)
}
