//! R70a: a filed mail is taken back from the record, as if it had never come: within 30 days of its receipt.
//!
//! With it goes what it alone has brought about: the contact and the conversation that it began, the marks that it
//! set. A retry of the same mail does not bring it back (R60).

use serde_json::json;
use uuid::Uuid;

use crate::id::{AccountId, ContactId, ConversationId, MessageId, UserId};
use crate::store::Store;
use crate::store::directory::erase::{Doomed, Erased, Extent, doomed};
use crate::store::directory::{Change, DirectoryError, Log};
use crate::store::engine::query_as;
use crate::time::Timestamp;

/// What an undo took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// The message.
    pub message: MessageId,
    /// The contact that went with it: it was made by this message, and nothing else hangs on it.
    pub contact: Option<ContactId>,
    /// The conversation that went with it, likewise.
    pub conversation: Option<ConversationId>,
    /// The marks that it had set: (contact, user).
    pub marks: Vec<(ContactId, UserId)>,
    /// How much that was.
    pub erased: Erased,
}

impl Store {
    /// Erases, before a mail is taken back, the traces of it that one transaction has no room for; each piece is noted
    /// in the audit (R64).
    ///
    /// # Errors
    /// As [`Change::undo_message`].
    pub async fn make_way_for_undo(
        &self,
        account: AccountId,
        message: MessageId,
        actor: &str,
    ) -> Result<(), DirectoryError> {
        loop {
            let mut change = self.change().await?;
            change.found_to_undo(account, message).await?;
            let gone = change.erase_surplus_traces(account, &[message.uuid()]).await?;
            if gone == 0 {
                return Ok(());
            }
            let counts = Erased { deliveries: gone, ..Erased::default() }.counts();
            change.note(account, actor, "undo", format!("messages/{message}"), Some(counts)).await?;
            change.commit().await?;
        }
    }
}

impl Change {
    /// Takes a filed mail back from the record.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` after 30 days and while the account's import is not finished.
    pub async fn undo_message(
        &mut self,
        account: AccountId,
        message: MessageId,
        actor: &str,
    ) -> Result<Undone, DirectoryError> {
        let found = self.found_to_undo(account, message).await?;
        let erased = self.erase_messages(account, &[message.uuid()], Extent::Everything).await?;
        self.log = Log::Forget;
        let marks = self.end_marks_of(account, message).await?;
        let conversation = self.end_conversation_of(account, &found).await?;
        let contact = self.end_contact_of(account, &found).await?;
        let data = json!({
            "message_id": message, "conversation_id": found.conversation_id, "contact_id": found.contact_id,
        });
        self.emit(account, "message.undone", Some(ConversationId::from_uuid(found.conversation_id)), &data)
            .await?;
        self.note(account, actor, "undo", format!("messages/{message}"), Some(erased.counts())).await?;
        Ok(Undone { message, contact, conversation, marks, erased })
    }

    /// The mail, if it may be taken back.
    async fn found_to_undo(
        &mut self,
        account: AccountId,
        message: MessageId,
    ) -> Result<Doomed, DirectoryError> {
        self.refuse_while_importing(account).await?;
        let keys = self.row_keys(account).await?;
        let found = doomed(self.on(account).await?, (account, &keys), &[message.uuid()]).await?;
        let found = found.into_iter().next().ok_or(DirectoryError::NotFound("message"))?;
        if undo_ends(Timestamp::from_millis(found.received_at)) <= self.now {
            return Err(DirectoryError::Conflict(format!(
                "a mail can be taken back for {UNDO_DAYS} days; this one is older: purge it"
            )));
        }
        Ok(found)
    }

    /// R29: the marks that it has set.
    async fn end_marks_of(
        &mut self,
        account: AccountId,
        message: MessageId,
    ) -> Result<Vec<(ContactId, UserId)>, DirectoryError> {
        let gone: Vec<(Uuid, Uuid)> = query_as(
            "DELETE FROM sync_marks WHERE account_id = $1 AND because = $2 AND state = 'on'
             RETURNING contact_id, user_id",
        )
        .bind(account.uuid())
        .bind(message.to_string())
        .fetch_all(self.on(account).await?)
        .await?;
        let mut marks = Vec::with_capacity(gone.len());
        for (contact, user) in gone {
            let (contact, user) = (ContactId::from_uuid(contact), UserId::from_uuid(user));
            let data = json!({ "contact_id": contact, "user_id": user, "because": "undo" });
            self.emit(account, "contact.sync_off", None, &data).await?;
            marks.push((contact, user));
        }
        Ok(marks)
    }

    /// The conversation that this message began, if no other is in it. One that the CRM made has a reply address in
    /// the world, and stays.
    async fn end_conversation_of(
        &mut self,
        account: AccountId,
        found: &Doomed,
    ) -> Result<Option<ConversationId>, DirectoryError> {
        let gone: Option<(Uuid,)> = query_as(
            "DELETE FROM conversations WHERE account_id = $1 AND conversation_id = $2 AND created_at = $3
             AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.account_id = conversations.account_id
             AND m.conversation_id = conversations.conversation_id)
             AND NOT EXISTS (SELECT 1 FROM conversations o WHERE o.account_id = conversations.account_id
             AND o.contact_id = conversations.contact_id AND o.merged_into = conversations.conversation_id)
             RETURNING conversation_id",
        )
        .bind(account.uuid())
        .bind(found.conversation_id)
        .bind(found.received_at)
        .fetch_optional(self.on(account).await?)
        .await?;
        Ok(gone.map(|(id,)| ConversationId::from_uuid(id)))
    }

    /// R24: the contact that this message made, if nothing else hangs on it.
    async fn end_contact_of(
        &mut self,
        account: AccountId,
        found: &Doomed,
    ) -> Result<Option<ContactId>, DirectoryError> {
        let alone: Option<(Uuid,)> = query_as(
            "SELECT c.contact_id FROM contacts c WHERE c.account_id = $1 AND c.contact_id = $2
             AND c.created_by = 'sync' AND c.created_at = $3
             AND NOT EXISTS (SELECT 1 FROM conversations v WHERE v.account_id = c.account_id AND v.contact_id = c.contact_id)
             AND NOT EXISTS (SELECT 1 FROM participants p WHERE p.account_id = c.account_id AND p.contact_id = c.contact_id)
             AND NOT EXISTS (SELECT 1 FROM sync_marks s WHERE s.account_id = c.account_id AND s.contact_id = c.contact_id)
             AND NOT EXISTS (SELECT 1 FROM held h WHERE h.account_id = c.account_id AND h.contact_id = c.contact_id)",
        )
        .bind(account.uuid())
        .bind(found.contact_id)
        .bind(found.received_at)
        .fetch_optional(self.on(account).await?)
        .await?;
        let Some((contact,)) = alone else { return Ok(None) };
        let contact = ContactId::from_uuid(contact);
        self.end_young_contact(account, contact, Timestamp::from_millis(found.received_at)).await?;
        Ok(Some(contact))
    }
}

/// R70a: from when on a mail that was received then is not taken back any more.
#[must_use]
pub const fn undo_ends(received_at: Timestamp) -> Timestamp {
    received_at.plus_days(UNDO_DAYS)
}

/// R70a.
const UNDO_DAYS: i64 = 30;
