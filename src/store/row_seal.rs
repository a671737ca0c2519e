//! The rows of a batch, sealed before they are written: which of their columns say something of people, table by table.
//!
//! The columns of every table, with what becomes of each, stand in `reseal::tables`.

use crate::id::AccountId;
use crate::store::StoreError;
use crate::store::row_keyring::RowKeySet;
use crate::store::row_keys::{Index, RowKeys, position_of};
use crate::store::rows::{
    ConfirmationRow, ContactRow, DeliveryRow, HeldRow, MessageRow, ParticipantRow, Rows,
};
use crate::store::seal::SealError;

impl Rows {
    /// Nothing is done where rows are clear.
    pub(in crate::store) fn seal(&mut self, keys: &RowKeySet) -> Result<(), StoreError> {
        if matches!(keys, RowKeySet::Clear) {
            return Ok(());
        }
        let of = |account| keys.of(AccountId::from_uuid(account));
        self.contacts.iter_mut().try_for_each(|row| Ok::<_, StoreError>(row.seal(&of(row.account_id)?)?))?;
        for row in &mut self.conversations {
            hide(&of(row.account_id)?, "conversations.subject", row.conversation_id, &mut row.subject)?;
        }
        self.messages.iter_mut().try_for_each(|row| Ok::<_, StoreError>(row.seal(&of(row.account_id)?)?))?;
        self.participants
            .iter_mut()
            .try_for_each(|row| Ok::<_, StoreError>(row.seal(&of(row.account_id)?)?))?;
        for row in &mut self.thread_ids {
            index(&of(row.account_id)?, Index::MessageId, &mut row.message_id_header)?;
        }
        for row in &mut self.relay_jobs {
            index_some(&of(row.account_id)?, Index::Address, &mut row.email_key)?;
        }
        self.confirmations
            .iter_mut()
            .try_for_each(|row| Ok::<_, StoreError>(row.seal(&of(row.account_id)?)?))?;
        self.held.iter_mut().try_for_each(|row| Ok::<_, StoreError>(row.seal(&of(row.account_id)?)?))?;
        self.deliveries
            .iter_mut()
            .try_for_each(|row| Ok::<_, StoreError>(row.seal(&of(row.account_id)?)?))?;
        for row in &mut self.events {
            hide(&of(row.account_id)?, "events.data", row.event_id, &mut row.data)?;
        }
        Ok(())
    }
}

impl ContactRow {
    fn seal(&mut self, keys: &RowKeys) -> Result<(), SealError> {
        hide(keys, "contacts.name", self.contact_id, &mut self.name)?;
        // Part of a name is not found under seal.
        self.name_key.clear();
        hide(keys, "contacts.email", self.contact_id, &mut self.email)?;
        index(keys, Index::Address, &mut self.email_key)
    }
}

impl MessageRow {
    fn seal(&mut self, keys: &RowKeys) -> Result<(), SealError> {
        let id = self.message_id;
        hide(keys, "messages.subject", id, &mut self.subject)?;
        self.text = keys.hide("messages.text", id, self.text.as_str())?.into();
        self.new_text = keys.hide("messages.new_text", id, self.new_text.as_str())?.into();
        hide(keys, "messages.attachments", id, &mut self.attachments)?;
        hide_some(keys, "messages.meeting", id, &mut self.meeting)?;
        index(keys, Index::MessageId, &mut self.message_id_header)?;
        index_some(keys, Index::MessageId, &mut self.in_reply_to)?;
        self.digest = keys.index_octets(Index::Digest, &self.digest)?;
        Ok(())
    }
}

impl ParticipantRow {
    fn seal(&mut self, keys: &RowKeys) -> Result<(), SealError> {
        let row = position_of(self.message_id, self.position);
        hide_some(keys, "participants.name", row, &mut self.name)?;
        hide(keys, "participants.email", row, &mut self.email)
    }
}

impl ConfirmationRow {
    fn seal(&mut self, keys: &RowKeys) -> Result<(), SealError> {
        hide_some(keys, "forwarding_confirmations.code", self.user_id, &mut self.code)?;
        hide_some(keys, "forwarding_confirmations.link", self.user_id, &mut self.link)
    }
}

impl HeldRow {
    fn seal(&mut self, keys: &RowKeys) -> Result<(), SealError> {
        hide(keys, "held.why", self.delivery_id, &mut self.why)?;
        hide(keys, "held.headers", self.delivery_id, &mut self.headers)?;
        index(keys, Index::MessageId, &mut self.message_id_header)?;
        self.digest = keys.index_octets(Index::Digest, &self.digest)?;
        Ok(())
    }
}

impl DeliveryRow {
    fn seal(&mut self, keys: &RowKeys) -> Result<(), SealError> {
        let id = self.delivery_id;
        hide(keys, "deliveries.peer", id, &mut self.peer)?;
        hide(keys, "deliveries.helo", id, &mut self.helo)?;
        hide_some(keys, "deliveries.mail_from", id, &mut self.mail_from)?;
        hide_some(keys, "deliveries.rcpt", id, &mut self.rcpt)?;
        hide_some(keys, "deliveries.from_address", id, &mut self.from_address)?;
        index_some(keys, Index::MessageId, &mut self.message_id_header)?;
        self.auth = keys.hide_some("deliveries.auth", id, self.auth.as_deref())?.map(Into::into);
        hide(keys, "deliveries.smtp", id, &mut self.smtp)?;
        hide(keys, "deliveries.steps", id, &mut self.steps)
    }
}

fn hide(
    keys: &RowKeys,
    column: &'static str,
    row: impl AsRef<[u8]>,
    text: &mut String,
) -> Result<(), SealError> {
    *text = keys.hide(column, row, std::mem::take(text))?;
    Ok(())
}

fn hide_some(
    keys: &RowKeys,
    column: &'static str,
    row: impl AsRef<[u8]>,
    text: &mut Option<String>,
) -> Result<(), SealError> {
    text.as_mut().map_or(Ok(()), |text| hide(keys, column, row, text))
}

fn index(keys: &RowKeys, kind: Index, text: &mut String) -> Result<(), SealError> {
    *text = keys.index(kind, std::mem::take(text))?;
    Ok(())
}

fn index_some(keys: &RowKeys, kind: Index, text: &mut Option<String>) -> Result<(), SealError> {
    text.as_mut().map_or(Ok(()), |text| index(keys, kind, text))
}

/// On the way of a statement: what cannot be sealed or opened fails alone, as a value that cannot be written or read.
pub(in crate::store) fn unreadable(error: StoreError) -> sqlx::Error {
    if let StoreError::Database(error) = error {
        return error;
    }
    sqlx::Error::Decode(Box::new(error))
}
