//! Reply addresses (CONTRACT, "Addresses"): the CRM asks for one, puts it into Reply-To, and the answer comes here.

use uuid::Uuid;

use crate::address::token::ReplyToken;
use crate::id::{AccountId, ContactId, ConversationId, UserId};
use crate::store::StoreError;
use crate::store::directory::{Addresses, Change, DirectoryError};
use crate::store::engine::{query, query_as};

/// What a reply address is for.
#[derive(Clone, Debug)]
pub struct NewReplyAddress {
    /// Whose answer is awaited.
    pub contact: ContactId,
    /// The user on the practice's side.
    pub user: Option<UserId>,
    /// A conversation on file; none begins one.
    pub conversation: Option<ConversationId>,
    /// The subject of a new conversation.
    pub subject: Option<String>,
}

/// A reply address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyAddress {
    /// `r-<token>@<reply domain>`.
    pub address: String,
    /// The conversation that its answers join.
    pub conversation: ConversationId,
}

impl Change {
    /// Mints a reply address with the newest key.
    ///
    /// # Errors
    /// `NotFound` for contact, user or conversation; `Conflict` if the conversation is another contact's or its
    /// reply addresses were revoked.
    pub async fn create_reply_address(
        &mut self,
        account: AccountId,
        new: &NewReplyAddress,
    ) -> Result<ReplyAddress, DirectoryError> {
        let contact = new.contact;
        self.contact(account, contact).await?;
        if let Some(user) = new.user {
            self.user(account, user).await?;
        }
        let subject = new.subject.as_deref().unwrap_or_default();
        let conversation =
            self.conversation_for(account, contact, new.user, new.conversation, subject).await?;
        let keys = self.store.inner.keys.reply_tokens();
        let key = keys.last().ok_or(StoreError::from(crate::store::seal::SealError::Failed))?;
        let local = ReplyToken::mint(conversation, ReplyToken::day_of(self.now), key);
        let domain = self.store.inner.served.reply_domain();
        Ok(ReplyAddress { address: format!("{local}@{domain}"), conversation })
    }

    /// Revokes the reply addresses of a conversation, of those merged into it, and of the one that it was merged into:
    /// a token of any of them leads here.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_reply_addresses(
        &mut self,
        account: AccountId,
        conversation: ConversationId,
    ) -> Result<(), DirectoryError> {
        let mut id = conversation.uuid();
        for hop in 0..MERGES_MAX {
            let merged_into: Option<(Option<Uuid>,)> = query_as(
                "SELECT merged_into FROM conversations WHERE account_id = $1 AND conversation_id = $2",
            )
            .bind(account.uuid())
            .bind(id)
            .fetch_optional(self.on(account).await?)
            .await?;
            match merged_into {
                None if hop == 0 => return Err(DirectoryError::NotFound("conversation")),
                None | Some((None,)) => break,
                Some((Some(older),)) => id = older,
            }
        }
        // Whoever looks up a token follows the chain to its end, and takes one revoked link for all.
        query(
            "UPDATE conversations SET reply_revoked_at = COALESCE(reply_revoked_at, $3)
             WHERE account_id = $1 AND conversation_id = $2",
        )
        .bind(account.uuid())
        .bind(id)
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        self.addresses = Addresses::Changed;
        Ok(())
    }

    /// The conversation given, after merges (R41), if it is this contact's; a new one if none is given.
    pub(super) async fn conversation_for(
        &mut self,
        account: AccountId,
        contact: ContactId,
        user: Option<UserId>,
        given: Option<ConversationId>,
        subject: &str,
    ) -> Result<ConversationId, DirectoryError> {
        match given {
            Some(given) => self.existing_conversation(account, contact, given).await,
            None => self.new_conversation(account, contact, user, subject).await,
        }
    }

    async fn existing_conversation(
        &mut self,
        account: AccountId,
        contact: ContactId,
        given: ConversationId,
    ) -> Result<ConversationId, DirectoryError> {
        let mut id = given.uuid();
        for _ in 0..MERGES_MAX {
            let row: Option<(Uuid, Option<Uuid>, Option<i64>)> = query_as(
                "SELECT contact_id, merged_into, reply_revoked_at FROM conversations
                 WHERE account_id = $1 AND conversation_id = $2",
            )
            .bind(account.uuid())
            .bind(id)
            .fetch_optional(self.on(account).await?)
            .await?;
            match row {
                None => break,
                Some((_, Some(merged_into), _)) => id = merged_into,
                Some((owner, ..)) if owner != contact.uuid() => {
                    return Err(DirectoryError::Conflict("conversation_id: is another contact's".to_owned()));
                }
                Some((.., Some(_))) => {
                    return Err(DirectoryError::Conflict(
                        "conversation_id: its addresses were revoked".to_owned(),
                    ));
                }
                Some(_) => return Ok(ConversationId::from_uuid(id)),
            }
        }
        Err(DirectoryError::NotFound("conversation"))
    }

    async fn new_conversation(
        &mut self,
        account: AccountId,
        contact: ContactId,
        user: Option<UserId>,
        subject: &str,
    ) -> Result<ConversationId, DirectoryError> {
        check_subject(subject)?;
        let conversation = ConversationId::generate();
        let keys = self.row_keys(account).await?;
        let subject = keys.hide("conversations.subject", conversation.uuid(), subject.trim())?;
        query(
            "INSERT INTO conversations (account_id, conversation_id, contact_id, user_id, subject, created_at, last_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6)",
        )
        .bind(account.uuid())
        .bind(conversation.uuid())
        .bind(contact.uuid())
        .bind(user.map(UserId::uuid))
        .bind(subject)
        .bind(self.now.as_millis())
        .execute(self.on(account).await?)
        .await?;
        Ok(conversation)
    }
}

/// A chain of merges is as long as the thread was torn; this only ends a loop that must not exist.
pub(in crate::store) const MERGES_MAX: usize = 100;
/// A subject is one line: what breaks it would begin a header field of its own.
pub(super) fn check_subject(subject: &str) -> Result<(), DirectoryError> {
    if subject.chars().count() > SUBJECT_MAX_CHARS {
        return Err(DirectoryError::invalid("subject", format!("at most {SUBJECT_MAX_CHARS} characters")));
    }
    if subject.chars().any(char::is_control) {
        return Err(DirectoryError::invalid("subject", "must not hold control characters"));
    }
    Ok(())
}

/// RFC 5322 section 2.1.1 folds at 998 octets; nobody types more.
const SUBJECT_MAX_CHARS: usize = 998;
