//! Sealing: zstd, then AES-256-GCM with a fresh key per message, wrapped by the account's key, wrapped by the
//! master key. Associated data binds account and message, so that nothing sealed opens in another place.
//!
//! Promises that erasing the row that holds a content key makes every copy of its blob unreadable (R60).

use std::cell::RefCell;
use std::io::Write;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use uuid::Uuid;
use zeroize::Zeroizing;
use zstd::bulk::Compressor;
use zstd::stream::write::Encoder;

use crate::id::AccountId;
use crate::keys::Secret;

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another key sealed it, it belongs elsewhere, or it was changed.
    #[error("sealed content does not open: wrong key, or changed")]
    DoesNotOpen,
    /// It opened, but does not unpack.
    #[error("sealed content does not unpack")]
    DoesNotUnpack,
    /// The system gave no random octets, or the cipher refused.
    #[error("sealing failed")]
    Failed,
}

/// Holds the master key; makes and opens account keys.
#[derive(Clone, Debug)]
pub struct Vault {
    master: Secret,
}

/// Names a master key without telling anything of it: 8 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterKeyId([u8; MASTER_ID_LEN]);

impl std::fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// An account's key, unwrapped. Shows nothing in Debug.
#[derive(Clone, Debug)]
pub struct AccountKey {
    account: AccountId,
    key: Secret,
}

/// A sealed message: the wrapped content key, which stays in the row, and the ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The content key, wrapped by the account's key.
    pub content_key: Vec<u8>,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl Vault {
    /// With the master key.
    #[must_use]
    pub const fn new(master: Secret) -> Self {
        Self { master }
    }

    /// The id of the master key: the start of an HMAC-SHA-256 under it, of a text of its own.
    #[must_use]
    pub fn master_id(&self) -> MasterKeyId {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.master.expose()), MASTER_ID_TEXT);
        let mut id = [0; MASTER_ID_LEN];
        id.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        MasterKeyId(id)
    }

    /// The master key that wrapped an account's key; none where the wrapping does not say.
    #[must_use]
    pub fn wrapped_by(wrapped: &[u8]) -> Option<MasterKeyId> {
        wrapped.get(WRAPPED_LEN..)?.try_into().ok().map(MasterKeyId)
    }

    /// A fresh account key, wrapped, and the id of the master key behind it: what the accounts table keeps.
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn new_account_key(&self, account: AccountId) -> Result<Vec<u8>, SealError> {
        let key = fresh_key()?;
        let mut wrapped = encrypt(self.master.expose(), account_binding(account), key.as_slice())?;
        wrapped.extend_from_slice(&self.master_id().0);
        Ok(wrapped)
    }

    /// Unwraps an account's key.
    ///
    /// # Errors
    /// If another master key wrapped it, or for another account.
    pub fn open_account_key(&self, account: AccountId, wrapped: &[u8]) -> Result<AccountKey, SealError> {
        let wrapped = wrapped.get(..WRAPPED_LEN).unwrap_or(wrapped);
        let key = decrypt(self.master.expose(), account_binding(account), wrapped)?;
        let bytes: [u8; 32] = key.as_slice().try_into().map_err(|_| SealError::DoesNotOpen)?;
        Ok(AccountKey { account, key: Secret::from_bytes(bytes) })
    }
}

impl AccountKey {
    /// Compresses and seals the content of `id` (a message's or a held delivery's UUID).
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn seal(&self, id: Uuid, content: &[u8]) -> Result<Sealed, SealError> {
        // One buffer from compression to tag: a large mail is not held three times.
        let mut sealed = vec![0; NONCE_LEN];
        sealed.extend_from_slice(&(content.len() as u64).to_be_bytes());
        let packed = compress_onto(sealed, content)?;
        let key = fresh_key()?;
        let binding = self.binding(id);
        Ok(Sealed {
            content_key: encrypt(self.key.expose(), binding, key.as_slice())?,
            bytes: encrypt_in_place(&key, binding, packed)?,
        })
    }

    /// Opens what [`Self::seal`] sealed for the same account and id.
    ///
    /// # Errors
    /// If it was sealed for something else, or changed.
    pub fn open(&self, id: Uuid, content_key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let binding = self.binding(id);
        let key = decrypt(self.key.expose(), binding, content_key)?;
        let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| SealError::DoesNotOpen)?;
        let packed = decrypt(key, binding, sealed)?;
        let (length, packed) = packed.split_first_chunk::<8>().ok_or(SealError::DoesNotUnpack)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| SealError::DoesNotUnpack)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        zstd::bulk::decompress(packed, length).map_err(|_| SealError::DoesNotUnpack)
    }

    /// A fresh row key of this account, wrapped, for the table of row keys.
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn new_row_key(&self) -> Result<Vec<u8>, SealError> {
        let key = fresh_key()?;
        encrypt(self.key.expose(), row_binding(self.account), key.as_slice())
    }

    /// Unwraps the account's row key.
    ///
    /// # Errors
    /// If another key wrapped it, or for another account.
    pub fn open_row_key(&self, wrapped: &[u8]) -> Result<Secret, SealError> {
        let key = decrypt(self.key.expose(), row_binding(self.account), wrapped)?;
        let bytes: [u8; 32] = key.as_slice().try_into().map_err(|_| SealError::DoesNotOpen)?;
        Ok(Secret::from_bytes(bytes))
    }

    /// The row key, wrapped by this key of the account instead of another.
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn wrap_row_key(&self, key: &Secret) -> Result<Vec<u8>, SealError> {
        encrypt(self.key.expose(), row_binding(self.account), key.expose())
    }

    fn binding(&self, id: Uuid) -> [u8; 32] {
        let mut binding = [0; 32];
        let bytes = self.account.uuid().into_bytes().into_iter().chain(id.into_bytes());
        binding.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        binding
    }
}

/// Setting up a compressor costs as much as packing a small mail: each thread keeps one for those. A large mail gets
/// its own, since one that is kept never shrinks.
pub(in crate::store) fn compress_onto(mut front: Vec<u8>, content: &[u8]) -> Result<Vec<u8>, SealError> {
    if content.len() > MAX_KEPT_CONTENT {
        let packed = Encoder::new(front, ZSTD_LEVEL).and_then(|mut encoder| {
            encoder.write_all(content)?;
            encoder.finish()
        });
        return packed.map_err(|_| SealError::Failed);
    }
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(ZSTD_LEVEL).map_err(|_| SealError::Failed)?),
        };
        front.extend(compressor.compress(content).map_err(|_| SealError::Failed)?);
        Ok(front)
    })
}

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

const MAX_KEPT_CONTENT: usize = 256 * 1024;
/// Level 1: mail is mostly base64 and small; a higher level costs more than it saves.
const ZSTD_LEVEL: i32 = 1;

/// Nonce, key and tag.
const WRAPPED_LEN: usize = NONCE_LEN + 32 + 16;
const MASTER_ID_LEN: usize = 4;
const MASTER_ID_TEXT: &[u8] = b"syncmx master key id";

fn account_binding(account: AccountId) -> [u8; 32] {
    let mut binding = *b"syncmx account key..............";
    binding.iter_mut().skip(16).zip(account.uuid().into_bytes()).for_each(|(to, from)| *to = from);
    binding
}

fn row_binding(account: AccountId) -> [u8; 32] {
    let mut binding = *b"syncmx row key..................";
    binding.iter_mut().skip(16).zip(account.uuid().into_bytes()).for_each(|(to, from)| *to = from);
    binding
}

fn fresh_key() -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(key.as_mut()).map_err(|_| SealError::Failed)?;
    Ok(key)
}

/// Nonce, ciphertext, tag.
fn encrypt(key: &[u8; 32], binding: [u8; 32], content: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + content.len() + AES_256_GCM.tag_len());
    sealed.resize(NONCE_LEN, 0);
    sealed.extend_from_slice(content);
    encrypt_in_place(key, binding, sealed)
}

/// The same, of content that stands behind [`NONCE_LEN`] octets.
fn encrypt_in_place(key: &[u8; 32], binding: [u8; 32], mut sealed: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Failed)?;
    let (front, body) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or(SealError::Failed)?;
    *front = nonce;
    let tag = cipher(key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(binding), body)
        .map_err(|_| SealError::Failed)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn decrypt(key: &[u8; 32], binding: [u8; 32], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::DoesNotOpen)?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = cipher(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(binding), body.as_mut_slice())
        .map_err(|_| SealError::DoesNotOpen)?
        .len();
    body.truncate(length);
    Ok(body)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| SealError::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(octet: u8) -> Vault {
        Vault::new(Secret::from_bytes([octet; 32]))
    }

    fn account_key(vault: &Vault, account: AccountId) -> AccountKey {
        vault.open_account_key(account, &vault.new_account_key(account).unwrap()).unwrap()
    }

    #[test]
    fn content_opens_only_for_its_account_and_id() {
        let (vault, account, id) = (vault(1), AccountId::generate(), Uuid::now_v7());
        let key = account_key(&vault, account);
        for content in [&b""[..], b"x", &[7; 100_000], &[7; MAX_KEPT_CONTENT + 1]] {
            let sealed = key.seal(id, content).unwrap();
            assert_eq!(key.open(id, &sealed.content_key, &sealed.bytes).unwrap(), content);
            assert_eq!(
                key.open(Uuid::now_v7(), &sealed.content_key, &sealed.bytes),
                Err(SealError::DoesNotOpen)
            );
            let other = account_key(&vault, AccountId::generate());
            assert_eq!(other.open(id, &sealed.content_key, &sealed.bytes), Err(SealError::DoesNotOpen));
        }
    }

    #[test]
    fn another_master_key_or_a_flipped_bit_does_not_open() {
        let (account, id) = (AccountId::generate(), Uuid::now_v7());
        let wrapped = vault(1).new_account_key(account).unwrap();
        assert!(matches!(vault(2).open_account_key(account, &wrapped), Err(SealError::DoesNotOpen)));
        assert_eq!(Vault::wrapped_by(&wrapped), Some(vault(1).master_id()));
        assert_ne!(vault(1).master_id(), vault(2).master_id());
        // As wrapped before the id was written behind it.
        let without_id = wrapped.get(..WRAPPED_LEN).unwrap();
        assert_eq!(Vault::wrapped_by(without_id), None);
        vault(1).open_account_key(account, without_id).unwrap();
        let key = vault(1).open_account_key(account, &wrapped).unwrap();
        let sealed = key.seal(id, b"a mail").unwrap();
        for position in 0..sealed.bytes.len() {
            let mut changed = sealed.bytes.clone();
            changed[position] ^= 1;
            assert!(key.open(id, &sealed.content_key, &changed).is_err(), "octet {position}");
        }
        assert!(key.open(id, &sealed.content_key, &[]).is_err());
    }
}
