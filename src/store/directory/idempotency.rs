//! Remembered answers: a write that carried an Idempotency-Key is answered again instead of done again.
//!
//! The answer is written in the transaction of the write itself, so that there is no moment at which one exists
//! without the other. Kept for a day. An answer that shows a secret is sealed.

use aws_lc_rs::digest;
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{query, query_as};
use crate::store::keyring;
use crate::store::row_keys::Index;
use crate::store::seal::{AccountKeys, SealError};
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
        let keys = self.row_keys(request.account).await?;
        let key = keys.index(Index::Request, request.key.as_str())?;
        let row: Option<(Vec<u8>, i64, String)> = query_as(
            "SELECT request_hash, status, response FROM idempotency_keys
             WHERE account_id = $1 AND key = $2 AND created_at > $3",
        )
        .bind(request.account.uuid())
        .bind(&key)
        .bind(Timestamp::now().plus_days(-KEPT_DAYS).as_millis())
        .fetch_optional(self.reader())
        .await?;
        let Some((hash, status, stored)) = row else { return Ok(Remembered::Unknown) };
        if keys.show_octets(Index::Request, hash)? != request.hash {
            return Ok(Remembered::Other);
        }
        let stored = keys.show("idempotency_keys.response", &key, stored)?;
        let body = match stored.strip_prefix(SEALED) {
            Some(sealed) => {
                let (content_key, bytes) = parts(sealed)?;
                let keys = self.account_keys_for(request.account, &content_key).await?;
                open(&keys, binding(&request.key, &request.hash), &content_key, &bytes)?
            }
            None => stored,
        };
        Ok(Remembered::Answered(StoredAnswer { status: u16::try_from(status).unwrap_or(200), body }))
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
        let rows = keyring::wrapped_keys(request.account).fetch_all(self.anywhere()).await?;
        let keys = keyring::open(self.store.vault(), request.account, rows).await?;
        let place = binding(&request.key, &request.hash);
        let sealed = keys.seal(place, answer.body.as_bytes()).map_err(StoreError::from)?;
        let text = sealed_text(&sealed.content_key, &sealed.bytes);
        self.keep(request, answer.status, &text).await
    }

    async fn keep(&mut self, request: &Request, status: u16, body: &str) -> Result<(), DirectoryError> {
        let keys = self.row_keys(request.account).await?;
        let key = keys.index(Index::Request, request.key.as_str())?;
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
        .bind(&key)
        .bind(keys.index_octets(Index::Request, &request.hash)?)
        .bind(i64::from(status))
        .bind(keys.hide("idempotency_keys.response", &key, body)?)
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
fn binding(key: &str, hash: &[u8]) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(hash);
    context.update(key.as_bytes());
    Uuid::from_slice(context.finish().as_ref().get(..16).unwrap_or_default()).unwrap_or_default()
}

/// A kept answer with its content key wrapped by the key that seals now; none if it is already, or not sealed.
///
/// # Errors
/// If it does not open.
pub(in crate::store) fn rewrap(
    keys: &AccountKeys,
    (key, hash): (&str, &[u8]),
    stored: &str,
) -> Result<Option<String>, SealError> {
    let Some(sealed) = stored.strip_prefix(SEALED) else { return Ok(None) };
    let (content_key, bytes) = parts(sealed)?;
    let rewrapped = keys.rewrap(binding(key, hash), &content_key)?;
    Ok(rewrapped.map(|content_key| sealed_text(&content_key, &bytes)))
}

fn sealed_text(content_key: &[u8], bytes: &[u8]) -> String {
    format!("{SEALED}{}.{}", hex(content_key), hex(bytes))
}

/// The content key and what it opens.
fn parts(sealed: &str) -> Result<(Vec<u8>, Vec<u8>), SealError> {
    let (content_key, bytes) = sealed.split_once('.').ok_or(SealError::DoesNotOpen)?;
    Ok((unhex(content_key)?, unhex(bytes)?))
}

fn open(keys: &AccountKeys, place: Uuid, content_key: &[u8], bytes: &[u8]) -> Result<String, StoreError> {
    let body = keys.open(place, content_key, bytes)?;
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
