//! What gives rise to notices: held mail that waits (one digest a user and day), and addresses that wait for proof
//! (R12).

use uuid::Uuid;

use crate::address::EmailAddress;
use crate::id::{AccountId, UserId};
use crate::store::directory::{Change, DirectoryError};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::facts::day;
use crate::store::row_keys::Index;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// An address that was confirmed, or can be.
#[derive(Clone, Debug)]
pub struct Confirmation {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub account_name: String,
    /// The user.
    pub user: UserId,
    /// Their name.
    pub user_name: String,
    /// The address.
    pub address: EmailAddress,
}

type ConfirmationRow = (Uuid, Uuid, String, String, String, String);

impl Store {
    /// Asks for a digest for each user for whom mail has been held since the last one, for `at_once` of them at most:
    /// whoever has had one today is none of them. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ask_for_digests(&self, now: Timestamp, at_once: u32) -> Result<u64, StoreError> {
        let waiting: Vec<(Uuid, Uuid, i64)> = query_as(
            "SELECT h.account_id, h.user_id, MAX(h.at) FROM held h WHERE h.user_id IS NOT NULL AND h.at > COALESCE(
             (SELECT MAX(d.at) FROM relay_digests d WHERE d.account_id = h.account_id AND d.user_id = h.user_id), 0)
             AND NOT EXISTS (SELECT 1 FROM relay_digests t WHERE t.account_id = h.account_id AND t.user_id = h.user_id
             AND t.day = $1) GROUP BY h.account_id, h.user_id ORDER BY MAX(h.at), h.user_id LIMIT $2",
        )
        .bind(day(now))
        .bind(i64::from(at_once))
        .fetch_all(self.reader())
        .await?;
        let mut asked = 0;
        for (account, user, latest) in waiting {
            let mut tx = self.begin().await?;
            let first_today = query(
                "INSERT INTO relay_digests (account_id, user_id, day, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(account)
            .bind(user)
            .bind(day(now))
            .bind(latest)
            .execute(&mut *tx)
            .await?;
            if first_today == 1 {
                query(INSERT_JOB)
                    .bind(account)
                    .bind(Uuid::now_v7())
                    .bind("digest")
                    .bind(user)
                    .bind(None::<String>)
                    .bind(now.as_millis())
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            asked += first_today;
        }
        Ok(asked)
    }

    /// The text that the link of a confirmation mail ends with; none if it is not to be sent any more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn confirmation_token(
        &self,
        account: AccountId,
        id: Uuid,
    ) -> Result<Option<(EmailAddress, String)>, StoreError> {
        let row: Option<ConfirmationRow> = query_as(SELECT_CONFIRMATION)
            .bind(id)
            .bind(Timestamp::now().as_millis())
            .fetch_optional(self.reader())
            .await?;
        let Some((owner, user, key, address, ..)) = row else { return Ok(None) };
        if owner != account.uuid() {
            return Ok(None);
        }
        let keys = self.row_keys(account).await?;
        let address = keys.show("user_emails.address", &key, address)?;
        let key = keys.show_index(Index::Address, key)?;
        let tag = Uuid::from_bytes(self.inner.keys.confirmation_tag(id, owner, user, &key));
        let token = format!("{}{}", id.simple(), tag.simple());
        Ok(EmailAddress::parse(&address).map(|address| (address, token)))
    }

    /// What a link would confirm; none if it is forged, used or over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn confirmation(&self, token: &str) -> Result<Option<Confirmation>, StoreError> {
        let Some((id, tag)) = read_token(token) else { return Ok(None) };
        let row: Option<ConfirmationRow> = query_as(SELECT_CONFIRMATION)
            .bind(id)
            .bind(Timestamp::now().as_millis())
            .fetch_optional(self.reader())
            .await?;
        let Some((account, user, key, address, account_name, user_name)) = row else { return Ok(None) };
        let keys = self.row_keys(AccountId::from_uuid(account)).await?;
        let address = keys.show("user_emails.address", &key, address)?;
        let key = keys.show_index(Index::Address, key)?;
        let account_name = self.operator_row_keys().show("accounts.name", account, account_name)?;
        let user_name = keys.show("users.name", user, user_name)?;
        let expected = self.inner.keys.confirmation_tag(id, account, user, &key);
        let is_ours = aws_lc_rs::constant_time::verify_slices_are_equal(&expected, tag.as_bytes()).is_ok();
        let address = EmailAddress::parse(&address).filter(|_| is_ours);
        Ok(address.map(|address| Confirmation {
            account: AccountId::from_uuid(account),
            account_name,
            user: UserId::from_uuid(user),
            user_name,
            address,
        }))
    }

    /// R12: the address is proven; the link is used up. None if it was forged, used or over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn confirm(&self, token: &str) -> Result<Option<Confirmation>, StoreError> {
        let (Some(confirmation), Some((id, _))) = (self.confirmation(token).await?, read_token(token)) else {
            return Ok(None);
        };
        let now = Timestamp::now().as_millis();
        let keys = self.row_keys(confirmation.account).await?;
        let mut tx = self.begin().await?;
        let used = query(
            "UPDATE email_confirmations SET used_at = $3 WHERE account_id = $1 AND confirmation_id = $2
             AND used_at IS NULL AND expires_at > $3",
        )
        .bind(confirmation.account.uuid())
        .bind(id)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if used == 0 {
            return Ok(None);
        }
        query(
            "UPDATE user_emails SET verified_at = COALESCE(verified_at, $4)
             WHERE account_id = $1 AND user_id = $2 AND email_key = $3",
        )
        .bind(confirmation.account.uuid())
        .bind(confirmation.user.uuid())
        .bind(keys.index(Index::Address, confirmation.address.key())?)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(confirmation))
    }
}

impl Change {
    /// R12: where there is a relay, a mail with a link goes to an address that waits for proof; not more than one a
    /// day to the same, nor ten a day for one user, nor a hundred for one account, so that nobody is flooded through
    /// us.
    pub(in crate::store) async fn ask_for_confirmation(
        &mut self,
        account: AccountId,
        user: UserId,
        address: &EmailAddress,
    ) -> Result<(), DirectoryError> {
        if self.store.inner.relay_domain.is_none() {
            return Ok(());
        }
        let key = self.row_keys(account).await?.index(Index::Address, address.key())?;
        let (lately, of_address): (i64, i64) = query_as(
            "SELECT COUNT(*), COUNT(CASE WHEN email_key = $3 THEN 1 END) FROM email_confirmations
             WHERE account_id = $1 AND user_id = $2 AND created_at > $4",
        )
        .bind(account.uuid())
        .bind(user.uuid())
        .bind(&key)
        .bind(self.now.plus_days(-1).as_millis())
        .fetch_one(self.on(account).await?)
        .await?;
        let of_account: i64 = query_scalar(
            "SELECT COUNT(*) FROM email_confirmations WHERE account_id = $1 AND created_at > $2",
        )
        .bind(account.uuid())
        .bind(self.now.plus_days(-1).as_millis())
        .fetch_one(self.on(account).await?)
        .await?;
        let is_proven: Option<i64> = query_scalar(
            "SELECT verified_at FROM user_emails WHERE account_id = $1 AND email_key = $2 AND verified_at IS NOT NULL",
        )
        .bind(account.uuid())
        .bind(&key)
        .fetch_optional(self.on(account).await?)
        .await?;
        let is_too_much = lately >= CONFIRMATIONS_A_DAY || of_account >= ACCOUNT_CONFIRMATIONS_A_DAY;
        if is_proven.is_some() || of_address > 0 || is_too_much {
            return Ok(());
        }
        let id = Uuid::now_v7();
        query(
            "INSERT INTO email_confirmations (account_id, confirmation_id, user_id, email_key, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(account.uuid())
        .bind(id)
        .bind(user.uuid())
        .bind(&key)
        .bind(self.now.as_millis())
        .bind(self.now.plus_days(CONFIRMATION_DAYS).as_millis())
        .execute(self.on(account).await?)
        .await?;
        query(INSERT_JOB)
            .bind(account.uuid())
            .bind(id)
            .bind("confirmation")
            .bind(user.uuid())
            .bind(key)
            .bind(self.now.as_millis())
            .execute(self.on(account).await?)
            .await?;
        Ok(())
    }
}

/// Id and tag of a token.
fn read_token(token: &str) -> Option<(Uuid, Uuid)> {
    let (id, tag) = token.split_at_checked(32).filter(|(_, tag)| tag.len() == 32)?;
    Some((Uuid::try_parse(id).ok()?, Uuid::try_parse(tag).ok()?))
}

const INSERT_JOB: &str =
    "INSERT INTO relay_jobs (account_id, job_id, kind, user_id, email_key, state, attempts, next_at, created_at)
     VALUES ($1, $2, $3, $4, $5, 'waiting', 0, $6, $6)";
/// `$1` the confirmation, `$2` now. The link names no account: its id alone finds it.
const SELECT_CONFIRMATION: &str =
    "SELECT c.account_id, c.user_id, c.email_key, e.address, a.name, u.name FROM email_confirmations c
     JOIN user_emails e ON e.account_id = c.account_id AND e.email_key = c.email_key AND e.user_id = c.user_id
     JOIN accounts a ON a.account_id = c.account_id
     JOIN users u ON u.account_id = c.account_id AND u.user_id = c.user_id
     WHERE c.confirmation_id = $1 AND c.used_at IS NULL AND c.expires_at > $2";
/// How long a link works.
pub(in crate::store) const CONFIRMATION_DAYS: i64 = 7;
/// Confirmation mails for one user.
const CONFIRMATIONS_A_DAY: i64 = 10;
/// And for all users of an account: who makes users at will floods nobody either.
const ACCOUNT_CONFIRMATIONS_A_DAY: i64 = 100;
