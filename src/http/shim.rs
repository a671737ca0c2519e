//! Stands in for what the branches `store` and `message` bring; goes away when they are merged.

use crate::id::{AccountId, MessageId};
use crate::store::{Store, StoreError};

pub(super) async fn raw_message(
    _store: &Store,
    _account: AccountId,
    _message: MessageId,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(None)
}

pub(super) fn open_attachment(_raw: &[u8], _n: usize) -> Option<Vec<u8>> {
    None
}

pub(super) fn html(_raw: &[u8]) -> Option<String> {
    None
}
