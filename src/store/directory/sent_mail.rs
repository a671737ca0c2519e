//! Mail that the CRM itself sent, registered so that it shows on the timeline and answers to it find their thread
//! (R40). Nothing raw is kept: there was no raw message here.
//!
//! Registering the same Message-ID again changes nothing and answers the same message.

use uuid::Uuid;

use crate::address::ServedDomains;
use crate::id::{AccountId, ContactId, ConversationId, MessageId, UserId};
use crate::message::{self, Email};
use crate::store::directory::reply_addresses::check_subject;
use crate::store::directory::{Change, Contact, DirectoryError, User};
use crate::store::engine::{query, query_as};
use crate::store::row_keys::{Index, position_of};
use crate::store::views::{Message, read_message};
use crate::time::Timestamp;

/// A mail that the CRM sent.
#[derive(Clone, Debug)]
pub struct SentMail {
    /// Its Message-ID, with or without angle brackets.
    pub message_id_header: String,
    /// To whom.
    pub contact: ContactId,
    /// For whom.
    pub user: UserId,
    /// A conversation on file; none begins one.
    pub conversation: Option<ConversationId>,
    /// Its subject.
    pub subject: String,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// Its text.
    pub text: Option<String>,
    /// Its HTML; the text is made from it where there is none.
    pub html: Option<String>,
}

impl Change {
    /// Registers it.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, or `Conflict` where that Message-ID is on another contact's record.
    pub async fn register_sent_mail(
        &mut self,
        account: AccountId,
        mail: &SentMail,
    ) -> Result<Message, DirectoryError> {
        let header = checked_message_id(&mail.message_id_header)?;
        check_subject(&mail.subject)?;
        let contact = self.contact(account, mail.contact).await?;
        let user = self.user(account, mail.user).await?;
        if let Some(existing) = self.registered(account, mail.contact, &header).await? {
            return self.message(account, existing).await;
        }
        let conversation = self
            .conversation_for(account, mail.contact, Some(mail.user), mail.conversation, &mail.subject)
            .await?;
        let message = MessageId::generate();
        // Never after its receipt: a clock that is ahead must not pin a mail to the top of the timeline.
        let sent_at = mail.sent_at.min(self.now);
        let author = author_of(&user, &self.store.inner.served);
        self.insert_sent(account, message, conversation, &header, &author, mail).await?;
        self.insert_sent_participants(account, message, sent_at, (&user, &author), &contact).await?;
        let key = self.row_keys(account).await?.index(Index::MessageId, header.as_str())?;
        query(
            "INSERT INTO thread_ids (account_id, message_id_header, conversation_id, is_own) VALUES ($1, $2, $3, TRUE)
             ON CONFLICT (account_id, message_id_header, conversation_id) DO UPDATE SET is_own = TRUE",
        )
        .bind(account.uuid())
        .bind(key)
        .bind(conversation.uuid())
        .execute(self.on(account).await?)
        .await?;
        query(
            "UPDATE conversations SET last_at = $3 WHERE account_id = $1 AND conversation_id = $2 AND last_at < $3",
        )
        .bind(account.uuid())
        .bind(conversation.uuid())
        .bind(sent_at.as_millis())
        .execute(self.on(account).await?)
        .await?;
        self.message(account, message).await
    }

    /// The message as this change leaves it.
    async fn message(&mut self, account: AccountId, message: MessageId) -> Result<Message, DirectoryError> {
        let keys = self.row_keys(account).await?;
        let found = read_message(self.on(account).await?, (account, &keys), message).await?;
        found.ok_or(DirectoryError::NotFound("message"))
    }

    async fn registered(
        &mut self,
        account: AccountId,
        contact: ContactId,
        header: &str,
    ) -> Result<Option<MessageId>, DirectoryError> {
        let key = self.row_keys(account).await?.index(Index::MessageId, header)?;
        let row: Option<(Uuid, Uuid)> = query_as(
            "SELECT message_id, contact_id FROM messages WHERE account_id = $1 AND message_id_header = $2
             ORDER BY message_id LIMIT 1",
        )
        .bind(account.uuid())
        .bind(key)
        .fetch_optional(self.on(account).await?)
        .await?;
        match row {
            Some((_, owner)) if owner != contact.uuid() => Err(DirectoryError::Conflict(
                "message_id_header: is already on another contact's record".to_owned(),
            )),
            row => Ok(row.map(|(message, _)| MessageId::from_uuid(message))),
        }
    }

    async fn insert_sent(
        &mut self,
        account: AccountId,
        message: MessageId,
        conversation: ConversationId,
        header: &str,
        author: &str,
        mail: &SentMail,
    ) -> Result<(), DirectoryError> {
        let email = read(mail, author);
        let sent_at = mail.sent_at.min(self.now);
        let (text, new_text) =
            email.as_ref().map_or(("", ""), |email| (email.text.as_str(), email.reply.new_text.as_str()));
        let digest = email.as_ref().map_or([0; 32], |email| email.digest);
        let (keys, id) = (self.row_keys(account).await?, message.uuid());
        let size = mail.text.as_ref().map_or(0, String::len) + mail.html.as_ref().map_or(0, String::len);
        query(
            "INSERT INTO messages (account_id, message_id, conversation_id, contact_id, user_id, direction, kind, sender,
             subject, sent_at, received_at, message_id_header, text, new_text, has_html, flags, attachments, digest, size_bytes)
             VALUES ($1, $2, $3, $4, $5, 'outbound', 'mail', 'verified', $6, $7, $8, $9, $10, $11, FALSE,
             '[\"registered\"]', '[]', $12, $13)",
        )
        .bind(account.uuid())
        .bind(message.uuid())
        .bind(conversation.uuid())
        .bind(mail.contact.uuid())
        .bind(mail.user.uuid())
        .bind(keys.hide("messages.subject", id, mail.subject.trim())?)
        .bind(sent_at.as_millis())
        .bind(self.now.as_millis())
        .bind(keys.index(Index::MessageId, header)?)
        .bind(keys.hide("messages.text", id, text)?)
        .bind(keys.hide("messages.new_text", id, new_text)?)
        .bind(keys.index_octets(Index::Digest, &digest)?)
        .bind(i64::try_from(size).unwrap_or(i64::MAX))
        .execute(self.on(account).await?)
        .await?;
        Ok(())
    }

    async fn insert_sent_participants(
        &mut self,
        account: AccountId,
        message: MessageId,
        sent_at: Timestamp,
        (user, author): (&User, &str),
        contact: &Contact,
    ) -> Result<(), DirectoryError> {
        let people = [
            (0_i64, "from", &user.name, author, None, Some(user.id.uuid())),
            (1, "to", &contact.name, contact.email.as_str(), Some(contact.id.uuid()), None),
        ];
        let keys = self.row_keys(account).await?;
        for (position, role, name, email, contact_id, user_id) in people {
            let row = position_of(message.uuid(), position);
            query(
                "INSERT INTO participants (account_id, message_id, position, role, name, email, contact_id, user_id, sent_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(account.uuid())
            .bind(message.uuid())
            .bind(position)
            .bind(role)
            .bind(keys.hide("participants.name", row, name.as_str())?)
            .bind(keys.hide("participants.email", row, email)?)
            .bind(contact_id)
            .bind(user_id)
            .bind(sent_at.as_millis())
            .execute(self.on(account).await?)
            .await?;
        }
        Ok(())
    }
}

/// RFC 5322 section 2.1.1: no line, and so no Message-ID, is longer.
const MESSAGE_ID_MAX_OCTETS: usize = 998;

fn checked_message_id(given: &str) -> Result<String, DirectoryError> {
    let bare = given.trim();
    let bare = bare.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(bare);
    let is_clean = !bare.is_empty()
        && bare.len() <= MESSAGE_ID_MAX_OCTETS
        && !bare.chars().any(|c| c.is_whitespace() || c.is_control() || c == '<' || c == '>');
    if is_clean {
        Ok(bare.to_owned())
    } else {
        Err(DirectoryError::invalid("message_id_header", "is no Message-ID"))
    }
}

/// The user's first verified address; without any address of theirs, the sync address; of who is erased, none.
fn author_of(user: &User, served: &ServedDomains) -> String {
    let own = user.emails.iter().find(|email| email.verified_at.is_some()).or(user.emails.first());
    own.map(|email| email.address.clone()).or_else(|| user.sync_address(served)).unwrap_or_default()
}

/// The mail as our reader sees it, so that a copy of it that comes in by SMTP later has the same digest (R70).
fn read(mail: &SentMail, author: &str) -> Option<Email> {
    let (subtype, body) = match (&mail.text, &mail.html) {
        (Some(text), _) => ("plain", text.as_str()),
        (None, Some(html)) => ("html", html.as_str()),
        (None, None) => ("plain", ""),
    };
    let raw = format!(
        "From: {author}\r\nSubject: {}\r\nDate: {}\r\nMIME-Version: 1.0\r\nContent-Type: text/{subtype}; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n{body}",
        mail.subject.trim(),
        mail.sent_at.to_rfc5322(),
    );
    message::parse(raw.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_loses_its_brackets_and_must_be_one_word() {
        assert_eq!(checked_message_id(" <a@b.test> ").unwrap(), "a@b.test");
        assert_eq!(checked_message_id("a@b.test").unwrap(), "a@b.test");
        assert!(checked_message_id(&"a".repeat(998)).is_ok());
        for bad in ["", "<>", "a b", "<a>\r\n<b>", &"a".repeat(999)] {
            assert!(checked_message_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn r70_a_registered_mail_has_the_digest_of_its_copy() {
        let mail = SentMail {
            message_id_header: "a@b.test".to_owned(),
            contact: ContactId::generate(),
            user: UserId::generate(),
            conversation: None,
            subject: "Gr\u{fc}\u{df}e".to_owned(),
            sent_at: Timestamp::from_millis(1_795_315_445_000),
            text: Some("Hallo\nAna".to_owned()),
            html: None,
        };
        let copy = b"From: Bo <bo@practice.test>\r\nTo: Ana <ana@patient.test>\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
            Date: Sun, 22 Nov 2026 02:44:05 +0000\r\nMessage-ID: <a@b.test>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
            Hallo\r\nAna\r\n";
        let read = read(&mail, "bo@practice.test").unwrap();
        assert_eq!(read.digest, message::parse(copy).unwrap().digest);
        assert_eq!(read.text.trim(), "Hallo\nAna");
    }
}
