//! What a job of the relay is about, read when it is sent: nothing of it is stored twice, and whom it goes to is
//! decided by what is on file now. A copy goes to the conversation's contact or to staff, and to nobody else.

use std::collections::HashMap;

use uuid::Uuid;

use crate::address::EmailAddress;
use crate::address::token::ReplyToken;
use crate::filing::{ForwardReplies, ForwardWord, Settings};
use crate::id::{AccountId, ConversationId, UserId};
use crate::store::directory::MERGES_MAX;
use crate::store::engine::{query_as, query_scalar};
use crate::store::facts::day;
use crate::store::relay::{job_of_message_id, message_id_header};
use crate::store::relay_jobs::{RelayJob, RelayKind};
use crate::store::row_keys::Index;
use crate::store::undo_link::Undoable;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// What a copy is made of.
#[derive(Clone, Debug)]
pub struct CopyFacts {
    /// The message as stored.
    pub raw: Vec<u8>,
    /// Its Message-ID.
    pub message_id_header: String,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// `verified`, `unverified` or `unknown`.
    pub sender: String,
    /// The account's name.
    pub account_name: String,
    /// The contact.
    pub contact_name: String,
    /// The user's name; none for a conversation without one.
    pub user_name: Option<String>,
    /// Every address of that user, and that of the setting: none of them is for the contact's eyes.
    pub staff_addresses: Vec<EmailAddress>,
    /// To whom it goes.
    pub to: EmailAddress,
    /// From where it goes, and where answers come.
    pub reply_address: EmailAddress,
}

/// What a digest says.
#[derive(Clone, Debug)]
pub struct DigestFacts {
    /// The account's name.
    pub account_name: String,
    /// The user's name.
    pub user_name: String,
    /// A verified address of theirs.
    pub to: EmailAddress,
    /// How much waits, by reason.
    pub waiting: Vec<(String, u64)>,
    /// R70a: what was filed for them of what came since the mail that the last digest told of, newest first.
    pub filed: Vec<Undoable>,
    /// Whether more was.
    pub is_more_filed: bool,
}

/// There is nothing to send, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone(pub &'static str);

type MessageRow = (String, i64, String);
type ConversationRow = (Uuid, Option<Uuid>, Option<i64>);

impl Store {
    /// What a copy is made of (R46, R49).
    ///
    /// # Errors
    /// If the database fails, or the stored message is damaged.
    pub async fn copy_facts(
        &self,
        job: &RelayJob,
        now: Timestamp,
    ) -> Result<Result<CopyFacts, Gone>, StoreError> {
        let Some(message) = self.relay_message(job).await? else {
            return Ok(Err(Gone("the message is gone")));
        };
        let Some((conversation, contact)) = self.open_conversation(job).await? else {
            return Ok(Err(Gone("the conversation is gone, or its reply addresses were revoked")));
        };
        let (account_name, settings) = self.account_of(job.account).await?;
        let person: Option<(String, String)> =
            query_as("SELECT name, email FROM contacts WHERE account_id = $1 AND contact_id = $2")
                .bind(job.account.uuid())
                .bind(contact)
                .fetch_optional(self.reader())
                .await?;
        let Some((contact_name, contact_email)) = person else { return Ok(Err(Gone("the contact is gone"))) };
        let keys = self.row_keys(job.account).await?;
        let contact_name = keys.show("contacts.name", contact, contact_name)?;
        let contact_email = keys.show("contacts.email", contact, contact_email)?;
        let (user_name, emails) = self.staff(job.account, job.user).await?;
        let set = match &settings.forward_replies {
            ForwardReplies::Address(address) => EmailAddress::parse(address),
            ForwardReplies::Word(_) => None,
        };
        let to = match (job.kind, &settings.forward_replies) {
            (RelayKind::Contact, _) => EmailAddress::parse(&contact_email),
            (_, ForwardReplies::Address(_)) => set.clone(),
            (_, ForwardReplies::Word(ForwardWord::User)) => emails.first_verified(),
            (_, ForwardReplies::Word(ForwardWord::Off)) => None,
        };
        let Some(to) = to else { return Ok(Err(Gone("there is nobody to send it to any more"))) };
        let Some(raw) = self.raw_message(job.account, job.message()).await? else {
            return Ok(Err(Gone("the content is gone")));
        };
        let (message_id_header, sent_at, sender) = message;
        let message_id_header = keys.show_index(Index::MessageId, message_id_header)?;
        Ok(Ok(CopyFacts {
            raw,
            message_id_header,
            sent_at: Timestamp::from_millis(sent_at),
            sender,
            account_name,
            contact_name,
            user_name,
            staff_addresses: emails.0.into_iter().map(|(address, _)| address).chain(set).collect(),
            to,
            reply_address: self.reply_address_of(conversation, now)?,
        }))
    }

    /// The Message-IDs of which these, where they are ours, are copies; and whether staff wrote them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn originals(
        &self,
        account: AccountId,
        ids: &[String],
    ) -> Result<HashMap<String, (String, bool)>, StoreError> {
        let domains = self.inner.served.all();
        let keys = self.row_keys(account).await?;
        let mut originals = HashMap::new();
        for (id, job) in ids.iter().filter_map(|id| Some((id, job_of_message_id(id, &domains)?))) {
            let found: Option<(String, String)> = query_as(
                "SELECT message_id_header, direction FROM messages WHERE account_id = $1 AND message_id = COALESCE(
                 (SELECT j.message_id FROM relay_jobs j WHERE j.account_id = $1 AND j.job_id = $2), $2)",
            )
            .bind(account.uuid())
            .bind(job)
            .fetch_optional(self.reader())
            .await?;
            let Some((header, direction)) = found else { continue };
            let header = keys.show_index(Index::MessageId, header)?;
            originals.insert(id.clone(), (header, direction == "outbound"));
        }
        Ok(originals)
    }

    /// What waits for a user, and where to tell them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn digest_facts(&self, job: &RelayJob) -> Result<Result<DigestFacts, Gone>, StoreError> {
        let (Some(user_name), emails) = self.staff(job.account, job.user).await? else {
            return Ok(Err(Gone("the user is gone")));
        };
        let Some(to) = emails.first_verified() else {
            return Ok(Err(Gone("the user has no verified address")));
        };
        let waiting: Vec<(String, i64)> = query_as(
            "SELECT reason, COUNT(*) FROM held WHERE account_id = $1 AND user_id = $2 GROUP BY reason ORDER BY reason",
        )
        .bind(job.account.uuid())
        .bind(job.user.map(UserId::uuid))
        .fetch_all(self.reader())
        .await?;
        if waiting.is_empty() {
            return Ok(Err(Gone("nothing waits any more")));
        }
        let waiting = waiting.into_iter();
        let waiting = waiting.map(|(reason, n)| (reason, u64::try_from(n).unwrap_or_default())).collect();
        let (account_name, _) = self.account_of(job.account).await?;
        let (filed, is_more_filed) = match job.user {
            Some(user) => self.filed_lately(job.account, user, self.last_digest(job, user).await?).await?,
            None => (Vec::new(), false),
        };
        Ok(Ok(DigestFacts { account_name, user_name, to, waiting, filed, is_more_filed }))
    }

    /// Up to when the digest before this one has told of mail; a week ago at most.
    async fn last_digest(&self, job: &RelayJob, user: UserId) -> Result<Timestamp, StoreError> {
        let week_ago = job.created_at.plus_days(-7);
        let at: Option<i64> = query_scalar(
            "SELECT MAX(at) FROM relay_digests WHERE account_id = $1 AND user_id = $2 AND day < $3",
        )
        .bind(job.account.uuid())
        .bind(user.uuid())
        .bind(day(job.created_at))
        .fetch_one(self.reader())
        .await?;
        Ok(at.map_or(week_ago, Timestamp::from_millis).max(week_ago))
    }

    /// The name of an account, and of a user.
    ///
    /// # Errors
    /// If the database fails, or there is no such account.
    pub async fn names(
        &self,
        account: AccountId,
        user: Option<UserId>,
    ) -> Result<(String, Option<String>), StoreError> {
        Ok((self.account_of(account).await?.0, self.staff(account, user).await?.0))
    }

    /// The Message-ID of a job's mail.
    #[must_use]
    pub fn relay_message_id(&self, job: &RelayJob) -> String {
        message_id_header(job.id, self.inner.served.reply_domain())
    }

    async fn relay_message(&self, job: &RelayJob) -> Result<Option<MessageRow>, StoreError> {
        Ok(query_as(
            "SELECT message_id_header, sent_at, sender FROM messages WHERE account_id = $1 AND message_id = $2",
        )
        .bind(job.account.uuid())
        .bind(job.message().uuid())
        .fetch_optional(self.reader())
        .await?)
    }

    /// After merges (R41), with its contact; none if it is gone or takes no answers any more.
    async fn open_conversation(&self, job: &RelayJob) -> Result<Option<(ConversationId, Uuid)>, StoreError> {
        let mut id = job.conversation.map(ConversationId::uuid);
        for _ in 0..MERGES_MAX {
            let row: Option<ConversationRow> = query_as(
                "SELECT contact_id, merged_into, reply_revoked_at FROM conversations
                 WHERE account_id = $1 AND conversation_id = $2",
            )
            .bind(job.account.uuid())
            .bind(id)
            .fetch_optional(self.reader())
            .await?;
            match (row, id) {
                (Some((_, Some(merged_into), _)), _) => id = Some(merged_into),
                (Some((contact, None, None)), Some(id)) => {
                    return Ok(Some((ConversationId::from_uuid(id), contact)));
                }
                (Some((_, None, _)) | None, _) => break,
            }
        }
        Ok(None)
    }

    async fn account_of(&self, account: AccountId) -> Result<(String, Settings), StoreError> {
        let row: Option<(String, String)> =
            query_as("SELECT name, settings FROM accounts WHERE account_id = $1")
                .bind(account.uuid())
                .fetch_optional(self.reader())
                .await?;
        let (name, settings) = row.ok_or(StoreError::NoSuchAccount)?;
        let keys = self.operator_row_keys();
        let name = keys.show("accounts.name", account.uuid(), name)?;
        let settings = keys.show("accounts.settings", account.uuid(), settings)?;
        let settings =
            serde_json::from_str(&settings).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok((name, settings))
    }

    /// A user's name and addresses.
    async fn staff(
        &self,
        account: AccountId,
        user: Option<UserId>,
    ) -> Result<(Option<String>, Emails), StoreError> {
        let Some(user) = user else { return Ok((None, Emails(Vec::new()))) };
        let name: Option<String> =
            query_scalar("SELECT name FROM users WHERE account_id = $1 AND user_id = $2")
                .bind(account.uuid())
                .bind(user.uuid())
                .fetch_optional(self.reader())
                .await?;
        let rows: Vec<(String, String, Option<i64>)> = query_as(
            "SELECT email_key, address, verified_at FROM user_emails WHERE account_id = $1 AND user_id = $2",
        )
        .bind(account.uuid())
        .bind(user.uuid())
        .fetch_all(self.reader())
        .await?;
        let keys = self.row_keys(account).await?;
        let mut emails = Vec::with_capacity(rows.len());
        for (key, text, at) in rows {
            let text = keys.show("user_emails.address", key, text)?;
            emails.extend(EmailAddress::parse(&text).map(|address| (address, at)));
        }
        Ok((keys.show_some("users.name", user.uuid(), name)?, Emails(emails)))
    }

    fn reply_address_of(
        &self,
        conversation: ConversationId,
        now: Timestamp,
    ) -> Result<EmailAddress, StoreError> {
        let missing = StoreError::Defect("a reply address could not be made");
        let keys = self.inner.keys.reply_tokens();
        let Some(key) = keys.last() else { return Err(missing) };
        let local = ReplyToken::mint(conversation, ReplyToken::day_of(now), key);
        EmailAddress::parse(&format!("{local}@{}", self.inner.served.reply_domain())).ok_or(missing)
    }
}

/// Addresses with the time they were verified.
struct Emails(Vec<(EmailAddress, Option<i64>)>);

impl Emails {
    /// In the order of [`crate::filing::RelayFacts::staff`].
    fn first_verified(&self) -> Option<EmailAddress> {
        let verified = self.0.iter().filter_map(|(address, at)| Some((at.as_ref()?, address)));
        verified.min_by_key(|(at, address)| (**at, address.as_str())).map(|(_, address)| address.clone())
    }
}
