//! Remembered answers: a write that carried an Idempotency-Key is answered again instead of done again.
//!
//! The answer is written in the transaction of the write itself, so that there is no moment at which one exists
//! without the other. Kept for a day. An answer that shows a secret is sealed.

use aws_lc_rs::digest;
use serde_json::Value;
use uuid::Uuid;

use crate::id::AccountId;
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{Builder, query, query_as};
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
        // The end of a purge gives the account another row key: nothing is hidden with the old one beside it. The
        // operator's stays, and nobody waits for it.
        if request.account != AccountId::OPERATOR {
            self.on(request.account).await?;
        }
        self.end_answers(request.account).await?;
        if self.put(request, (status, body), self.now.as_millis()).await? == 0 {
            return Err(DirectoryError::Conflict(
                "the same Idempotency-Key was used at the same time".to_owned(),
            ));
        }
        Ok(())
    }

    /// Returns 0 if the key has an answer already.
    async fn put(
        &mut self,
        request: &Request,
        (status, body): (u16, &str),
        created_at: i64,
    ) -> Result<u64, DirectoryError> {
        let keys = self.row_keys(request.account).await?;
        let key = keys.index(Index::Request, request.key.as_str())?;
        let kept = query(
            "INSERT INTO idempotency_keys (account_id, key, request_hash, status, response, created_at, about)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (account_id, key) DO NOTHING",
        )
        .bind(request.account.uuid())
        .bind(&key)
        .bind(keys.index_octets(Index::Request, &request.hash)?)
        .bind(i64::from(status))
        .bind(keys.hide("idempotency_keys.response", &key, body)?)
        .bind(created_at)
        .bind(request.about.uuid())
        .execute(self.anywhere())
        .await?;
        Ok(kept)
    }
}

/// An answer in clear that outlives the row key it was hidden with.
#[derive(Debug)]
pub(super) struct SparedAnswer {
    request: Request,
    answer: StoredAnswer,
    created_at: i64,
}

impl Change {
    /// R60: answers that were given in an account, or about it, while it was emptied go. Those of purges show nobody
    /// and stay, lest a request that is sent again erases once more; the account's own come back, to be put back when
    /// it has its new row key.
    pub(super) async fn spare_answers(
        &mut self,
        account: AccountId,
    ) -> Result<Vec<SparedAnswer>, DirectoryError> {
        let mut spared = Vec::new();
        for owner in [account, AccountId::OPERATOR] {
            let keys = self.row_keys(owner).await?;
            let answers: Vec<(String, Vec<u8>, i64, String, i64)> = query_as(
                "SELECT key, request_hash, status, response, created_at FROM idempotency_keys
                 WHERE account_id = $1 AND (about = $2 OR account_id = $2)",
            )
            .bind(owner.uuid())
            .bind(account.uuid())
            .fetch_all(self.on(owner).await?)
            .await?;
            for (row, hash, status, response, created_at) in answers {
                let body = keys.show("idempotency_keys.response", &row, response).ok();
                let body = body.filter(|body| is_of_purge(body));
                if owner == AccountId::OPERATOR && body.is_some() {
                    continue;
                }
                self.forget_answer(owner, &row).await?;
                let Some(body) = body else { continue };
                let key = keys.show_index(Index::Request, row)?;
                let hash = keys.show_octets(Index::Request, hash)?;
                let Ok(hash) = hash.try_into() else { continue };
                let request = Request { account, key, about: account, hash };
                let answer = StoredAnswer { status: u16::try_from(status).unwrap_or(200), body };
                spared.push(SparedAnswer { request, answer, created_at });
            }
        }
        Ok(spared)
    }

    /// R60: the answers that show what is erased go, of the account's tokens and of the operator's about it; so do
    /// those that do not open. `pattern` is what all of them match (LIKE), where the rows are clear.
    pub(super) async fn forget_answers(
        &mut self,
        account: AccountId,
        pattern: &str,
        shows: impl Fn(&str) -> bool,
    ) -> Result<(), DirectoryError> {
        for owner in [account, AccountId::OPERATOR] {
            // The owner's lock before any of its rows.
            self.on(owner).await?;
            // Nobody is answered with them any more: they need not be opened.
            self.end_answers(owner).await?;
            let keys = self.row_keys(owner).await?;
            // From before they said which account they are about, any may be about this one.
            let mut sql = Builder::new("SELECT key, response FROM idempotency_keys WHERE account_id = ");
            sql.push_bind(owner.uuid()).push(" AND (about = ").push_bind(account.uuid());
            sql.push(" OR about IS NULL)");
            if keys.are_clear() {
                sql.push(" AND response LIKE ").push_bind(pattern);
            }
            let answers: Vec<(String, String)> = sql.build().fetch_all(self.on(owner).await?).await?;
            for (key, response) in answers {
                let response = keys.show("idempotency_keys.response", &key, response).ok();
                if response.is_none_or(|response| shows(&response)) {
                    self.forget_answer(owner, &key).await?;
                }
            }
        }
        Ok(())
    }

    async fn forget_answer(&mut self, owner: AccountId, row: &str) -> Result<(), DirectoryError> {
        query("DELETE FROM idempotency_keys WHERE account_id = $1 AND key = $2")
            .bind(owner.uuid())
            .bind(row)
            .execute(self.on(owner).await?)
            .await?;
        Ok(())
    }

    /// Those of more than a day ago.
    async fn end_answers(&mut self, owner: AccountId) -> Result<(), DirectoryError> {
        query("DELETE FROM idempotency_keys WHERE account_id = $1 AND created_at <= $2")
            .bind(owner.uuid())
            .bind(self.now.plus_days(-KEPT_DAYS).as_millis())
            .execute(self.anywhere())
            .await?;
        Ok(())
    }

    pub(super) async fn put_answers_back(&mut self, spared: Vec<SparedAnswer>) -> Result<(), DirectoryError> {
        for SparedAnswer { request, answer, created_at } in spared {
            self.put(&request, (answer.status, &answer.body), created_at).await?;
        }
        Ok(())
    }
}

/// Counts, and whether it is done.
fn is_of_purge(body: &str) -> bool {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    body.as_object().is_some_and(|fields| {
        fields.contains_key("done") && fields.values().all(|value| value.is_number() || value.is_boolean())
    })
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
